"""Where an object may be: the highest places of a score map, and boxes around them.

Thresholds are ATOM's (Danelljan et al. 2019, arXiv:1811.07628), the family that Cascaded Regression Tracking
(arXiv:2006.10336) belongs to; how many candidates and boxes there are is our choice.

Shapes: B maps of G by G scores, K candidates, M boxes of each.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

JITTER_SHIFT, JITTER_GROWTH = 0.1, 1.05  # deviation in sides of the box; factor of its sides for each deviation


class Peaks(NamedTuple):
    """Local maxima, the highest first.

    Attributes:
        scores: (B, K), 0 where there is none.
        places: (B, K, 2), x and y in cells, between cells by a parabola through the neighbours.
        there: (B, K) bool.
    """

    scores: Tensor
    places: Tensor
    there: Tensor


def peaks(maps: Tensor, window: Tensor, count: int, least: float = 0.25, share: float = 0.5) -> Peaks:
    """Return local maxima of maps (B, G, G) above max(least, share * the highest).

    Around each that is kept, the highest first, others within a window are dropped.

    Args:
        maps: see there.
        window: (B, 2), the window's width and height in cells.
        count: K.
        least: see there.
        share: see there.
    """
    batch, size = maps.shape[0], maps.shape[-1]
    tops = functional.max_pool2d(maps.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
    bar = (share * maps.amax(dim=(1, 2), keepdim=True)).clamp_min(least)
    left = torch.where((maps == tops) & (maps > bar), maps, -torch.inf).flatten(1)
    cells = torch.arange(size, device=maps.device)
    columns, lines = cells.repeat(size), cells.repeat_interleave(size)
    half, found = 0.5 * window, []
    for _ in range(count):
        at = left.argmax(dim=1)
        found.append((left.gather(1, at.unsqueeze(1)).squeeze(1), at))
        near = (columns - columns[at].unsqueeze(1)).abs() <= half[:, :1]
        near &= (lines - lines[at].unsqueeze(1)).abs() <= half[:, 1:]
        left = left.masked_fill(near, -torch.inf)
    scores, at = (torch.stack(parts, dim=1) for parts in zip(*found, strict=True))
    there = scores > -torch.inf
    row = torch.arange(batch, device=maps.device).unsqueeze(1)
    padded = functional.pad(maps.unsqueeze(1), (1, 1, 1, 1), mode="replicate").squeeze(1)
    x, y = columns[at], lines[at]
    offsets = [
        _vertex(padded[row, y + 1, x], padded[row, y + 1, x + 1], padded[row, y + 1, x + 2]),
        _vertex(padded[row, y, x + 1], padded[row, y + 1, x + 1], padded[row, y + 2, x + 1]),
    ]
    places = torch.stack([x, y], dim=-1).to(maps.dtype) + torch.stack(offsets, dim=-1)
    return Peaks(torch.where(there, scores, 0.0), places, there)


def _vertex(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    """Return where, in [-1/2, 1/2] of a cell, the parabola through three neighbours is highest."""
    bend = (2.0 * here - before - after).clamp_min(1e-6)
    return (0.5 * (after - before) / bend).clamp(-0.5, 0.5)


def jitter_table(count: int, seed: int) -> Tensor:
    """Return (M, 4) standard normal numbers: shifts and growths along x and y; the first box is as it is, all 0."""
    table = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    table[0] = 0.0
    return table


def jittered(centres: Tensor, sides: Tensor, table: Tensor) -> Tensor:
    """Return boxes (B, K, M, 4) around centres (B, K, 2) of boxes with sides (B, K, 2), moved as table (M, 4) says."""
    middles = centres.unsqueeze(2) + JITTER_SHIFT * table[:, :2] * sides.unsqueeze(2)
    halves = 0.5 * sides.unsqueeze(2) * JITTER_GROWTH ** table[:, 2:]
    return torch.cat([middles - halves, middles + halves], dim=-1)


def strewn_table(count: int, reach: float) -> Tensor:
    """Return (count, 4): shifts, in sides of a box, spread evenly over a square of `reach` to each side; growths.

    Points are Roberts' sequence (2018), which fills space evenly whatever the count; the first is the middle.
    """
    steps = torch.tensor([0.7548776662466927, 0.5698402909980532])  # powers of 1 / g, g^3 = g + 1
    points = torch.arange(count).unsqueeze(1) * steps
    shifts = reach * (2.0 * torch.frac(points + 0.5) - 1.0)
    growths = 3.0 * (torch.frac(torch.arange(count).unsqueeze(1) * steps.flip(0) + 0.5) - 0.5)
    return torch.cat([shifts, growths], dim=1)


def strewn(centres: Tensor, sides: Tensor, table: Tensor) -> Tensor:
    """Return boxes (B, count, 4) around one centre (B, 2) of boxes with sides (B, 2) each; see `strewn_table`."""
    middles = centres.unsqueeze(1) + table[:, :2] * sides.unsqueeze(1)
    halves = 0.5 * sides.unsqueeze(1) * JITTER_GROWTH ** table[:, 2:]
    return torch.cat([middles - halves, middles + halves], dim=-1)
