"""Scale Match: histograms by hand, drawn sizes follow the target, monotone ones keep their order."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.perception.detection.scale_match import (
    MonotoneScaleMatch,
    ScaleMatch,
    ScaleMatchConfig,
    ScaleMatched,
    histogram,
    resize,
)
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError


def test_tails_have_bins_of_their_own():
    shares, edges = histogram(torch.tensor([*range(1, 100), 1000]).double(), 10)
    assert shares[0] == shares[-1] == pytest.approx(0.1)
    assert shares.sum() == pytest.approx(1.0)
    assert (edges[0], edges[1], edges[-2], edges[-1]) == (1, 11, 90, 1000)


def test_drawn_sizes_follow_the_target(generator):
    target = 3.0 + 17.0 * torch.rand(2000, generator=generator) ** 2
    match = ScaleMatch(target)
    draws = torch.rand(4000, 2, generator=generator).numpy()
    sizes = np.array([match.size(40.0, pair) for pair in draws])
    for share in (0.1, 0.5, 0.9):
        assert np.quantile(sizes, share) == pytest.approx(float(target.quantile(share)), rel=0.08)


def test_a_scale_is_tried_then_cut():
    config = ScaleMatchConfig(bins=3, smallest=0.4, largest=0.6)
    match = ScaleMatch(torch.tensor([2.0, 4.0, 6.0, 8.0, 12.0, 16.0]), config)
    of = torch.tensor([10.0, 40.0])  # their geometric mean is 20
    draws = torch.tensor([[0.0, 0.0], [0.999, 0.25], [0.999, 0.999], [0.0, 0.0], [0.0, 0.0]])
    # The first draw is 2 of 20, too small; the second lies a quarter within the last bin, [8, 16]: 10 of 20.
    assert match.scale(of, draws) == pytest.approx(0.5)
    assert match.scale(of, draws[[0]]) == pytest.approx(0.4)
    assert match.scale(torch.zeros(0), draws) == 0.25


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_monotone_sizes_keep_their_order_and_fill_the_target(seed):
    generator = torch.Generator().manual_seed(seed)
    source = 10.0 + 50.0 * torch.rand(300, generator=generator)
    target = 3.0 + 17.0 * torch.rand(400, generator=generator) ** 2
    match = MonotoneScaleMatch(source, target)
    ordered = source.sort().values
    sizes = [match.size(float(one), np.zeros(2)) for one in ordered]
    assert all(one <= other + 1e-6 for one, other in zip(sizes, sizes[1:], strict=False))
    assert sizes[0] >= float(target.min()) - 1e-4
    assert sizes[-1] == pytest.approx(float(target.max()), rel=1e-4)
    assert np.median(sizes) == pytest.approx(float(target.median()), rel=0.15)


def test_pictures_are_resized_with_their_boxes():
    source = Arrays(
        {
            "picture": torch.full((2, 3, 20, 40), 50, dtype=torch.uint8),
            "boxes": torch.tensor([[[0.0, 0.0, 8.0, 8.0], [10.0, 10.0, 12.0, 12.0]], [[0.0] * 4, [0.0] * 4]]),
            "classes": torch.tensor([[1, 0], [-1, -1]]),
            "ignored": torch.tensor([[False, True], [False, False]]),
        }
    )
    match = MonotoneScaleMatch(torch.tensor([8.0, 8.0]), torch.tensor([4.0, 4.0001, 4.0001]), ScaleMatchConfig(bins=3))
    found = ScaleMatched(source, match, seed=0).examples(torch.tensor([0, 1]))
    assert found["picture"].shape == (2, 3, 10, 20)  # the second, without objects, is a quarter: 5 x 10
    assert found["boxes"][0, 0].tolist() == pytest.approx([0, 0, 4, 4], abs=1e-3)
    assert found["classes"].tolist() == [[1, -1], [-1, -1]]  # the small one is gone
    assert not found["ignored"].any()
    assert (found["picture"][0] == 50).all()
    assert (found["picture"][1, :, :5, :10] == 50).all()
    assert not found["picture"][1, :, 5:].any()
    again = ScaleMatched(source, match, seed=0).examples(torch.tensor([1]))
    assert torch.equal(again["picture"][0], found["picture"][1, :, :5, :10])


def test_resizing_by_one_changes_nothing(generator):
    picture = torch.randint(0, 256, (3, 9, 7), generator=generator).to(torch.uint8)
    assert torch.equal(resize(picture, 1.0), picture)


def test_what_is_refused():
    with pytest.raises(UserError, match="two or more"):
        ScaleMatch(torch.tensor([3.0, 3.0]))
    with pytest.raises(UserError, match="bins=2"):
        ScaleMatchConfig(bins=2)
