"""The evaluation protocol: one episode in each environment, counted once, the same starts every time."""

import math

import numpy as np
import pytest
import torch
from toy_environments import FailingEnv, PointEnv, PointGoalEnv, ScriptedEnv

from rlsuite.scoring import Evaluation, evaluate

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
    # Student's t of two values: 2 +- 12.706 * sqrt(2) / sqrt(2).
    assert summary["interval"] == pytest.approx([2.0 - 12.7062, 2.0 + 12.7062], abs=1e-4)
    assert summary["interval_kind"] == "Student's t"


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


def test_failed_episodes_are_counted_apart_and_in_no_mean():
    result = evaluate(zero, FailingEnv(400), seed=0)
    assert 0.8 < result.failed / 400 < 0.95  # 1 - 0.9^20 = 0.88
    assert result.mean == -20.0
    assert result.mean_length == 20.0
    summary, scalars = result.summary(), result.scalars()
    assert (summary["mean"], summary["std"], summary["failed"]) == (-20.0, 0.0, result.failed)
    assert [summary["lengths"][place] for place in range(400) if place not in summary["failed_episodes"]] == [20] * (
        400 - result.failed
    )
    assert (scalars["mean"], scalars["length"], scalars["failed"]) == (-20.0, 20.0, result.failed)


def test_failed_episodes_by_hand():
    result = Evaluation(
        np.array([1.0, 2.0, 6.0]), np.array([4, 1, 8]), np.array([1.0, 0.0, 0.0]), np.array([0, 1, 0]) > 0
    )
    assert (result.mean, result.mean_length, result.success_rate, result.failed) == (3.5, 6.0, 0.5, 1)
    assert result.interval()[:2] == pytest.approx((3.5 - 12.7062 * 2.5, 3.5 + 12.7062 * 2.5), abs=1e-3)


def test_where_every_simulation_failed_nothing_is_averaged():
    result = Evaluation(np.array([1.0, 2.0]), np.array([4, 1]), np.array([1.0, 0.0]), np.array([True, True]))
    summary, scalars = result.summary(), result.scalars()
    assert (summary["mean"], summary["interval"], summary["success_rate"], summary["failed"]) == (
        None,
        [None] * 2,
        None,
        2,
    )
    assert all(math.isnan(scalars[name]) for name in ("mean", "std", "length", "success_rate"))
    assert scalars["failed"] == 2
    assert "low" not in scalars


def test_one_episode_has_no_interval():
    result = Evaluation(np.array([3.0]), np.array([1]))
    assert (result.summary()["mean"], result.summary()["interval"]) == (3.0, [None, None])
    assert set(result.scalars()) == {"mean", "std", "length"}


def test_small_returns_keep_their_digits_in_the_summary():
    assert Evaluation(np.array([1e-5, 123456.789]), np.array([1, 1])).summary()["returns"] == [1e-5, 123456.789]


def test_an_agent_is_told_which_environments_still_count():
    told = []
    env = ScriptedEnv([[0.0, 0.0]] * 3, [[F, F], [T, F], [F, T]], [[F, F]] * 3)
    evaluate(zero, env, seed=0, count_only=lambda rows: told.append(None if rows is None else rows.tolist()))
    assert told == [[T, T], [T, T], [F, T], None]


def test_success_is_of_whole_episodes():
    result = evaluate(lambda observation: torch.zeros(len(observation), 2), PointGoalEnv(5), seed=0)
    assert result.success_rate == result.successes.mean()
