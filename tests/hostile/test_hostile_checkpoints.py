"""Damaged and edited checkpoints: refused in one line that names an intact one, and nothing of the run is changed."""

import hashlib
import shutil
import stat

import pytest
from hostile_files import DAMAGES

from rlsuite.cli import run_script
from scripts import evaluate_agent, train_agent

TINY = ["agent=ddpg", "env=InvertedPendulum", "preset=debug", "num_threads=1", "steps=48", "learning_starts=16"]
TINY += ["checkpoint.every=24", "evaluate.every=0", "log.every=24"]
# What an evaluation, which reads the agent and nothing else, has to meet as well.
SEEN_BY_EVALUATION = (
    "manifest",
    "folder",
    "agent",
    "another",
    "step ",
    "files",
    "no files",
    "path",
    "config",
    "no config",
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run_script(train_agent.main, [*TINY, f"run_dir={folder}"]) == 0
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["24", "48", "latest"]
    return folder


def listing(folder):
    """What a folder holds: kinds, sizes and contents, links and pipes left alone."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
        found[path.relative_to(folder).as_posix()] = (status.st_mode, status.st_size, content)
    found.pop("run/.lock", None)  # who holds it, not what the run is
    return found


def test_there_are_enough_cases():
    assert len(DAMAGES) >= 44


@pytest.mark.parametrize("name", DAMAGES)
def test_refused_in_one_line_and_nothing_is_changed(name, run_dir, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    DAMAGES[name](folder / "checkpoints" / "48")
    before = listing(tmp_path)
    commands = [(train_agent.main, [f"resume={folder}", "steps=96"])]
    if name.startswith(SEEN_BY_EVALUATION):
        commands.append((evaluate_agent.main, [f"run={folder}", "episodes=1", "num_threads=1"]))
    for main, arguments in commands:
        capsys.readouterr()
        assert run_script(main, arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1, error
        intact = f"an intact checkpoint is {folder}/checkpoints/24"
        assert ("use the rlsuite that wrote it" if name == "another format" else intact) in error
        assert listing(tmp_path) == before


def test_the_intact_one_that_is_named_is_taken(run_dir, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run_dir, folder)
    DAMAGES["manifest lost"](folder / "checkpoints" / "48")
    assert run_script(train_agent.main, [f"resume={folder}/checkpoints/24"]) == 0
    assert run_script(evaluate_agent.main, [f"run={folder}", "episodes=1", "num_threads=1"]) == 0


@pytest.mark.parametrize(
    ("changed", "blamed"),
    [
        (["agent.actor.hidden_sizes=[9]", "steps=96", "log.every=7"], "agent.actor.hidden_sizes=[9] (it was [32, 32])"),
        (["num_envs=3", "steps=96", "agent.actor_learning_rate=0.5"], "num_envs=3 (it was 4)"),
        (["replay.capacity=400", "steps=96", "agent.batch_size=8"], "replay.capacity=400 (it was 5000)"),
    ],
)
def test_a_mismatch_is_blamed_on_the_keys_that_change_shapes(run_dir, changed, blamed, capsys):
    assert run_script(train_agent.main, [f"resume={run_dir}", *changed]) == 2
    error = capsys.readouterr().err
    assert f"does not fit this configuration: {blamed}; leave that out" in error
    assert error.count("\n") == 1
