"""The exact rasterizer: what a stroke truly looks like, the ground truth of the other renderers.

A stroke is 100 filled circles along a quadratic Bezier curve, each overwriting what lies under it, drawn at twice the
size and halved by averaging (Learning to Paint, arXiv:1903.04411; the official stroke_gen.py draws them one by one
with OpenCV, and so does renderers/plain.py). Here all circles of all strokes are drawn at once. In every row a circle
is an interval of columns, so the last circle over a pixel is a "range maximum update": each interval is covered by
two, perhaps overlapping, intervals whose length is a power of two; these enter one table for each power, and the
tables are folded into each other from the longest down. That costs log2(W) passes instead of 100.

Positions, radii and opacities follow the official code's arithmetic (floors, truncations, float64), and circles have
the outline of OpenCV's.

Shapes: B strokes, n circles, W side of the canvas, S = 2 W side of the raster, h rows a circle may touch.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from renderers.circles import circle_places, half_widths
from renderers.glyph_exact import cover_of_glyphs
from renderers.strokes import GLYPH, shape_for_brush
from rlsuite.errors import require
from rlsuite.running.threads import in_threads

CIRCLES, CIRCLES_AT_MOST = 100, 255
_TABLE_BYTES = 8 * 2**20


def draw_exact(shape: Tensor, size: int, *, brush: str = "bezier", circles: int = CIRCLES) -> Tensor:
    """Draw each stroke on an empty canvas of its own; not differentiable.

    Args:
        shape: (..., 10), see renderers/strokes.py.
        size: W.
        brush: one of RASTERIZED.
        circles: circles along a curve, at most 255: their numbers are bytes.

    Returns:
        Opacity maps (..., W, W) in [0, 1]. (The official code returns 1 minus that, see `white_paper`.)

    Raises:
        UserError: if there are too many circles, or none.
    """
    require(1 <= circles <= CIRCLES_AT_MOST, f"circles={circles}: use 1 to {CIRCLES_AT_MOST}")
    flat = shape_for_brush(shape.detach(), brush).reshape(-1, shape.shape[-1]).double()
    draw = _draw_triangles
    if brush != "triangle":
        draw = functools.partial(cover_of_glyphs if brush == GLYPH else _draw_curves, circles=circles)
    return draw(flat, size).reshape(*shape.shape[:-1], size, size)


def white_paper(alpha: Tensor) -> Tensor:
    """Return the official code's convention: 1 where there is no paint, 0 where it is opaque."""
    return 1.0 - alpha


