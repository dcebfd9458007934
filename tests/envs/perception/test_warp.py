"""Warping against a plain twin, and what flow means."""

import math

import pytest
import torch
from torch.nn import functional

from envs.perception.warp import resized_flow, warp


def plain(picture, flow):
    """One picture (C, H, W), pixel by pixel."""
    channels, height, width = picture.shape
    found = torch.empty_like(picture)
    for row in range(height):
        for column in range(width):
            across = min(max(column + float(flow[0, row, column]), 0.0), width - 1.0)
            down = min(max(row + float(flow[1, row, column]), 0.0), height - 1.0)
            left, top = math.floor(across), math.floor(down)
            right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
            a, b = across - left, down - top
            for channel in range(channels):
                one = picture[channel]
                found[channel, row, column] = (1 - b) * ((1 - a) * one[top, left] + a * one[top, right]) + b * (
                    (1 - a) * one[bottom, left] + a * one[bottom, right]
                )
    return found


@pytest.mark.parametrize("size", [(5, 7), (1, 4), (6, 1)])
def test_warping_is_bilinear_and_stops_at_the_border(size, generator):
    pictures = torch.rand(2, 3, *size, generator=generator)
    flow = 4.0 * torch.randn(2, 2, *size, generator=generator)
    expected = torch.stack([plain(*pair) for pair in zip(pictures, flow, strict=True)])
    torch.testing.assert_close(warp(pictures, flow), expected, atol=1e-5, rtol=1e-5)


def test_no_flow_changes_nothing_and_a_shift_is_undone(generator):
    pictures = torch.rand(1, 3, 9, 11, generator=generator)
    torch.testing.assert_close(warp(pictures, torch.zeros(1, 2, 9, 11)), pictures)
    shifted = torch.roll(pictures, shifts=3, dims=3)  # what was at x is at x + 3
    flow = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 9, 11)
    torch.testing.assert_close(warp(shifted, flow)[..., :-3], pictures[..., :-3])


def test_places_are_exact_in_half_precision():
    ramp = torch.arange(3000.0).view(1, 1, 1, 3000) / 3000
    shifted = warp(ramp.half(), torch.zeros(1, 2, 1, 3000))
    assert torch.equal(shifted, ramp.half())


def test_flow_is_in_the_pixels_of_the_picture_it_is_of():
    flow = torch.full((1, 4, 8, 8), 2.0)
    assert torch.equal(resized_flow(flow, 0.5), torch.full((1, 4, 4, 4), 1.0))
    assert torch.equal(resized_flow(flow, 2.0), torch.full((1, 4, 16, 16), 4.0))
    assert resized_flow(flow, 1.0) is not None
    wave = torch.rand(1, 2, 6, 6)
    expected = functional.interpolate(wave, size=(3, 3), mode="bilinear", align_corners=False) / 2
    torch.testing.assert_close(resized_flow(wave, 0.5), expected)
