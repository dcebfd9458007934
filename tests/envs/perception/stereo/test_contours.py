"""Contours: circles on a sphere, and where they end."""

import math

import pytest
import torch

from envs.perception.stereo.contours import trace_contours


def circles(size=41):
    """Return directions around a picture's middle (H, W, 2), signs at random, and confidences."""
    at = torch.arange(size) - size // 2
    x, y = at.view(1, -1).expand(size, size).float(), at.view(-1, 1).expand(size, size).float()
    radius = (x**2 + y**2).sqrt().clamp_min(1e-6)
    sign = torch.where(torch.rand(size, size, generator=torch.Generator().manual_seed(0)) < 0.5, -1.0, 1.0)
    return torch.stack([-y / radius * sign, x / radius * sign], dim=2), (radius > 2).float() * (radius < size // 2)


def test_a_contour_keeps_to_its_circle_until_it_is_closed():
    direction, sure = circles()
    places, along, valid = trace_contours(direction, sure, torch.tensor([[28.0, 20.0], [20.0, 5.0]]), longest=120.0)
    assert places.shape == (2, 481, 2)
    assert along[240] == 0.0
    assert along[0] == along[-1] == 120.0
    for row, radius in ((0, 8.0), (1, 15.0)):
        kept = places[row][valid[row]]
        away = (kept - 20.0).norm(dim=1)
        assert float((away - radius).abs().max()) < 0.25
        half = 2 * math.pi * radius / 0.5
        assert int(valid[row].sum()) == pytest.approx(2 * half, rel=0.06)  # once around, to both sides
        other = places[row, 240 + int(half / 4)]
        assert abs(float((other - places[row, 240]).norm()) - radius * 2**0.5) < 1.0  # a quarter on


def test_contours_end_at_masks_at_edges_and_where_they_start_outside():
    direction = torch.zeros(20, 30, 2)
    direction[..., 0] = 1.0
    direction[:, 20:] = torch.tensor([0.0, 1.0])  # a depth edge: contours turn by 90 degrees
    sure = torch.ones(20, 30)
    sure[:, :5] = 0.2
    places, _, valid = trace_contours(direction, sure, torch.tensor([[10.0, 10.0], [2.0, 10.0]]), longest=50.0)
    kept = places[0][valid[0]]
    assert float(kept[:, 0].min()) >= 4.5
    assert float(kept[:, 0].max()) <= 20.5
    assert not bool(valid[1].any())
