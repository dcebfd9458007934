"""Hostile run directories: nothing that a file names is imported, no link is followed out, nothing waits for ever."""

import json
import os
import shutil

import pytest
import torch
import yaml
from hostile_files import edit
from safetensors.torch import save_file

from rlsuite.cli import run_script
from rlsuite.statistics.runs import read_run, to_columns
from scripts import evaluate_agent, export_policy, plot_curves, replay_failure, train_agent

TINY = ["agent=ddpg", "preset=debug", "num_threads=1", "steps=48", "learning_starts=16", "evaluate.episodes=1"]
TINY += ["checkpoint.every=24", "evaluate.every=24", "log.every=24"]
EVALUATE = ["episodes=1", "num_threads=1"]
PACKAGE = """
import gymnasium, pathlib
pathlib.Path(__file__).with_name("imported").touch()
gymnasium.register("Task-v0", entry_point="gymnasium.envs.classic_control.pendulum:PendulumEnv", max_episode_steps=9)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run_script(train_agent.main, [*TINY, "env=InvertedPendulum", f"run_dir={folder}"]) == 0
    return folder


@pytest.fixture
def run_dir(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def refused(capsys, main, *arguments):
    capsys.readouterr()
    assert run_script(main, [str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    return error


# -- imports ------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that leaves a mark when it is imported, and the mark."""
    name = f"hostile_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name, tmp_path / "imported"


@pytest.mark.parametrize("form", ["id", "whole id"])
def test_a_module_that_a_run_directory_names_is_not_imported(form, run_dir, package, capsys):
    name, mark = package
    env = {"adapter": "gymnasium", "id": f"{name}:Task-v0", "options": {}}
    if form == "whole id":
        env |= {"adapter": "", "id": f"gymnasium:{name}:Task-v0"}
    config = yaml.safe_load((run_dir / "config.yaml").read_text()) | {"env": env}
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))
    edit(run_dir / "checkpoints" / "48", lambda manifest: manifest["metadata"]["config"].update(env=env))
    record = run_dir / "failures" / "update-48"
    record.parent.mkdir()
    record.with_suffix(".json").write_text(json.dumps({"kind": "update", "config": config}))
    save_file({"batch.x": torch.zeros(1)}, record.with_suffix(".safetensors"))
    for main, arguments in (
        (train_agent.main, [f"resume={run_dir}"]),
        (evaluate_agent.main, [f"run={run_dir}", *EVALUATE]),
        (export_policy.main, [f"run={run_dir}"]),
        (replay_failure.main, [record]),
        (evaluate_agent.main, [f"run={run_dir}", f"imports={name}.other", *EVALUATE]),
    ):
        assert f"add imports={name}" in refused(capsys, main, *arguments)
        assert not mark.exists()


def test_the_command_line_names_it_and_printed_commands_do(tmp_path, package, capsys):
    name, mark = package
    folder = tmp_path / "new"
    new = [*TINY, "env=gymnasium", f"env.id={name}:Task-v0", f"run_dir={folder}"]
    assert run_script(train_agent.main, new) == 0
    assert mark.exists()
    assert f"next:\n  python scripts/evaluate_agent.py {folder} imports={name}\n" in capsys.readouterr().out
    mark.unlink()
    assert run_script(evaluate_agent.main, [f"run={folder}", f"imports=another,{name}", *EVALUATE]) == 0
    assert run_script(train_agent.main, [f"resume={folder}", "steps=96", f"imports={name}"]) == 0
    assert f"imports={name}" not in (folder / "config.yaml").read_text()
    assert f"add imports={name}" in refused(capsys, train_agent.main, f"resume={folder}", "steps=99")


# -- config.yaml --------------------------------------------------------------------------------------------

