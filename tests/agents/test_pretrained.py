import numpy as np
import pytest
import torch

from agents import load as load_run
from agents import train
from agents.plain import Teacher
from agents.pretrained import store
from rlsuite.cli import run_script
from rlsuite.errors import UserError
from rlsuite.weights_file import read_about, write_weights
from scripts import evaluate_agent, export_agent

SMALL = {"preset": "debug", "num_threads": 1, "device": "cpu", "console": False}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Short runs of agents that act in different ways."""
    folder = tmp_path_factory.mktemp("runs")
    for agent, env in (("ace", "InvertedPendulum"), ("ppo", "InvertedPendulum"), ("sher", "FetchReach")):
        train(agent, env, run_dir=folder / agent, settings={"evaluate.every": 0}, steps=400, **SMALL)
    return folder


@pytest.mark.parametrize("agent", ["ace", "ppo", "sher"])
def test_what_is_kept_acts_as_the_agent_does(agent, runs, tmp_path):
    run = load_run(runs / agent, device="cpu")
    path = tmp_path / "agent.safetensors"
    kept = store.save(path, run.agent, run.config, steps=run.steps, about={"command": "typed"})
    env = run.make_env(5)
    observation, _ = env.reset(seed=1)
    env.close()
    halved = kept.about["halved"]
    for name in kept.about["tensors"]:
        own, theirs = run.agent.state_dict()[name], kept.agent.state_dict()[name]
        assert torch.equal(own.half().to(own.dtype) if name in halved else own, theirs), name
    difference = (kept.agent.act(observation, False) - run.agent.act(observation, False)).abs().max()
    assert difference < (1e-2 if halved else 1e-12)
    assert kept.about["command"] == "typed"
    assert Teacher(run.agent).has_values == (agent != "ppo")
    assert not Teacher(kept.agent).has_values  # its critics are not in the file: attacks must not ask them
    assert kept.about["seed"] == run.config.seed
    assert kept.about["returns"] == pytest.approx(list(store.score(kept).returns), rel=1e-12)
    assert len(kept.about["tensors"]) < len(run.agent.state_dict())
    if agent == "ace":  # two actors, of which the critics choose
        assert any(name.startswith("critics.") for name in kept.about["tensors"])


def test_files_are_read_as_hostile(runs, tmp_path):
    run = load_run(runs / "ace", device="cpu")
    path = tmp_path / "agent.safetensors"
    store.save(path, run.agent, run.config, steps=run.steps, about={})
    about = read_about(path)
    state = run.agent.state_dict()

    def refused(match, tensors=(), named=(), **changed):
        said = {**about, **changed, "tensors": [*about["tensors"], *named]}
        given = {name: state[name].half() if name in said["halved"] else state[name] for name in about["tensors"]}
        write_weights(tmp_path / "bad.safetensors", {**given, **dict(tensors)}, said, format=store.FORMAT)
        with pytest.raises(UserError, match=match):
            store.load(tmp_path / "bad.safetensors")

    env = {**about["config"]["env"]}
    refused("none of the suite's", config={**about["config"], "env": {**env, "adapter": "gymnasium", "id": "os:Task"}})
    refused("which its agent has not", tensors=[("more", torch.zeros(2))], named=["more"])
    refused("score is not finite", returns=[float("nan")])
    refused("is not finite", tensors=[("normalizer.center", torch.full_like(state["normalizer.center"], np.nan))])
    refused("none of the network's", tensors=[("more", torch.zeros(2))])
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="no trained agent can be read"):
        store.load(tmp_path / "cut.safetensors")


def test_commands(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_script(export_agent.main, [f"run={runs / 'ace'}", "output=mine.safetensors"]) == 0
    assert run_script(export_agent.main, [f"run={runs / 'ace'}", "output=mine.safetensors"]) == 2
    assert "overwrite=true" in capsys.readouterr().err
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    assert run_script(evaluate_agent.main, ["pretrained=list"]) == 0
    assert capsys.readouterr().out.startswith("mine")
    assert run_script(evaluate_agent.main, ["--help"]) == 0
    assert "\n  pretrained=mine " in capsys.readouterr().out
    assert run_script(evaluate_agent.main, ["pretrained=mine", "episodes=3", "video=true"]) == 0
    assert (tmp_path / "runs" / "pretrained" / "mine" / "videos").is_dir()
    assert run_script(evaluate_agent.main, ["pretrained=./mine.safetensors", "episodes=1"]) == 0
    assert load_run(pretrained=str(tmp_path / "mine.safetensors"), device="cpu").run_dir.name == "mine"
    capsys.readouterr()
    assert run_script(evaluate_agent.main, ["pretrained=none.safetensors"]) == 2
    assert "there is no such file; export_agent.py writes them" in capsys.readouterr().err
    for wrong in (["pretrained=min"], ["pretrained=mine", "run=x"], ["pretrained=mine", "num_actors=1"], []):
        assert run_script(evaluate_agent.main, wrong) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "did you mean 'mine'" in said[0]
    assert len(said) == 4


def test_a_task_names_its_agent_where_it_has_one(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    for name in ("Hopper-td3", "Hopper-ace", "Walker2d-td3"):
        (tmp_path / f"{name}.safetensors").touch()
    assert store.path_of("Walker2d") == store.path_of("Walker2d-td3") == tmp_path / "Walker2d-td3.safetensors"
    for name in ("Hopper", "zzz"):  # all are named, once
        with pytest.raises(UserError, match=rf"pretrained={name}: there is none[^:]*; there are Hopper-ace, Hopper-"):
            store.path_of(name)


@pytest.mark.parametrize("name", store.names())
def test_what_comes_along_earns_what_it_says(name):
    path = store.path_of(name)
    assert path.stat().st_size < 2_000_000
    kept = store.load(path)
    few = 9
    assert load_run(pretrained=name, device="cpu").steps == kept.about["steps"]
    # Rounding depends on how many act at once, and one in six of the runner's episodes ends in a fall: so the median.
    found = np.median(np.asarray(store.score(kept, episodes=few).returns))
    assert found == pytest.approx(np.median(kept.about["returns"][:few]), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", store.names())
def test_what_comes_along_earns_what_it_says_exactly(name):
    kept = store.load(store.path_of(name))
    assert list(store.score(kept).returns) == pytest.approx(kept.about["returns"], rel=1e-3)


def test_all_that_comes_along_is_small():
    assert sum(store.path_of(name).stat().st_size for name in store.names()) < 12_000_000
