"""The exact rasterizer of a glyph's strokes (arXiv:1806.08990, the official bezier.py): filled circles, opaque.

They are drawn at four times the size and reduced as OpenCV's bilinear resizing by four does it: a pixel is the mean of
the middle 2x2 of its 4x4. So every other row and column of the raster is never looked at, nor drawn here. And since
ink is opaque, it only counts whether any circle covers a place: each row of each circle adds 1 where it begins and -1
behind its end, and one running sum over the raster says how many lie over a place.

Shapes: B strokes, n circles, W side of the canvas, 2 W places looked at along a side, E rows of circles in all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from renderers.circles import circle_places, half_widths
from renderers.strokes import GLYPH
from rlsuite.running.threads import in_threads

_TOGETHER = 2**19  # places of several strokes at a time


def cover_of_glyphs(shape: Tensor, size: int, circles: int) -> Tensor:
    """Return how much of each pixel strokes (B, 10), float64, ink: (B, W, W) float32."""
    row, column, radius = circle_places(shape, size, circles, GLYPH)
    each = max(1, _TOGETHER // (4 * size * size))

    def draw(index: int) -> Tensor:
        part = slice(index * each, (index + 1) * each)
        return _cover(row[part], column[part], radius[part], size)

    number = -(-len(shape) // each)
    return torch.cat(in_threads(draw, number)) if number else shape.new_zeros((0, size, size), dtype=torch.float32)


def _cover(row: Tensor, column: Tensor, radius: Tensor, size: int) -> Tensor:
    batch, side, device = len(row), 4 * size, row.device
    seen = torch.arange(2 * size, device=device)
    seen = 4 * (seen // 2) + 1 + seen % 2  # rows, and columns, of the raster that are looked at
    before = torch.searchsorted(seen, torch.arange(side + 1, device=device))  # how many of them lie before a row
    # One entry for each row of each circle that is looked at.
    first = before[(row - radius).clamp_min(0)]
    count = (before[(row + radius + 1).clamp_max(side)] - first).flatten()
    circle = torch.repeat_interleave(count)
    stroke = torch.arange(batch, device=device).unsqueeze(1) * len(seen)
    offset = (first + stroke).flatten() - count.cumsum(0) + count
    line = torch.arange(len(circle), device=device).add_(offset.index_select(0, circle))
    away = seen.repeat(batch).index_select(0, line).sub_(row.flatten().index_select(0, circle)).abs_()
    reach = half_widths(-(-(int(radius.max()) + 1) // 64) * 64 - 1).to(device)
    half = reach.flatten().index_select(0, away.add_((radius * len(reach)).flatten().index_select(0, circle)))
    centre = column.flatten().index_select(0, circle)
    begin = before.index_select(0, (centre - half).clamp_min_(0))
    end = before.index_select(0, half.add_(centre).add_(1).clamp_max_(side))
    # What ends behind the last column ends at the first of the next row: the sum runs over rows.
    start = line.mul_(len(seen))
    change = torch.zeros(batch * len(seen) ** 2 + 1, dtype=torch.int16, device=device)
    one = torch.ones(1, dtype=torch.int16, device=device).expand(len(start))
    change.scatter_add_(0, begin.add_(start), one)
    change.scatter_add_(0, end.add_(start), -one)
    inked = change.cumsum(0, dtype=torch.int16)[:-1].clamp_(0, 1).view(batch, size, 2, len(seen))
    pair = (inked[:, :, 0] + inked[:, :, 1]).view(torch.int32)
    return ((pair & 0xFFFF) + (pair >> 16)).float() / 4
