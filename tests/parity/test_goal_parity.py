"""The goal tasks against Gymnasium-Robotics': recorded steps to 1e-8, rewards, starts and goals in distribution.

All of it is recorded (fixtures/, by record_goal_fixtures.py), so that no reference is needed.
"""

from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from robotics_reference import REFERENCE_IDS

import envs
from envs.catalogue import build
from envs.goals import rotations
from envs.mujoco_vector import MujocoVectorEnv

FIXTURES = Path(__file__).parent / "fixtures"
RECORDED, STARTS = (np.load(FIXTURES / f"{name}.npz") for name in ("goal_tasks", "goal_starts"))
TASKS = list(REFERENCE_IDS)
# Another engine version may round otherwise within a step.
TOLERANCE = 1e-8 if str(RECORDED["mujoco"]) == mujoco.__version__ else 1e-4


def recorded(name, key):
    return torch.from_numpy(RECORDED[f"{name}/{key}"])


def make(name, num_envs, **options):
    task = build(name, **options)
    return MujocoVectorEnv(task, num_envs, num_threads=1, max_episode_steps=None, dtype=torch.float64)


@pytest.mark.parametrize("reward_type", ["sparse", "dense"])
@pytest.mark.parametrize("name", TASKS)
def test_recorded_steps(name, reward_type):
    env = make(name, len(recorded(name, "row")), reward_type=reward_type)
    env.reset(seed=0)
    torch.testing.assert_close(env.simulation.facts.initial_qpos, recorded(name, "initial_qpos"), rtol=0, atol=1e-12)
    env.simulation.rows.copy_(recorded(name, "row"))
    for memory, values in env.simulation.memory.items():
        values.copy_(recorded(name, memory))
    step = env.advance(recorded(name, "action"))
    torch.testing.assert_close(step.observation, recorded(name, "flat"), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(step.reward, recorded(name, reward_type).double(), rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(step.info["is_success"], recorded(name, "success").double(), rtol=0, atol=0)
    assert step.info["is_success"].sum() == len(step.reward) // 2  # every other goal is reached


def test_every_goal_task_is_recorded():
    goal_tasks = [name for name in envs.task_names() if name.startswith(("Fetch", "Hand"))]
    assert {name.removesuffix("Dense") for name in goal_tasks} == set(TASKS)
    assert set(goal_tasks) == set(TASKS) | {f"{name}Dense" for name in TASKS}


@pytest.mark.parametrize("name", TASKS)
def test_rewards_of_any_pair(name):
    """Batches of goals at once, successes among them, judged as the reference judges them one by one."""
    desired = recorded(name, "pair_desired")
    achieved = recorded(name, "flat")[:, -desired.shape[-1] :].expand_as(desired)
    for reward_type in ("sparse", "dense"):
        found = build(name, reward_type=reward_type).compute_reward(achieved, desired)
        torch.testing.assert_close(found, recorded(name, f"pair_{reward_type}").double(), rtol=0, atol=1e-7)
    success = build(name).is_success(achieved, desired)
    torch.testing.assert_close(success.double(), recorded(name, "pair_success").double())
    assert success[0].all()  # the near goals
    assert not success.all()


def largest_difference(first, second):
    """Return the largest difference of two samples' distribution functions."""
    points = np.concatenate([first, second])
    below = [np.searchsorted(np.sort(sample), points, side="right") / len(sample) for sample in (first, second)]
    return np.abs(below[0] - below[1]).max()


@pytest.mark.parametrize("name", TASKS)
def test_starts_and_goals_are_distributed_as_the_references(name):
    count = 150
    # Recorded in single precision: rounded alike, what is always the same stays a tie.
    theirs, ours = (rows.round(5) for rows in (STARTS[name], make(name, count).reset(seed=1)[0].float().numpy()))
    # Kolmogorov and Smirnov's bound at 1e-5: over a thousand columns in all, one false alarm in a hundred runs.
    limit = np.sqrt(-np.log(1e-5 / 2) / 2) * np.sqrt(1 / count + 1 / len(theirs))
    compared = 0
    for column in range(ours.shape[1]):
        if max(theirs[:, column].std(), ours[:, column].std()) < 1e-6:
            np.testing.assert_allclose(ours[:, column].mean(), theirs[:, column].mean(), atol=1e-5)
            continue
        compared += 1
        assert largest_difference(theirs[:, column], ours[:, column]) < limit, column
    assert compared >= 3


def test_rotations_are_the_references():
    pytest.importorskip("gymnasium_robotics")
    from gymnasium_robotics.utils import rotations as reference

    generator = np.random.default_rng(0)
    quaternions = generator.normal(size=(200, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    first, second = torch.from_numpy(quaternions[:100]), torch.from_numpy(quaternions[100:])
    same = lambda ours, theirs: np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-12)  # noqa: E731
    same(rotations.multiply(first, second), reference.quat_mul(first.numpy(), second.numpy()))
    same(rotations.conjugate(first), reference.quat_conjugate(first.numpy()))
    same(rotations.to_matrix(first), reference.quat2mat(first.numpy()))
    same(rotations.to_euler(first), reference.quat2euler(first.numpy()))
    same(rotations.from_euler(first[:, :3]), reference.euler2quat(first[:, :3].numpy()))
    theirs = np.array([reference.euler2quat(angles) for angles in reference.get_parallel_rotations()])
    overlap = np.abs(rotations.parallel_quaternions().numpy() @ theirs.T)  # 1 where they are the same rotation
    assert overlap.shape == (24, 24)
    np.testing.assert_allclose(np.sort(overlap.max(axis=0)), np.ones(24), atol=1e-12)
    np.testing.assert_allclose(np.sort(overlap.max(axis=1)), np.ones(24), atol=1e-12)
