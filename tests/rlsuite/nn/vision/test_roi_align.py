"""RoIAlign by hand, against a plain twin, and its gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsuite.errors import UserError
from rlsuite.nn.vision.roi_align import roi_align, roi_align_each


def plain(channel, box, size, stride, samples):
    """One channel (H, W) and one box, sample by sample."""
    height, width = channel.shape
    left, top, right, bottom = (value / stride - 0.5 for value in box)
    found = torch.zeros(size, size, dtype=channel.dtype)
    for row in range(size * samples):
        for column in range(size * samples):
            y = top + (bottom - top) * (row + 0.5) / (size * samples)
            x = left + (right - left) * (column + 0.5) / (size * samples)
            if not (-1 <= y <= height and -1 <= x <= width):
                continue
            y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
            up, before = min(math.floor(y), height - 1), min(math.floor(x), width - 1)
            down, after = min(up + 1, height - 1), min(before + 1, width - 1)
            v, u = y - up, x - before
            value = (1 - v) * ((1 - u) * channel[up, before] + u * channel[up, after])
            value = value + v * ((1 - u) * channel[down, before] + u * channel[down, after])
            found[row // samples, column // samples] += value / samples**2
    return found


def test_a_box_of_whole_cells_gives_the_cells():
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    found = roi_align(maps, torch.tensor([[2.0, 2.0, 6.0, 6.0]]), torch.tensor([0]), size=2, stride=2.0, samples=1)
    assert found[0, 0].tolist() == [[5.0, 6.0], [9.0, 10.0]]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    stride=st.sampled_from([1.0, 4.0]),
    size=st.integers(1, 3),
    samples=st.integers(1, 2),
    corner=st.tuples(st.floats(-12, 30), st.floats(-12, 30)),
    sides=st.tuples(st.floats(0.5, 30), st.floats(0.5, 30)),
)
def test_it_is_the_plain_twin(seed, stride, size, samples, corner, sides):
    maps = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    box = (corner[0], corner[1], corner[0] + sides[0], corner[1] + sides[1])
    found = roi_align(maps, torch.tensor([box], dtype=torch.float64), torch.tensor([1]), size, stride, samples)
    expected = torch.stack([plain(channel, box, size, stride, samples) for channel in maps[1]])
    assert torch.allclose(found[0], expected, atol=1e-9)


def test_gradients_reach_maps_and_boxes():
    maps = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    boxes = torch.tensor([[1.3, 0.7, 4.2, 5.1]], dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([0])
    assert torch.autograd.gradcheck(lambda m, b: roi_align(m, b, rows, 2), (maps, boxes))


def test_it_refuses_what_is_not_positive():
    with pytest.raises(UserError, match="positive"):
        roi_align(torch.zeros(1, 1, 2, 2), torch.zeros(1, 4), torch.tensor([0]), size=0)


def test_as_many_boxes_in_each_picture_are_the_same_features(generator):
    maps = torch.randn(3, 4, 9, 7, generator=generator, dtype=torch.float64)
    corners = 30.0 * torch.rand(3, 5, 2, generator=generator, dtype=torch.float64) - 5.0
    boxes = torch.cat([corners, corners + 12.0], dim=-1)
    rows = torch.arange(3).repeat_interleave(5)
    found = roi_align(maps, boxes.flatten(0, 1), rows, 3, 4.0)
    assert torch.allclose(roi_align_each(maps, boxes, 3, 4.0), found.unflatten(0, (3, 5)))
