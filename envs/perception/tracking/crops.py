"""The square around an object that a tracker looks at, and the first one seen in other ways.

Constants are ATOM's (Danelljan et al. 2019, arXiv:1811.07628; its published parameters), the family that Cascaded
Regression Tracking (arXiv:2006.10336) belongs to.

Shapes: B frames, H and W their sides, S side of a crop in its own pixels, V views, n boxes (x1, y1, x2, y2).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.data.counters import uniform_float32

ROTATIONS = (5.0, -5.0, 10.0, -10.0, 20.0, -20.0, 30.0, -30.0, 45.0, -45.0, -60.0, 60.0)  # degrees
SHIFTS = ((0.6, 0.6), (-0.6, 0.6), (0.6, -0.6), (-0.6, -0.6))  # in halves of the crop
BLURS = ((2.0, 0.2), (0.2, 2.0), (3.0, 1.0), (1.0, 3.0), (2.0, 2.0))  # deviations along y and x, of 288 pixels a side
RANDOM_SHIFT = 1.0 / 3.0  # of the crop, over which shifts of turned, flipped and blurred views are spread
VIEWS = 2 + len(ROTATIONS) + len(SHIFTS) + len(BLURS)


class Place(NamedTuple):
    """Where crops lie in their frames, in pixels.

    Attributes:
        centre: (B, 2), x and y.
        side: (B,).
    """

    centre: Tensor
    side: Tensor

    def to_crop(self, boxes: Tensor, size: int) -> Tensor:
        """Return boxes (B, n, 4) of the frame in pixels of a crop of S = size."""
        corners = boxes.unflatten(-1, (2, 2)) - self.centre[:, None, None]
        return (corners * (size / self.side)[:, None, None, None] + 0.5 * size).flatten(-2)

    def to_frame(self, boxes: Tensor, size: int) -> Tensor:
        """Return boxes (B, n, 4) of the crop in pixels of the frame."""
        corners = (boxes.unflatten(-1, (2, 2)) - 0.5 * size) * (self.side / size)[:, None, None, None]
        return (corners + self.centre[:, None, None]).flatten(-2)


def around(boxes: Tensor, search: float) -> Place:
    """Return squares around boxes (B, 4) whose sides are `search` times the roots of their areas."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp_min(1.0)
    return Place(0.5 * (boxes[:, :2] + boxes[:, 2:]), search * sides.prod(dim=1).sqrt())


def cut(frames: Tensor, place: Place, size: int) -> Tensor:
    """Return crops (B, C, S, S) of frames (B, C, H, W), bilinearly; beyond the border, the border's pixels."""
    steps = (torch.arange(size, device=frames.device, dtype=frames.dtype) + 0.5) / size - 0.5
    points = torch.stack([steps.repeat(size), steps.repeat_interleave(size)], dim=-1)
    return _sampled(frames, place, points.expand(len(frames), -1, -1)).unflatten(-1, (size, size))


def _sampled(frames: Tensor, place: Place, points: Tensor) -> Tensor:
    """Return (B, C, P) of frames at points (B, P, 2) in sides of the crop, its middle being 0, 0."""
    where = points * place.side[:, None, None] + place.centre.unsqueeze(1)
    scale = where.new_tensor([2.0 / frames.shape[-1], 2.0 / frames.shape[-2]])
    grid = (where * scale - 1.0).unsqueeze(1)
    return functional.grid_sample(frames, grid, padding_mode="border", align_corners=False).squeeze(2)


def first_views(frames: Tensor, place: Place, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return a first frame's crop seen in V ways: as it is, flipped, turned, blurred, and shifted far.

    Turned, flipped and blurred views are shifted by draws of their own, the same in every call with this seed.

    Returns:
        Crops (B, V, C, S, S), and where the target's middle lies in each, (V, 2) in pixels of the crop.
    """
    turns, flips, blurs, shifts = _plan(seed)
    batch, device, dtype = len(frames), frames.device, frames.dtype
    steps = (torch.arange(size, device=device, dtype=dtype) + 0.5) / size - 0.5
    points = torch.stack([steps.repeat(size), steps.repeat_interleave(size)], dim=-1)
    moved = points - shifts.to(points).unsqueeze(1)  # (V, P, 2)
    cosine, sine = turns.to(points).cos().view(-1, 1), turns.to(points).sin().view(-1, 1)
    x, y = moved.unbind(dim=-1)
    turned = torch.stack([(cosine * x - sine * y) * flips.to(points).view(-1, 1), sine * x + cosine * y], dim=-1)
    views = _sampled(frames, place, turned.flatten(0, 1).expand(batch, -1, -1))
    views = views.unflatten(-1, (VIEWS, size, size)).transpose(1, 2)
    blurred = [
        _blurred(views[:, number], down * size / 288.0, across * size / 288.0) if down or across else views[:, number]
        for number, (down, across) in enumerate(blurs)
    ]
    return torch.stack(blurred, dim=1), (0.5 + shifts.to(points)) * size


def _plan(seed: int) -> tuple[Tensor, Tensor, list[tuple[float, float]], Tensor]:
    """Return each view's angle, flip (1 or -1), blur and shift in sides of the crop."""
    turned, blurred = len(ROTATIONS), len(BLURS)
    angles = torch.tensor([0.0, 0.0, *(math.radians(one) for one in ROTATIONS), *[0.0] * (blurred + len(SHIFTS))])
    flips = torch.ones(VIEWS)
    flips[1] = -1.0
    blurs = [(0.0, 0.0)] * (2 + turned) + list(BLURS) + [(0.0, 0.0)] * len(SHIFTS)
    draws = RANDOM_SHIFT * (uniform_float32(seed, torch.arange(VIEWS), 2) - 0.5)
    draws[0] = 0.0
    draws[2 + turned + blurred :] = 0.5 * torch.tensor(SHIFTS)
    return angles, flips, blurs, draws


def _blurred(pictures: Tensor, down: float, across: float) -> Tensor:
    """Return pictures (B, C, S, S) under a Gaussian of these deviations, in pixels."""
    for deviation, axis in ((down, 2), (across, 3)):
        reach = max(1, math.ceil(2.0 * deviation))
        steps = torch.arange(-reach, reach + 1, device=pictures.device, dtype=pictures.dtype)
        kernel = torch.exp(-0.5 * (steps / deviation) ** 2)
        kernel = (kernel / kernel.sum()).view(1, 1, -1, 1) if axis == 2 else (kernel / kernel.sum()).view(1, 1, 1, -1)
        pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        padded = functional.pad(pictures, pad, mode="replicate").flatten(0, 1).unsqueeze(1)
        pictures = functional.conv2d(padded, kernel).view_as(pictures)
    return pictures
