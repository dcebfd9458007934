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


def test_rewards_that_are_all_zero_do_no_harm():
    scaler = ReturnScaler(3, 0.99, bound=5.0)
    for _ in range(5):
        scaler.update(torch.zeros(3), torch.zeros(3, dtype=torch.bool))
    assert math.isfinite(float(scaler.scale))
    assert scaler(torch.zeros(4)).eq(0).all()
