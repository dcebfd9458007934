"""The return scaler by hand."""

import math

import numpy as np
import pytest
import torch

from rlsuite.nn.reward_scaler import ReturnScaler


def test_running_returns_and_divisor_by_hand():
    scaler = ReturnScaler(2, 0.5, bound=10.0)
    keep, end = torch.tensor([False, False]), torch.tensor([True, False])
    scaler.update(torch.tensor([1.0, 3.0]), keep)  # G = 1, 3
    scaler.update(torch.tensor([1.0, -2.0]), end)  # G = 1.5, -0.5
    scaler.update(torch.tensor([4.0, 0.25]), keep)  # the first began anew: G = 4, 0
    returns = np.array([1.0, 3.0, 1.5, -0.5, 4.0, 0.0])
    assert float(scaler.mean) == pytest.approx(returns.mean())
    assert float(scaler.variance) == pytest.approx(returns.var())
    assert float(scaler.largest) == 4.0
    assert float(scaler(torch.tensor(2.0))) == pytest.approx(2.0 / returns.std(), rel=1e-6)


def test_the_largest_return_never_leaves_the_bound():
    scaler = ReturnScaler(1, 0.9, bound=5.0)
    generator = torch.Generator().manual_seed(0)
    for step in range(500):
        reward = torch.rand(1, generator=generator) * (100.0 if step == 250 else 1.0)
        scaler.update(reward, torch.tensor([step % 50 == 49]))
        assert float(scaler.running.abs().max() * scaler.scale) <= 5.0 + 1e-6
    assert float(scaler.largest * scaler.scale) == pytest.approx(5.0, rel=1e-5)  # one outlier decides here


def follow(scaler, rewards, cut):
    for step, reward in enumerate(rewards):
        last = step == len(rewards) - 1
        scaler.update(torch.tensor([reward]), torch.tensor([last]), torch.tensor([last and cut]))


def test_values_that_bootstrap_through_a_time_limit_stay_within_the_bound_by_hand():
    scaler = ReturnScaler(1, 0.99, 5.0, through_time_limits=True)
    for _ in range(3):
        follow(scaler, [1.0] * 50, cut=True)
    # Reward 1 for ever is worth 100, of which an episode shows 100 (1 - 0.99^50) = 39.5.
    assert float(scaler.largest) == pytest.approx(100.0)
    assert 5.0 / float(scaler.scale) == pytest.approx(100.0)
    plain = ReturnScaler(1, 0.99, 5.0)
    for _ in range(3):
        follow(plain, [1.0] * 50, cut=True)
    assert float(plain.largest) == pytest.approx(39.4994, abs=1e-4)


def test_only_what_a_time_limit_cut_is_widened_by_hand():
    scaler = ReturnScaler(1, 0.5, 1.0, through_time_limits=True)
    follow(scaler, [8.0, 0.0], cut=False)  # terminated, or its simulation failed: G = 8, 4
    assert float(scaler.largest) == 8.0
    follow(scaler, [7.0, 0.0], cut=True)  # 7 again every second step: 7 / (1 - 1/4)
    assert float(scaler.largest) == pytest.approx(28 / 3)
    scaler.update(torch.tensor([9.0]), torch.tensor([False]), torch.tensor([False]))
    scaler.interrupt()
    follow(scaler, [1.0], cut=True)  # neither the step nor the peak of before
    assert float(scaler.largest) == pytest.approx(28 / 3)


def test_rewards_that_are_all_zero_do_no_harm():
    scaler = ReturnScaler(3, 0.99, bound=5.0)
    for _ in range(5):
        scaler.update(torch.zeros(3), torch.zeros(3, dtype=torch.bool))
    assert math.isfinite(float(scaler.scale))
    assert scaler(torch.zeros(4)).eq(0).all()
