"""Counting: density maps that sum to counts, the pyramid's loss by hand, and errors by cells."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from envs.perception.counting.density import density_map, neighbour_sigmas, resize_density
from envs.perception.counting.losses import CANDIDATES, Pooling, SearchedSPPLoss, SPPLoss, consistency_loss
from rlsuite.errors import UserError
from rlsuite.metrics.counting import count_errors, grid_errors


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 20), st.integers(1, 30), st.integers(1, 30), st.floats(0.05, 20.0), st.integers(0, 99))
def test_a_map_sums_to_the_count_wherever_objects_are(count, height, width, sigma, seed):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(count, 2, generator=generator) * 1.4 * torch.tensor([height, width]) - 3.0
    found = density_map(centres, (height, width), sigma)
    assert found.shape == (height, width)
    assert float(found.sum()) == pytest.approx(count, abs=1e-4)
    assert float(resize_density(found, (7, 5)).sum()) == pytest.approx(count, abs=1e-3)


def test_a_blob_by_hand_and_sigmas_of_neighbours():
    found = density_map(torch.tensor([[2.0, 3.0]]), (5, 7), 1.0).double()
    rows, columns = torch.arange(5).double() - 2, torch.arange(7).double() - 3
    wanted = torch.exp(-0.5 * (rows[:, None] ** 2 + columns[None] ** 2))
    torch.testing.assert_close(found, wanted / wanted.sum(), atol=1e-7, rtol=1e-5)
    centres = torch.tensor([[0.0, 0.0], [0.0, 3.0], [4.0, 0.0]])
    torch.testing.assert_close(neighbour_sigmas(centres), 0.3 * torch.tensor([3.5, 4.0, 4.5], dtype=torch.float64))
    assert neighbour_sigmas(centres[:1]).tolist() == [15.0]
    each = density_map(centres, (5, 7), torch.tensor([0.5, 1.0, 2.0]))
    apart = sum(density_map(centres[i : i + 1], (5, 7), s) for i, s in enumerate((0.5, 1.0, 2.0)))
    torch.testing.assert_close(each, apart)
    for wrong in ((centres, 0.0), (centres / 0.0, 1.0)):
        with pytest.raises(UserError):
            density_map(wrong[0], (5, 7), wrong[1])


def test_the_loss_by_hand():
    predicted, true = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    predicted[0, 0, 0, 0] = 1.0
    # Levels: 1 of 16, 1/4 of 4 entries, 1/16 of one.
    wanted = [1 / 16, (1 / 16) / 4, 1 / 256]
    assert SPPLoss(2).terms(predicted, true).tolist() == pytest.approx(wanted)
    sums = SPPLoss(2, (Pooling("sum"),), (1.0, 1 / 4, 1 / 16))
    assert sums.terms(predicted, true).tolist() == pytest.approx([1 / 16, 1 / 16, 1 / 16])
    assert float(SPPLoss(0)(predicted, true)) == pytest.approx(1 / 16)
    assert float(SPPLoss(3)(predicted, predicted)) == 0.0
    assert float(consistency_loss(predicted, true)) == pytest.approx(1 / 16 + (1 / 4) / 2 + 1 / 4)
    with pytest.raises(UserError):
        SPPLoss(2, (Pooling(),) * 3)
    with pytest.raises(UserError):
        SPPLoss(2, weights=(1.0,))


def test_sums_conserve_counts_only_where_window_is_stride():
    maps = torch.rand(2, 1, 8, 12)
    for level in SPPLoss(2, (Pooling("sum"),)).pyramid(maps):
        torch.testing.assert_close(level.sum((1, 2, 3)), maps.sum((1, 2, 3)))
    assert float(Pooling("sum", 4, 2)(maps).sum()) > 2.0 * float(maps.sum())
    odd = torch.rand(1, 1, 7, 5)
    assert Pooling("sum")(odd).shape == (1, 1, 4, 3)
    torch.testing.assert_close(Pooling("sum")(odd).sum(), odd.sum())


def test_coarse_levels_forgive_a_blob_that_is_one_pixel_off():
    one = density_map(torch.tensor([[8.5, 8.5]]), (32, 32), 0.7)[None, None]
    other = density_map(torch.tensor([[9.5, 8.5]]), (32, 32), 0.7)[None, None]
    loss = SPPLoss(3)
    off = loss.terms(one, other) / loss.terms(one, torch.zeros_like(one))
    assert off[0] > 0.5
    assert off[3] < 0.2 * off[0]


def test_gradients_and_each_levels_share():
    generator = torch.Generator().manual_seed(0)
    predicted = torch.rand(1, 1, 6, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    true = torch.rand(1, 1, 6, 6, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda maps: SPPLoss(2)(maps, true), (predicted,))
    shares = SPPLoss(3).gradient_shares(predicted, true)
    assert float(shares.sum()) == pytest.approx(1.0)
    assert shares.argmax() == 0  # means shrink, so the finest level rules
    lifted = SPPLoss(3, weights=(1.0, 4.0, 16.0, 64.0)).gradient_shares(predicted, true)
    assert lifted[0] < shares[0]


def test_searched_poolings_mix_and_then_choose():
    loss = SearchedSPPLoss(2)
    assert len(CANDIDATES) == 6
    maps, true = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    mean = torch.stack([pooling(maps) for pooling in CANDIDATES]).mean(0)
    torch.testing.assert_close(loss.pyramid(maps)[1], mean)
    loss(maps, true).backward()
    assert (loss.choices.grad != 0).any()
    with torch.no_grad():
        loss.choices[0, 3], loss.choices[1, 1] = 50.0, 50.0
    found = loss.found()
    assert found.poolings == (Pooling("largest", 2), Pooling("mean", 4))
    torch.testing.assert_close(found(maps, true), loss(maps, true))
    with pytest.raises(UserError, match="strides"):
        SearchedSPPLoss(1, (Pooling(stride=1), Pooling(stride=2)))
    torch.testing.assert_close(Pooling("largest", 2)(maps), functional.max_pool2d(maps, 2))


def test_errors_by_hand():
    errors = count_errors(torch.tensor([3.0, 5.0]), torch.tensor([4.0, 2.0]))
    assert errors.absolute == 2.0
    assert errors.root_mean_square == pytest.approx(5.0**0.5)
    predicted, true = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    predicted[0, 0, 0], true[0, 3, 3] = 1.0, 1.0
    assert grid_errors(predicted, true, 0).tolist() == [0.0]
    assert grid_errors(predicted, true, 1).tolist() == [2.0]
    off = torch.rand(3, 5, 7)
    torch.testing.assert_close(grid_errors(off, 0 * off, 1), off.double().sum((1, 2)))
    assert (grid_errors(off, off.flip(1), 1) <= grid_errors(off, off.flip(1), 2) + 1e-9).all()
