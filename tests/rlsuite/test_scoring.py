"""The evaluation protocol: one episode in each environment, counted once, the same starts every time."""

import pytest
import torch
from toy_environments import PointEnv, ScriptedEnv

from rlsuite.scoring import evaluate

F, T = False, True


def zero(observation):
    return torch.zeros(len(observation), 1)


def test_each_environment_counts_one_episode():
    reward = [[1.0, 10.0, 5.0], [2.0, 20.0, 5.0], [4.0, 40.0, 5.0], [8.0, 80.0, 5.0]]
    terminated = [[F, F, F], [T, F, F], [T, F, F], [F, F, F]]
    truncated = [[F, F, T], [F, F, T], [F, F, F], [F, T, F]]
    env = ScriptedEnv(reward, terminated, truncated)
    result = evaluate(zero, env, seed=7)
    assert env.seed == 7
    assert env.steps == 4  # stops as soon as the longest episode ends
    assert result.returns.tolist() == [3.0, 150.0, 5.0]
    assert result.lengths.tolist() == [2, 4, 1]


def test_summary_by_hand():
    env = ScriptedEnv([[1.0, 3.0]], [[T, T]], [[F, F]])
    summary = evaluate(zero, env, seed=0).summary()
    assert summary["mean"] == 2.0
    assert summary["std"] == 1.0
    assert (summary["returns"], summary["lengths"]) == ([1.0, 3.0], [1, 1])
    low, high = summary["interval"]
    assert 1.0 <= low <= 2.0 <= high <= 3.0


def test_episodes_that_never_end_are_given_up():
    env = PointEnv(2, length=10**9)
    result = evaluate(zero, env, seed=0, max_steps=13)
    assert result.lengths.tolist() == [13, 13]
    assert env.steps == 13


def test_the_same_seed_gives_the_same_starts_and_no_gradient():
    weight = torch.nn.Parameter(torch.tensor(-1.0))
    made = [evaluate(lambda observation: observation[:, :1] * weight, PointEnv(8), seed=seed) for seed in (1, 1, 2)]
    assert made[0].returns.tolist() == made[1].returns.tolist() != made[2].returns.tolist()
    env = PointEnv(8)
    again = [evaluate(zero, env, seed=3).returns.tolist() for _ in range(2)]
    assert again[0] == again[1]


def test_frames_of_environment_zero_stop_with_its_episode():
    frames = []
    env = ScriptedEnv([[0.0, 0.0]] * 4, [[F, F], [F, F], [T, F], [F, T]], [[F, F]] * 4)
    evaluate(zero, env, seed=0, on_frame=frames.append)
    assert len(frames) == 3
    assert frames[0].shape == (2, 2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_returns_are_summed_in_double_precision(dtype):
    env = ScriptedEnv([[0.1]] * 3, [[F], [F], [T]], [[F]] * 3)
    env.script[0] = env.script[0].to(dtype)
    assert evaluate(zero, env, seed=0).returns.dtype.name == "float64"
