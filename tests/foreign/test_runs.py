"""Whole runs on environments that break: what is recorded, saved and said, and that every printed command works."""

import json
import shlex

import av
import gymnasium
import numpy as np
import pytest
from odd_environments import Odd

from rlsuite.cli import run_script
from rlsuite.records.checkpoint import list_checkpoints
from scripts import evaluate_agent, replay_failure, train_agent

ID = "odd/Breaks-v0"
BREAKS_AFTER = 125  # steps of each of the four environments: 500 of the run
TRAIN = ["agent=ddpg", "env=gymnasium", f"env.id={ID}", "preset=debug", "steps=800", "num_threads=1", "device=cpu"]


def breaks(env, action, step):
    if env.total > BREAKS_AFTER:
        raise OSError("robot lost")
    return step


def sometimes_nan(env, action, step):
    return (np.array([np.nan, 1.0]), *step[1:]) if env.total == 30 else step


@pytest.fixture
def registered():
    """Return a function that registers the environment anew, as a user mends theirs."""

    def register(**options):
        gymnasium.registry.pop(ID, None)
        gymnasium.register(ID, entry_point=Odd, kwargs=options)

    yield register
    gymnasium.registry.pop(ID, None)


def command(text, script):
    """Return the arguments of the last command with a script that was printed, its lines joined again."""
    said = " ".join(text.split()).rpartition(f"python scripts/{script} ")[2]
    return shlex.split(said.replace(")", " "))[:1]


def test_a_step_that_raises_is_recorded_and_the_run_saved_and_continued(tmp_path, registered, capsys):
    registered(returns=breaks, rate=5)
    run = tmp_path / "a run"  # with a space: commands have to be quoted
    assert run_script(train_agent.main, [*TRAIN, "evaluate.every=0", f"run_dir={run}"]) == 2
    out, err = capsys.readouterr()
    error = err.strip().splitlines()[-1]
    assert f"gymnasium:{ID}: environment 0, step 0 of its episode: its step raised OSError: robot lost" in error
    assert "(saved at step 500; to continue: python scripts/train_agent.py resume=" in error
    assert "Traceback" not in err
    assert list_checkpoints(run)[-1].name == "500"
    # What the note says works: the record is read, its traceback shown.
    (record,) = (run / "failures").glob("*.json")
    assert record.name == "environment0-step500.json"
    assert "replay_failure.py" in out
    assert run_script(replay_failure.main, command(out, "replay_failure.py")) == 0
    shown = capsys.readouterr().out
    assert "robot lost" in shown
    assert "in breaks" in shown
    assert json.loads(shown.strip().splitlines()[-1])["substep"] is None
    # It breaks again at once, as long as nothing is mended, and then goes on.
    resume = command(error, "train_agent.py")
    registered(rate=5, returns=lambda env, action, step: (*step[:2], env.undefined, *step[3:]))
    assert run_script(train_agent.main, resume) == 2
    assert "AttributeError" in capsys.readouterr().err
    registered(rate=5)
    assert run_script(train_agent.main, resume) == 0
    out = capsys.readouterr().out
    assert "finished at step 800" in out
    film = tmp_path / "film.mp4"
    chosen = ["episodes=2", "num_threads=1", "device=cpu", "video=true", f"output={film}"]
    assert run_script(evaluate_agent.main, [*command(out, "evaluate_agent.py"), *chosen]) == 0
    with av.open(str(film)) as video:
        assert float(video.streams.video[0].average_rate) == 5.0


def test_what_breaks_in_evaluation_is_saved_too_and_what_breaks_at_once_is_one_line(tmp_path, registered, capsys):
    registered(returns=lambda env, action, step: (*step[:1], "much", *step[2:]) if env.total > 60 else step)
    run = tmp_path / "run"
    every = ["evaluate.every=200", "evaluate.episodes=1", "num_envs=8"]
    length = ["steps=1000", "env.length=61"]
    assert run_script(train_agent.main, [*TRAIN, *every, *length, f"run_dir={run}"]) == 2
    said = capsys.readouterr().err
    assert "its reward is str 'much'; use one number (saved at step 200; to continue:" in said
    assert (run / "failures" / "evaluation0-step200.json").exists()
    registered(returns=breaks, starts=lambda env, first: first[0])
    assert run_script(train_agent.main, [*TRAIN, f"run_dir={tmp_path / 'other'}"]) == 2
    said = capsys.readouterr().err
    assert "its reset returned an array of shape (2,)" in said
    assert "resume=" not in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("prioritized", ["true", "false"])
def test_where_all_is_not_finite_the_end_says_what_failed(prioritized, tmp_path, registered, capsys):
    registered(returns=lambda env, action, step: (*step[:1], np.nan, *step[2:]))
    length = ["steps=60", "learning_starts=40", "evaluate.every=0", f"replay.prioritized={prioritized}"]
    assert run_script(train_agent.main, [*TRAIN, *length, f"run_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    why = f"check the environment; the last failure: gymnasium:{ID}: observation or reward is not finite"
    assert error.endswith(why)


def test_a_value_that_is_not_finite_is_noted_with_a_command_that_works(tmp_path, registered, capsys):
    registered(returns=sometimes_nan)
    run = tmp_path / "run"
    assert run_script(train_agent.main, [*TRAIN, "steps=200", "evaluate.every=0", f"run_dir={run}"]) == 0
    out = capsys.readouterr().out
    assert sorted(path.stem for path in (run / "failures").glob("*.json")) == [
        f"environment{i}-step120" for i in range(4)
    ]
    assert run_script(replay_failure.main, command(out, "replay_failure.py")) == 0
    assert json.loads(capsys.readouterr().out.strip().splitlines()[-1])["after"] == ["next_observation"]
