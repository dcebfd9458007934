"""The exact rasterizer for whole pictures: every stroke in a box of its own, as large as what it paints.

As renderers/bezier.py draws strokes on a square canvas, on a raster FINER times as fine, averaged: what
`avg_pool2d(draw_exact(shape, FINER * side), FINER)` would be, cut out where there is paint. Strokes with boxes of
about the same size are drawn together.

Shapes: N strokes, b of them drawn together in boxes of h x w pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from renderers.bezier import CIRCLES, circle_places, inside_triangle, last_circle, triangle_corners
from renderers.geometry import FINER, TRIANGLE, shapes_for_kinds
from rlsuite.running.threads import in_threads

FINE_ENOUGH = 1024  # a picture of this side or more is drawn on the paper's own raster
_BATCH_PIXELS = 2**20  # of the raster, drawn together


@dataclass
class Box:
    """What one stroke paints.

    Attributes:
        top: first row, in pixels of the picture.
        left: first column.
        alpha: (h, w), opacity.
    """

    top: int
    left: int
    alpha: Tensor


def finer_at(side: int) -> int:
    """Return how many times finer than the paper's the raster is for a picture of a given longer side."""
    return FINER if side < FINE_ENOUGH else 1


def draw_boxes(shape: Tensor, kinds: Tensor, side: int) -> list[Box]:
    """Draw strokes exactly.

    Args:
        shape: (N, 10), shares of the square that the picture's longer side spans.
        kinds: (N,) int64, their brushes' numbers in BRUSHES.
        side: of that square, in pixels.
    """
    shape = shapes_for_kinds(shape.detach(), kinds).double()
    finer = finer_at(side)
    found: list[Box | None] = [None] * len(shape)
    for triangles in (False, True):
        mine = ((kinds == TRIANGLE) == triangles).nonzero().squeeze(1)
        if len(mine):
            boxes = _triangles(shape[mine], side, finer) if triangles else _curves(shape[mine], side, finer)
            for index, box in zip(mine.tolist(), boxes, strict=True):
                found[index] = box
    return [box for box in found if box is not None]


def _curves(shape: Tensor, side: int, finer: int) -> list[Box]:
    return _drawn(circle_places(shape, finer * side, CIRCLES), shape, side, 2 * finer)


def _triangles(shape: Tensor, side: int, finer: int) -> list[Box]:
    corner = triangle_corners(shape, 2 * finer * side)
    return _drawn((corner[..., 0], corner[..., 1], torch.zeros_like(corner[..., 0])), shape, side, 2 * finer)


def _drawn(places: tuple[Tensor, Tensor, Tensor], shape: Tensor, side: int, fine: int) -> list[Box]:
    """Return boxes of strokes (N, 10) with circles or corners at rows, columns and radii (N, n) on the raster."""
    low, high = _extents(places, fine, side)
    parts = list(_alike(high - low, fine * fine))
    found: list[Box | None] = [None] * len(shape)

    def work(index: int) -> Tensor:
        part = parts[index]
        begin, extent = low[part], high[part] - low[part]
        row, column, radius = (place[part] for place in places)
        here = row - begin[:, :1] * fine, column - begin[:, 1:] * fine, radius
        alpha = _draw(here, extent.amax(dim=0).tolist(), shape[part], fine)
        rows = zip(part.tolist(), alpha, begin.tolist(), extent.tolist(), strict=True)
        for number, box, (top, left), (height, width) in rows:
            found[number] = Box(top, left, box[:height, :width])
        return low

    in_threads(work, len(parts))
    return [box for box in found if box is not None]


def paint_boxes(canvas: Tensor, boxes: list[Box], colours: Tensor) -> None:
    """Paint strokes with colours (N, 3) over a canvas (3, H, W), in place and in their order."""
    height, width = canvas.shape[1:]
    for box, colour in zip(boxes, colours[:, :, None, None], strict=True):
        rows, columns = min(box.alpha.shape[0], height - box.top), min(box.alpha.shape[1], width - box.left)
        if rows > 0 and columns > 0:
            under = canvas[:, box.top : box.top + rows, box.left : box.left + columns]
            under.add_((colour - under).mul_(box.alpha[:rows, :columns]))


def _extents(places: tuple[Tensor, Tensor, Tensor], fine: int, side: int) -> tuple[Tensor, Tensor]:
    """Return the first pixels (N, 2) of the picture that boxes hold, and the first ones beyond them."""
    row, column, radius = places
    low = torch.stack([(row - radius).amin(dim=1), (column - radius).amin(dim=1)], dim=1)
    high = torch.stack([(row + radius).amax(dim=1), (column + radius).amax(dim=1)], dim=1)
    low = torch.div(low, fine, rounding_mode="floor").long().clamp_min(0)
    return low, (torch.div(high, fine, rounding_mode="floor").long() + 1).clamp_max(side)


def _alike(extent: Tensor, pixels: int) -> Iterator[Tensor]:
    """Yield numbers of boxes (N, 2) to draw together: of about the same size, and not too many."""
    size = extent.amax(dim=1).double().log2().mul(2).ceil()
    order = (size * 1e4 + extent[:, 0]).argsort(stable=True)
    begin = 0
    while begin < len(order):
        rest = order[begin : begin + 256]
        rest = rest[size[rest] == size[rest[0]]]
        area = extent[rest].cummax(dim=0).values.prod(dim=1) * torch.arange(1, len(rest) + 1) * pixels
        number = max(1, int((area <= _BATCH_PIXELS).sum()))
        yield rest[:number]
        begin += number


def _draw(places: tuple[Tensor, Tensor, Tensor], extent: list[int], shape: Tensor, fine: int) -> Tensor:
    """Return opacity maps (b, h, w) of strokes whose circles or corners are given as seen from their boxes."""
    height, width = extent[0] * fine, extent[1] * fine
    row, column, radius = places
    first, last = (shape[:, entry].float().view(-1, 1, 1) for entry in (8, 9))
    if row.shape[1] == 3:  # corners
        inside = inside_triangle(torch.stack([row, column], dim=2), height, width)
        return avg_pool2d(inside.float().unsqueeze(1), fine).squeeze(1) * first
    number = last_circle(row, column, radius, height, width)
    covered = avg_pool2d((number > 0).float().unsqueeze(1), fine).squeeze(1)
    number = avg_pool2d(number.float().unsqueeze(1), fine).squeeze(1)
    fraction = (last - first) / CIRCLES
    return covered * (first - fraction) + number * fraction
