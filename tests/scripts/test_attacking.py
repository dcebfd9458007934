"""evaluate_agent.py evaluation=attacks/...: returns against eps with flags and a picture, and what is refused."""

import json

import pytest

from agents.subject import JudgeConfig
from rlsuite.cli import run_script
from scripts import attacking
from scripts.evaluate_agent import main
from scripts.train_agent import main as train

SMALL = ["env=InvertedPendulum", "preset=debug", "steps=300", "num_threads=1", "evaluate.every=0"]
SMALL += ["env.max_episode_steps=50"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "td3"
    assert train(["agent=td3", *SMALL, f"run_dir={folder}"]) == 0
    return folder


def attack(run, *arguments):
    return ["device=cpu", "num_threads=1", "episodes=2", f"run={run}", *arguments]


def test_a_curve_is_written_and_nothing_overwritten(run, capsys):
    arguments = attack(run, "evaluation=attacks/pgd", "pgd.steps=3", "eps=[0.5,5]")
    for place in range(2):
        assert main(arguments) == 0
        out = run / "evaluations" / ("pgd" if place == 0 else "pgd-2")
        report = json.loads((out / "report.json").read_text())
        last = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert last == report
        assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
        assert "no attack" in (out / "report.md").read_text()
    assert list(report["curve"]) == ["noise", "fgsm", "pgd"]
    assert [len(curve) for curve in report["curve"].values()] == [2, 2, 2]
    assert report["eps"] == [0.5, 5.0]
    assert report["objective"] == "value"
    names = [flag["name"] for flag in report["flags"]]
    assert names[0].startswith("black-box")
    assert "more steps do no less" in names
    assert "without bounds it always succeeds" in names
    assert len(report["rows"]["pgd 0.5"]["scores"]) == 2


REFUSED = {
    "evaluation=attacks/harmonic": "it changes the light in pictures; use attacks/pgd",
    "evaluation=attacks/pgdd": "did you mean 'attacks/pgd'",
    "evaluation=attacks/pgd eps=[0.2,0.1]": "use rising numbers above 0",
    "evaluation=attacks/pgd eps=[]": "use rising numbers above 0",
    "evaluation=attacks/pgd pgd.steps=0": "use 1 or more",
    "evaluation=attacks/pgd pgd.stepz=3": "did you mean",
    "evaluation=attacks/pgd fgsm.steps=3": "fgsm is not chosen",
    "evaluation=[attacks/pgd,attacks/pgd]": "named twice",
    "evaluation=attacks/pgd objective=q": "objective",
    "evaluation=attacks/pgd video=true": "unknown key 'video'",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_is_refused_in_one_line(run, arguments, capsys):
    assert run_script(main, attack(run, *arguments.split())) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert REFUSED[arguments] in said


def test_one_episode_of_a_task_with_goals_is_attacked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attacking, "JudgeConfig", lambda **keys: JudgeConfig(**keys, states=64))
    arguments = ["pretrained=FetchReach-sher", "evaluation=attacks/fgsm", "eps=[0.1]", "episodes=1", "num_threads=1"]
    assert main([*arguments, "device=cpu"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=pytest.fail)
    assert report["objective"] == "action"  # the file holds no critics to ask
    assert report["rows"]["no attack"]["interval"] == [None, None]
    assert list(report["curve"]) == ["noise", "fgsm"]
    assert next(tmp_path.rglob("curve.png")).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("method", ["attacks/fgsm", "quantization/pams", "pruning/l1", "search/atomnas"])
def test_choices_are_refused_in_one_line(choosing, method, capsys):
    assert run_script(main, [f"run={choosing}", f"evaluation={method}", "num_threads=1", "episodes=2"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "its actions are Discrete(2), no Box of vectors" in said


@pytest.fixture(scope="module")
def choosing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "dqn"
    task = ["env=gymnasium", "env.id=CartPole-v1", "preset=debug", "steps=100", "num_threads=1", "evaluate.every=0"]
    assert train(["agent=dqn", *task, f"run_dir={folder}"]) == 0
    return folder


def test_without_critics_their_values_cannot_be_lowered(tmp_path, capsys):
    folder = tmp_path / "ppo"
    assert train(["agent=ppo", *SMALL, f"run_dir={folder}"]) == 0
    assert run_script(main, attack(folder, "evaluation=attacks/fgsm", "objective=value")) == 2
    assert "there are no critics to ask; use objective=action" in capsys.readouterr().err
