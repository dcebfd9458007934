"""Frechet distances by hand and beside scipy's matrix root."""

import pytest
import torch

from rlsuite.metrics.frechet import frechet_distance


def test_by_hand_in_one_dimension():
    first, second = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [9.0]])  # means 1 and 7, variances 2 and 8
    assert float(frechet_distance(first, second)) == pytest.approx(36 + 2 + 8 - 2 * 4)


def test_equal_sets_are_at_no_distance_and_order_does_not_matter():
    stream = torch.Generator().manual_seed(0)
    first, second = torch.randn(50, 4, generator=stream), torch.randn(40, 4, generator=stream) * 2
    assert float(frechet_distance(first, first)) == pytest.approx(0.0, abs=1e-9)
    assert float(frechet_distance(first, second)) == pytest.approx(float(frechet_distance(second, first)))


def test_as_scipy_has_it():
    linalg = pytest.importorskip("scipy.linalg")
    stream = torch.Generator().manual_seed(1)
    mixed = torch.randn(5, 5, generator=stream, dtype=torch.float64)
    first = torch.randn(60, 5, generator=stream, dtype=torch.float64) @ mixed
    second = torch.randn(70, 5, generator=stream, dtype=torch.float64) + 1
    one, other = torch.cov(first.T), torch.cov(second.T)
    root = torch.from_numpy(linalg.sqrtm((one @ other).numpy()).real)
    moved = (first.mean(0) - second.mean(0)).square().sum()
    expected = moved + torch.trace(one + other - 2 * root)
    assert float(frechet_distance(first, second)) == pytest.approx(float(expected), rel=1e-9)


def test_features_that_do_not_match():
    with pytest.raises(ValueError, match=r"use \(M, F\)"):
        frechet_distance(torch.zeros(3, 2), torch.zeros(3, 4))
