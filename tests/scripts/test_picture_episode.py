"""Pictures of an episode: those of its own moments, evenly apart, side by side."""

import json

import numpy as np
import pytest
from PIL import Image

from agents.assembly import make_evaluation_env
from agents.loading import PolicyConfig, load_policy
from rlsuite.cli import run_script
from rlsuite.running.seeding import JUDGED_ON, derive_seed
from scripts import picture_episode, train_agent

TINY = [
    "steps=16",
    "num_envs=2",
    "learning_starts=100",
    "num_threads=1",
    "evaluate.every=0",
    "env.max_episode_steps=12",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictured") / "run"
    arguments = ["agent=ddpg", "env=InvertedPendulum", "preset=debug", *TINY, f"run_dir={folder}"]
    assert run_script(train_agent.main, arguments) == 0
    return folder


def test_moments_evenly_apart_stand_side_by_side(run, tmp_path, capsys):
    output = tmp_path / "new" / "episode.png"
    arguments = [str(run), f"output={output}", "pictures=3", "panel=48", "num_threads=1"]
    assert run_script(picture_episode.main, arguments) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    apart = -(-found["length"] // 3)
    assert found["steps"] == list(range(0, found["length"], apart))
    row = np.asarray(Image.open(output))
    assert row.shape == (48, 48 * len(found["steps"]), 3)

    agent, config, _ = load_policy(PolicyConfig(run=(str(run),)))
    env = make_evaluation_env(config, 1, num_threads=1, render_mode="rgb_array", render_size=(48, 48))
    observation, _ = env.reset(seed=derive_seed(0, JUDGED_ON))
    for step in range(found["steps"][-1] + 1):
        if step in found["steps"]:
            place = 48 * found["steps"].index(step)
            assert np.array_equal(row[:, place : place + 48], env.render(0))
        observation, *_ = env.step(agent.act(observation, False))
    env.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run= is missing"),
        (["run=a"], "output= is missing"),
        (["run=a", "output=a.gif"], "ends with .jpg or .png"),
        (["run=a", "output=a.png", "pictures=0"], "pictures=0: use 1 to 100"),
        (["run=a", "output=a.png", "panel=1"], "panel=1: use 16 to 2048"),
    ],
)
def test_wrong_arguments_are_one_line(capsys, arguments, message):
    assert run_script(picture_episode.main, arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