TENFOLD = zip("abcdefgh", "bcdefghi", strict=True)
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(f'*{old}' for _ in range(9))}]\n" for old, new in TENFOLD
)
CONFIGS = {
    "alias bomb": BOMB + "agent: *i\nenv: *i\n",
    "alias of itself": "agent: &a {name: *a}\nenv: *a\n",
    "merge": "x: &x {name: ddpg}\nagent: {<<: *x}\nenv: {id: x}\n",
    "python object": "agent: !!python/object/apply:os.system ['touch marker']\nenv: {}\n",
    "python name": "agent: !!python/name:os.system\nenv: {}\n",
    "python module": "agent: !!python/module:antigravity\nenv: {}\n",
    "other tag": "agent: !evil {name: ddpg}\nenv: {}\n",
    "deep": "agent: " + "[" * 50_000 + "\nenv: {}\n",
    "deep block": "".join(f"{' ' * depth}a:\n" for depth in range(500)),
    "long": "agent: " + "x" * 300_000 + "\nenv: {}\n",
    "binary": "agent: \x00\x01\nenv: {}\n",
    "bytes": "agent: {name: !!binary aGVsbG8=}\nenv: {}\n",
    "date": "agent: {name: 2020-01-01}\nenv: {}\n",
    "set": "agent: !!set {a, b}\nenv: {}\n",
    "number as a key": "agent: {1: 2}\nenv: {}\n",
    "long number": f"agent: {{name: {'9' * 5000}}}\nenv: {{}}\n",
    "two documents": "agent: {}\n---\nenv: {}\n",
    "list": "[1, 2]",
    "empty": "",
    "agent a word": "agent: ddpg\nenv: {id: Hopper}\n",
    "agent a number": "agent: 5\nenv: {id: Hopper}\n",
    "env a list": "agent: {name: ddpg, target: agents.ddpg.DDPG}\nenv: [1]\n",
    "control characters": 'agent: {name: "\\e[31m\\a", target: "x\\ny"}\nenv: {id: Hopper}\n',
    "task above": "agent: {name: ddpg, target: agents.ddpg.DDPG}\nenv: {id: ../../Hopper}\n",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_is_none_is_refused_in_one_line(name, run_dir, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (run_dir / "config.yaml").write_text(CONFIGS[name])
    before = sorted(path.name for path in tmp_path.rglob("*"))
    error = refused(capsys, train_agent.main, f"resume={run_dir}")
    assert len(error) < 1500
    assert "\x1b" not in error
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["alias bomb", "python object", "deep", "long", "list", "binary", "empty"])
def test_plots_read_configs_in_the_same_way(name, run_dir, capsys, tmp_path):
    (run_dir / "config.yaml").write_text(CONFIGS[name])
    refused(capsys, plot_curves.main, f"runs={run_dir}", f"output={tmp_path}/curves.png")


# -- links, pipes, devices ----------------------------------------------------------------------------------

LINKED_FILES = (".lock", "config.yaml", ".tmp-config.yaml", "config.yaml.tmp", "metrics.jsonl", ".tmp-metrics.jsonl")
LINKED_FILES += ("metrics.jsonl.tmp", "metrics.jsonl.abandoned", "checkpoints/latest", "checkpoints/.tmp-latest")
LINKED_FOLDERS = ("checkpoints", "checkpoints/48", "checkpoints/.tmp-96", "tensorboard")


@pytest.mark.parametrize("name", LINKED_FILES + LINKED_FOLDERS)
def test_nothing_is_written_through_a_link_out_of_the_run_directory(name, run_dir, tmp_path, capsys):
    place, outside = run_dir / name, tmp_path / "outside"
    if place.exists():
        shutil.move(place, outside)
    elif name in LINKED_FOLDERS:
        outside.mkdir()
    else:
        outside.write_text("mine\n")
    place.symlink_to(outside)
    before = {path: path.read_bytes() for path in (outside, *outside.rglob("*")) if path.is_file()}
    files = sorted(outside.rglob("*"))
    with open(run_dir / "metrics.jsonl", "r+" if (run_dir / "metrics.jsonl").exists() else "w") as log:
        if name != "metrics.jsonl":  # something that is dropped on resuming
            log.seek(0, os.SEEK_END)
            log.write('{"step": 90, "time_s": 1.0, "kind": "train"}\n')
    capsys.readouterr()
    status = run_script(train_agent.main, [f"resume={run_dir}", "steps=96"])
    error = capsys.readouterr().err
    assert status in (0, 2)
    assert error.count("\n") == (1 if status else 0), error
    assert sorted(outside.rglob("*")) == files
    assert {path: path.read_bytes() for path in before} == before


def test_nor_are_records_of_failures_and_videos(run_dir, tmp_path, capsys):
    from envs.failures import Failure, save_failure
    from rlsuite.errors import UserError

    (tmp_path / "outside").mkdir()
    for name in ("failures", "videos"):
        (run_dir / name).symlink_to(tmp_path / "outside")
    failure = Failure(0, 0, 0, 0, torch.zeros(1), torch.zeros(1), "", "Hopper", {})
    with pytest.raises(UserError, match="is a link out of"):
        save_failure(failure, run_dir / "failures" / "environment0-step1")
    assert "is a link out of" in refused(capsys, evaluate_agent.main, f"run={run_dir}", "video=true", *EVALUATE)
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("name", [".lock", "config.yaml", "metrics.jsonl"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(name, run_dir, capsys, tmp_path):
    (run_dir / name).unlink()
    os.mkfifo(run_dir / name)
    refused(capsys, train_agent.main, f"resume={run_dir}", "steps=96")
    if name != ".lock":
        refused(capsys, plot_curves.main, f"runs={run_dir}", f"output={tmp_path}/curves.png")


# -- what plots read ----------------------------------------------------------------------------------------

TORN = {
    "cut off": '{"step": 99, "time_s": 1.0, "ki',
    "two in one": '{"step": 99, "ti{"step": 96, "kind": "evaluate"}',
    "zeros": "\0" * 300,
    "no object": "7",
    "no kind": '{"step": 99}',
    "words": '{"step": "x", "kind": "evaluate", "mean": 1.0, "time_s": 1.0, "train_s": 1.0}',
    "mean a list": '{"step": 99, "kind": "evaluate", "mean": [1], "time_s": 1.0, "train_s": 1.0}',
    "mean infinite": '{"step": 99, "kind": "evaluate", "mean": Infinity, "time_s": 1.0, "train_s": 1.0}',
    "mean huge": f'{{"step": 99, "kind": "evaluate", "mean": {"9" * 400}, "time_s": 1.0, "train_s": 1.0}}',
    "no time": '{"step": 99, "kind": "evaluate", "mean": 1.0}',
    "deep": "[" * 100_000,
    "bytes": "\udcff\udcfe",
}


@pytest.mark.parametrize("name", TORN)
def test_a_torn_line_anywhere_never_refuses_a_plot(name, run_dir, tmp_path):
    log = run_dir / "metrics.jsonl"
    plain = log.read_text()
    read = []
    for content in (plain, TORN[name] + "\n" + plain, plain + TORN[name], plain.replace("\n", f"\n{TORN[name]}\n", 1)):
        log.write_bytes(content.encode(errors="surrogateescape"))
        read.append(to_columns(read_run(run_dir)))
    assert all(columns == read[0] for columns in read)
    if name == "two in one":  # the way of all of them
        assert run_script(plot_curves.main, [f"runs={run_dir}", f"output={tmp_path}/curves.png"]) == 0


@pytest.mark.parametrize(
    "label", ["$\\frac{1$", "$x$", "_hidden", "\x1b[31mred", "two\nlines", "[/bold]", "\udcff", "a" * 300]
)
def test_names_of_any_letters_are_drawn(label, tmp_path, capsys):
    runs = [
        {"run": label, "label": label, "env": label, "seed": seed, "with_evaluation": False}
        | {"step": [1, 2], "mean": [0.0, 1.0], "seconds": [1.0, 2.0]}
        for seed in range(2)
    ]
    (tmp_path / "data.json").write_text(json.dumps(runs))
    assert run_script(plot_curves.main, [f"runs={tmp_path}/data.json", f"output={tmp_path}/curves.png"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    assert (tmp_path / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize("key", ["run", "label", "env", "step", "mean", "seed"])
@pytest.mark.parametrize("value", [None, 5, [[1]], {"a": 1}, ["x"]], ids=str)
def test_a_data_file_with_other_kinds_is_refused_in_one_line(key, value, tmp_path, capsys):
    run = {"run": "a", "label": "a", "env": "a", "seed": 0, "with_evaluation": False}
    run |= {"step": [1, 2], "mean": [0.0, 1.0], "seconds": [1.0, 2.0], key: value}
    (tmp_path / "data.json").write_text(json.dumps([run]))
    capsys.readouterr()
    status = run_script(plot_curves.main, [f"runs={tmp_path}/data.json", f"output={tmp_path}/curves.png"])
    assert status == 2 or key == "seed"
    assert capsys.readouterr().err.count("\n") == (1 if status else 0)
