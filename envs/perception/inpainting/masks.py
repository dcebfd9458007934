"""Holes to learn from: shapes that move over a clip, drawn at random (arXiv:2104.03507, section 4).

The paper learns from three kinds: things that move, curves that move, and patches that stay or drift. Its own masks are
files; these are drawn. Outlines run smoothly through 6 to 8 corners where the official code has Bezier curves.

Shapes: B examples, L frames, H and W sides, P = H W pixels, D draws.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlsuite.data.counters import uniform_float32
from rlsuite.errors import require

KINDS = ("object", "curve", "patch")
DRAWS = 24  # random numbers of an example
CORNERS = 8
AREAS = 0.05, 0.4  # shares of the picture that moving things and curves hide
SPEED = 4.0  # pixels a frame that they move at most
PATCH_SPEED, LEAST_SIDE = 3.0, 1.0 / 3.0  # of patches, half of which rest
STROKE = 0.05, 0.2  # area of curves: of the interval above, they take the lower part


def holes(seed: int, index: Tensor, length: int, size: tuple[int, int], kinds: tuple[str, ...] = KINDS) -> Tensor:
    """Return holes (B, L, 1, H, W) bool of examples at index (B,), each of a kind that is drawn.

    Raises:
        UserError: for no kinds or an unknown one.
    """
    known = bool(kinds) and all(kind in KINDS for kind in kinds)
    require(known, f"kinds={list(kinds)}: use some of {', '.join(KINDS)}")
    draws = uniform_float32(seed, index, DRAWS + 1)
    which = (draws[:, 0] * len(kinds)).long()
    made = {"object": moving_object, "curve": moving_curve, "patch": static_patch}
    every = torch.stack([made[kind](draws[:, 1:], length, size) for kind in kinds])
    return every[which, torch.arange(len(index))]


def moving_object(draws: Tensor, length: int, size: tuple[int, int]) -> Tensor:
    """Return blobs (B, L, 1, H, W) bool that hide 5 to 40 % of the picture and move, for draws (B, D) in [0, 1)."""
    across, down = _around(draws, length, size, SPEED)
    return _framed(_largest(_distance(draws, across, down), _between(AREAS, draws[:, 12])), size)


def moving_curve(draws: Tensor, length: int, size: tuple[int, int]) -> Tensor:
    """Return thick curves (B, L, 1, H, W) bool that move, for draws (B, D) in [0, 1): 5 to 20 % of the picture."""
    across, down = _around(draws, length, size, SPEED)
    height, width = size
    ends = (draws[:, 13:19].view(-1, 3, 2) - 0.5) * draws.new_tensor([width, height])
    time = torch.linspace(0.0, 1.0, 24).view(1, -1, 1)
    one, middle, other = ends.unsqueeze(2).unbind(dim=1)  # a quadratic Bezier curve, as 24 points
    points = (1 - time).square() * one + 2 * time * (1 - time) * middle + time.square() * other
    nearest = torch.full_like(across, math.inf)
    for point in points.unbind(dim=1):
        x, y = point.unsqueeze(1).unbind(dim=2)
        nearest = torch.minimum(nearest, (across - x.unsqueeze(2)).square() + (down - y.unsqueeze(2)).square())
    return _framed(_largest(nearest, _between(STROKE, draws[:, 12])), size)


def static_patch(draws: Tensor, length: int, size: tuple[int, int]) -> Tensor:
    """Return blobs (B, L, 1, H, W) bool at least a third of each side large, half of which rest, for draws (B, D)."""
    rests = draws[:, 11:12] < 0.5
    across, down = _around(draws, length, size, PATCH_SPEED, rests)
    sides = LEAST_SIDE + (0.6 - LEAST_SIDE) * draws[:, 13:15]
    halves = 0.5 * sides * draws.new_tensor([size[1], size[0]]) / 0.75  # the narrowest part of the outline is 0.75
    return _framed(_distance(draws, across, down, halves) <= 1.0, size)


def _around(
    draws: Tensor, length: int, size: tuple[int, int], speed: float, rests: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return where pixels lie, right of and below the shape's middle, (B, L, P) each; it stays in the picture."""
    height, width = size
    time = torch.arange(length, dtype=torch.float32)
    angle, pace = 2.0 * math.pi * draws[:, 2:3], speed * draws[:, 3:4]
    if rests is not None:
        pace = pace * ~rests
    pixels_x = torch.arange(width, dtype=torch.float32).repeat(height)
    pixels_y = torch.arange(height, dtype=torch.float32).repeat_interleave(width)
    x = _reflected(draws[:, 0:1] * (width - 1) + pace * angle.cos() * time, width - 1)
    y = _reflected(draws[:, 1:2] * (height - 1) + pace * angle.sin() * time, height - 1)
    return pixels_x - x.unsqueeze(2), pixels_y - y.unsqueeze(2)


def _distance(draws: Tensor, across: Tensor, down: Tensor, halves: Tensor | None = None) -> Tensor:
    """Return the distance (B, L, P) from the middle, as a multiple of the outline's; its widths 0.75 to 1."""
    if halves is not None:
        across, down = across / halves[:, 0].view(-1, 1, 1), down / halves[:, 1].view(-1, 1, 1)
    corners = 6 + (3 * draws[:, 10]).long()
    place = (torch.atan2(down, across) / (2.0 * math.pi) + 0.5) * corners.view(-1, 1, 1)
    first = place.floor().long() % corners.view(-1, 1, 1)
    second = (first + 1) % corners.view(-1, 1, 1)
    radii = 0.75 + 0.25 * draws[:, 16 : 16 + CORNERS]
    one, other = (radii.gather(1, corner.flatten(1)).view_as(place) for corner in (first, second))
    share = 0.5 - 0.5 * torch.cos(math.pi * (place - place.floor()))
    return torch.hypot(across, down) / torch.lerp(one, other, share)


def _largest(distance: Tensor, area: Tensor) -> Tensor:
    """Return which pixels (B, L, P) are nearest: as many as make an area (B,) of the first frame, elsewhere as near."""
    first = distance[:, 0].sort(dim=1).values
    bound = first.gather(1, (area * first.shape[1]).long().clamp(max=first.shape[1] - 1).unsqueeze(1))
    return distance <= bound.unsqueeze(2)


def _framed(hidden: Tensor, size: tuple[int, int]) -> Tensor:
    return hidden.unflatten(2, size).unsqueeze(2)


def _between(bounds: tuple[float, float], share: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _reflected(place: Tensor, most: float) -> Tensor:
    """Return places brought back into [0, most], as a ball between two walls."""
    if most <= 0:
        return torch.zeros_like(place)
    turned = place.remainder(2.0 * most)
    return torch.where(turned > most, 2.0 * most - turned, turned)
