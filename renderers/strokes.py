"""What a stroke is: 13 numbers in [0, 1], the brushes that read them, and how strokes make a picture.

| entry | meaning |
|---|---|
| 0, 1 | first control point: row, column |
| 2, 3 | middle control point, as a share of the way from the first to the last, each axis by itself |
| 4, 5 | last control point: row, column |
| 6, 7 | radius at the start and at the end; 1 is a quarter of the picture's side |
| 8, 9 | opacity at the start and at the end |
| 10, 11, 12 | red, green, blue |

The middle point lies in the box that the end points span, so curves bend gently and never loop (Learning to Paint,
arXiv:1903.04411, section 3). The official code orders colours blue, green, red; here they are red, green, blue.

The brush `glyph` is that of written characters (arXiv:1806.08990): nine numbers, three control points 0-5 that are all
absolute, and 6, 7, 8 the pen's radius at each of them; the tenth is not used. Curve and radius are quadratic, ink is
opaque and has no colour (renderers/glyph.py).

Shapes: B canvases, k strokes a canvas in their order of painting, W side of the (square) canvas.
"""

from __future__ import annotations

import torch
from torch import Tensor

STROKE_SIZE = 13
SHAPE_SIZE = 10  # the entries a renderer sees; colour is applied by composite()
BRUSHES = ("bezier", "opaque", "circle", "triangle", "line")  # that paint
GLYPH = "glyph"
RASTERIZED = (*BRUSHES, GLYPH)  # all that renderers draw
GLYPH_SIZE = 9  # numbers of a glyph's stroke


def shape_for_brush(shape: Tensor, brush: str) -> Tensor:
    """Return shapes (..., 10) in which the entries that the brush does not use have the value it gives them.

    bezier: all are used. opaque: opacity 1. circle: centre 0-1, radius 6, opacity 8. line: the middle of the way,
    evenly. triangle: three corners 0-5, each absolute, and opacity 8. glyph: entry 9 is 0.
    """
    if brush == GLYPH:
        return torch.cat([shape[..., :GLYPH_SIZE], torch.zeros_like(shape[..., GLYPH_SIZE:])], dim=-1)
    first, middle, last, radius, opacity = shape.split([2, 2, 2, 2, 2], dim=-1)
    if brush == "opaque":
        opacity = torch.ones_like(opacity)
    elif brush == "circle":
        middle, last = torch.full_like(middle, 0.5), first
        radius, opacity = radius[..., :1].expand_as(radius), opacity[..., :1].expand_as(opacity)
    elif brush == "line":
        middle = torch.full_like(middle, 0.5)
    elif brush == "triangle":
        opacity = opacity[..., :1].expand_as(opacity)
    return torch.cat([first, middle, last, radius, opacity], dim=-1)


def control_points(shape: Tensor, brush: str = "bezier") -> tuple[Tensor, Tensor, Tensor]:
    """Return the three control points (..., 2), rows and columns in [0, 1], of a curved brush's shapes (..., 10)."""
    first, middle, last = shape[..., 0:2], shape[..., 2:4], shape[..., 4:6]
    if brush == GLYPH:
        return first, middle, last
    return first, first + (last - first) * middle, last


def glyph_radii(shape: Tensor, size: int) -> Tensor:
    """Return the pen's radii (..., 3) of a glyph's strokes (..., 10), in pixels of the raster of side 4 W.

    32 z + 2 on a raster of 256 pixels, as the official code has it (arXiv:1806.08990, bezier.py); it scales with W.
    """
    return shape[..., 6:9] * (size / 2) + size / 32


def composite(canvas: Tensor, alpha: Tensor, colour: Tensor) -> Tensor:
    """Paint k strokes over canvases, the first stroke first: C <- C (1 - A_j) + A_j colour_j.

    Args:
        canvas: (B, 3, H, W).
        alpha: opacity maps (B, k, H, W).
        colour: (B, k, 3).

    Returns:
        The painted canvases (B, 3, H, W).
    """
    # What stroke j leaves is dimmed by all later ones: all strokes at once instead of one after another.
    shown = (1.0 - alpha).flip(1).cumprod(1).flip(1)  # of whatever lies under stroke j, j itself included
    later = torch.cat([shown[:, 1:], torch.ones_like(shown[:, :1])], dim=1)
    paint = torch.einsum("bkc,bkhw->bchw", colour, alpha * later)
    return canvas * shown[:, :1] + paint