def _draw_curves(shape: Tensor, size: int, circles: int) -> Tensor:
    row, column, radius = circle_places(shape, size, circles)
    # A circle's opacity is linear in its number, so two sums over the four pixels tell their mean: how many are
    # covered, and by which numbers. Both are packed into 16 bits, 1024 * covered + number: numbers sum to 1020 at most.
    fraction = (shape[:, 9] - shape[:, 8]) / circles
    scale = torch.stack([shape[:, 8] - fraction, fraction], dim=1).float() / 4
    most = max(1, _TABLE_BYTES // (10 * (2 * size) ** 2))  # tables that stay in the cache are several times faster
    number = -(-len(shape) // most)
    step = -(-len(shape) // max(1, number))

    def draw(index: int) -> Tensor:
        part = slice(index * step, (index + 1) * step)
        last = last_circle(row[part], column[part], radius[part], 2 * size, 2 * size)  # (b, S, S) uint8
        packed = last.to(torch.int16).add_((last > 0).to(torch.int16), alpha=1024)
        pair = packed.view(len(last), size, 2, 2 * size).sum(dim=2, dtype=torch.int16).view(torch.int32)
        total = (pair & 0xFFFF) + (pair >> 16)
        alpha = (total >> 10) * scale[part, 0].view(-1, 1, 1)
        return alpha.addcmul_(total & 1023, scale[part, 1].view(-1, 1, 1))

    return torch.cat(in_threads(draw, number)) if number else row.new_zeros((0, size, size), dtype=torch.float32)


def last_circle(row: Tensor, column: Tensor, radius: Tensor, height: int, width: int) -> Tensor:
    """Return one more than the number of the last circle over each pixel of a raster, 0 where there is none.

    Args:
        row: (B, n) int64, of the centres, which lie on the raster.
        column: (B, n).
        radius: (B, n).
        height: of the raster.
        width: of the raster.

    Returns:
        (B, height, width) uint8.
    """
    batch, circles = row.shape
    device, largest = row.device, int(radius.max())
    row, column, radius = row.flatten(), column.flatten(), radius.flatten()
    # One entry for each row of each circle; a circle's centre always lies on the raster, so none is empty.
    top = (row - radius).clamp_min(0)
    count = (row + radius).clamp_max(height - 1) - top + 1
    circle = torch.repeat_interleave(count)
    entry = torch.arange(len(circle), device=device)
    line = entry + (top - count.cumsum(0) + count)[circle]
    reach = half_widths(-(-(largest + 1) // 64) * 64 - 1).to(device)  # few sizes, each made once
    half = reach.flatten()[(radius * len(reach))[circle] + (line - row[circle]).abs()]
    centre = column[circle]
    left = (centre - half).clamp_min_(0)
    length = (centre + half).clamp_max_(width - 1) - left + 1
    stroke_begin = (torch.arange(batch, device=device) * (height * width)).repeat_interleave(circles)
    begin = line.mul_(width).add_(left).add_(stroke_begin[circle])
    number = torch.arange(1, circles + 1, device=device, dtype=torch.uint8).repeat(batch)[circle]

    levels = (2 * largest + 1).bit_length()
    power = torch.arange(2 * largest + 2, device=device).float().add_(0.5).log2_().long()[length]  # floor(log2(length))
    tables = torch.zeros((levels, batch * height * width), dtype=torch.uint8, device=device)
    place = begin + power * tables.shape[1]
    other = place + length - (1 << power)
    # Numbers rise along a stroke, so the later of two circles at one place is the larger.
    tables.view(-1).scatter_reduce_(0, torch.cat([place, other]), number.repeat(2), "amax")
    for level in range(levels - 1, 0, -1):
        half_length = 1 << (level - 1)
        # Intervals begin and end within their row, so nothing real runs over into the next one.
        torch.maximum(tables[level - 1], tables[level], out=tables[level - 1])
        shifted = tables[level - 1, half_length:]
        torch.maximum(shifted, tables[level, :-half_length], out=shifted)
    return tables[0].view(batch, height, width)


def _draw_triangles(shape: Tensor, size: int) -> Tensor:
    """Return opacity maps of filled triangles: a pixel of the raster belongs to it if its centre does."""
    side = 2 * size
    covered = avg_pool2d(inside_triangle(triangle_corners(shape, side), side, side).float().unsqueeze(1), 2).squeeze(1)
    return covered * shape[:, 8].float().view(-1, 1, 1)


def triangle_corners(shape: Tensor, side: int) -> Tensor:
    """Return the corners (B, 3, 2) of triangles (B, 10): pixels of a raster of a given side."""
    return torch.floor(shape[:, :6].reshape(-1, 3, 2) * (side - 1) + 0.5)


def inside_triangle(corner: Tensor, height: int, width: int) -> Tensor:
    """Say (B, height, width) which pixels of a raster have their centre in a triangle with corners (B, 3, 2)."""
    following = corner.roll(-1, dims=1)
    row = torch.arange(height, device=corner.device, dtype=corner.dtype).view(1, 1, -1, 1)
    column = torch.arange(width, device=corner.device, dtype=corner.dtype).view(1, 1, 1, -1)
    rise, run = ((following - corner)[..., axis, None, None] for axis in (0, 1))
    turn = run * (row - corner[..., 0, None, None]) - rise * (column - corner[..., 1, None, None])
    return (turn >= 0).all(dim=1) | (turn <= 0).all(dim=1)
