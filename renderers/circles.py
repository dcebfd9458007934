"""Which circles the exact rasterizer fills for a stroke: where they lie, how large they are, and their outlines.

The arithmetic is the official codes': floors, truncations, float64 (Learning to Paint, arXiv:1903.04411, stroke_gen.py;
for glyphs arXiv:1806.08990, bezier.py).

Shapes: B strokes, n circles, W side of the canvas.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from renderers.strokes import GLYPH, control_points, glyph_radii


def circle_places(shape: Tensor, size: int, circles: int, brush: str = "bezier") -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, columns and radii (B, n), int64 in pixels of the brush's raster, of each stroke's circles."""
    time = torch.arange(circles, dtype=torch.float64, device=shape.device) * (1.0 / circles)
    points = torch.stack(control_points(shape, brush), dim=1)  # (B, 3, 2)
    points = torch.floor(points * ((4 if brush == GLYPH else 2) * size - 1) + 0.5)
    remaining = 1.0 - time
    first, middle, last = (remaining * remaining, 2.0 * time * remaining, time * time)
    places = [
        first * points[:, 0, axis, None] + middle * points[:, 1, axis, None] + last * points[:, 2, axis, None]
        for axis in (0, 1)
    ]
    if brush == GLYPH:
        radii = torch.floor(glyph_radii(shape, size))
        radius = first * radii[:, :1] + middle * radii[:, 1:2] + last * radii[:, 2:]
    else:
        radii = torch.floor(1.0 + torch.floor(shape[:, 6:8] * size / 2))
        radius = remaining * radii[:, :1] + time * radii[:, 1:]
    return places[0].long(), places[1].long(), radius.long()


@functools.cache
def half_widths(largest: int) -> Tensor:
    """Return the outlines of circles: OpenCV's, by Bresenham's midpoint algorithm, of all radii side by side.

    Returns:
        (largest + 1, largest + 1) int64: [R, d] is how far a circle of radius R reaches left and right in the rows at
        distance d from its centre; -1 where it does not.
    """
    table = np.full((largest + 1, largest + 1), -1)
    radius = np.arange(largest + 1)
    across, error, minus = radius.copy(), np.zeros_like(radius), 2 * radius - 1
    for down in range(largest + 1):
        radius = radius[across[radius] >= down]  # circles that are not yet whole
        if len(radius) == 0:
            break
        table[radius, down] = np.maximum(table[radius, down], across[radius])
        table[radius, across[radius]] = np.maximum(table[radius, across[radius]], down)
        error[radius] += 2 * down + 1
        over = radius[error[radius] > 0]
        error[over] -= minus[over]
        minus[over] -= 2
        across[over] -= 1
    return torch.from_numpy(table)
