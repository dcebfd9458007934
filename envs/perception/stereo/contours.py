"""Iso-depth contours: curves in a picture along which the distance to the camera does not change (arXiv:2001.06659).

On the surface they run across the plane of normal and view direction, so an azimuth tells their direction in the
picture. They are traced to both sides from where they start. The numbers are ours: steps of half a pixel, second-order
Runge-Kutta, directions interpolated at doubled angle (they have no sign), at most 200 pixels.

Shapes: H and W sides, S starts, T steps to one side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.stereo.capture import Capture, nearest, sample

STEP, LONGEST, LEAST_SURE = 0.5, 200.0, 0.3
SHARPEST, WITHIN = 60.0, 4  # degrees by which a direction may turn within so many steps


def tangents(capture: Capture, leaning: Tensor) -> Tensor:
    """Return contours' directions in the picture, unit vectors (H, W, 2) or zero; leaning (H, W, 3) as `azimuths` has.

    In space it is the view direction times the leaning; in the picture, that seen in perspective.
    """
    height, width = leaning.shape[:2]
    pixels = torch.ones(height, width).nonzero().flip(1).float()
    rays = capture.rays(pixels)
    across = torch.linalg.cross(-rays, leaning.view(-1, 3))
    flat = across[:, :2] - rays[:, :2] / rays[:, 2:] * across[:, 2:]
    flat = flat * torch.stack([capture.intrinsics[0, 0], capture.intrinsics[1, 1]])
    return functional.normalize(flat, dim=1).view(height, width, 2)


def trace_contours(
    direction: Tensor, sure: Tensor, starts: Tensor, longest: float = LONGEST
) -> tuple[Tensor, Tensor, Tensor]:
    """Trace contours to both sides.

    Args:
        direction: (H, W, 2), as `tangents` has them.
        sure: (H, W), confidences, zero outside of the mask: contours end where they are below 0.3.
        starts: (S, 2), pixels.
        longest: pixels to each side.

    Returns:
        Pixels (S, 2 T + 1, 2), the starts in the middle; distances from the start along the curve (2 T + 1,), in
        pixels; and which belong to the contour (S, 2 T + 1) bool.
    """
    doubled = torch.stack([direction[..., 0] ** 2 - direction[..., 1] ** 2, 2 * direction[..., 0] * direction[..., 1]])
    field = (doubled * sure).movedim(0, -1)
    count = max(int(longest / STEP), 1)
    begins = _allowed(sure, starts)
    sides = [_one_side(field, sure, starts, begins, count, sign) for sign in (-1.0, 1.0)]
    places = torch.cat([sides[0][0].flip(1), starts.unsqueeze(1), sides[1][0]], dim=1)
    valid = torch.cat([sides[0][1].flip(1), begins.unsqueeze(1), sides[1][1]], dim=1)
    return places, STEP * (torch.arange(2 * count + 1) - count).abs(), valid


def _one_side(
    field: Tensor, sure: Tensor, starts: Tensor, begins: Tensor, count: int, sign: float
) -> tuple[Tensor, Tensor]:
    at, going = starts, begins.clone()
    last = sign * _axis(field, starts, None)
    recent = [last] * WITHIN
    places, valid = [], []
    for step in range(count):
        half = _axis(field, at + 0.5 * STEP * _axis(field, at, last), last)
        at = torch.where(going.unsqueeze(1), at + STEP * half, at)
        turned = (half * recent[-WITHIN]).sum(dim=1) < torch.cos(torch.deg2rad(torch.tensor(SHARPEST)))
        closed = ((at - starts).norm(dim=1) < STEP) & (step * STEP > 4.0)
        going = going & _allowed(sure, at) & ~turned & ~closed & (half.norm(dim=1) > 0.5)
        recent.append(half)
        last = half
        places.append(at)
        valid.append(going)
        if not bool(going.any()):
            break
    places += [at] * (count - len(places))
    valid += [torch.zeros_like(going)] * (count - len(valid))
    return torch.stack(places, dim=1), torch.stack(valid, dim=1)


def _axis(field: Tensor, at: Tensor, along: Tensor | None) -> Tensor:
    """Return unit vectors (S, 2) of a field of doubled angles at pixels (S, 2), turned to go `along` (S, 2)."""
    doubled = sample(field, at)
    angle = 0.5 * torch.atan2(doubled[:, 1], doubled[:, 0])
    found = torch.stack([angle.cos(), angle.sin()], dim=1)
    if along is not None:
        found = torch.where((found * along).sum(dim=1, keepdim=True) < 0, -found, found)
    return found


def _allowed(sure: Tensor, at: Tensor) -> Tensor:
    place, within = nearest(at, sure.shape)
    return within & (sure.flatten()[place] >= LEAST_SURE)
