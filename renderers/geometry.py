"""Strokes of a whole picture as the soft rasterizer draws them: curves and half-planes in pixels, differentiably.

Strokes lie in a square whose side is the picture's longer one, its corner at the picture's. The exact rasterizer draws
them on a raster `FINER` times finer than that of renderers/bezier.py, so that an outline of hundreds of pixels is not
ragged by its floors: halves of pixels become quarters.

Shapes: N strokes. Places and radii are in pixels of the paper's raster, two to a pixel of the picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from renderers.soft import CIRCLE_BIAS, CURVE_BIAS
from renderers.strokes import BRUSHES, control_points, shape_for_brush

FINER = 2
TRIANGLE, CIRCLE = BRUSHES.index("triangle"), BRUSHES.index("circle")


def shapes_for_kinds(shape: Tensor, kinds: Tensor) -> Tensor:
    """Return shapes (N, 10) with every stroke's unused entries as its brush, `kinds` (N,) of BRUSHES, has them."""
    used = torch.unique(kinds).tolist()
    if len(used) == 1:
        return shape_for_brush(shape, BRUSHES[used[0]])
    for kind in used:
        shape = torch.where((kinds == kind)[:, None], shape_for_brush(shape, BRUSHES[kind]), shape)
    return shape


def geometry_of(shape: Tensor, kinds: Tensor, side: int) -> Tensor:
    """Return strokes as SparsePicture draws them; gradients pass straight through the exact rasterizer's floors.

    Args:
        shape: (N, 10), see renderers/strokes.py.
        kinds: (N,) int64, brushes.
        side: of the picture, the longer one, in pixels.

    Returns:
        (N, 10): rows and columns of three control points, two radii, two opacities. Where there are triangles (N, 19):
        for each side of a triangle how much a row, a column, and neither add to the distance inside it.
    """
    shape = shapes_for_kinds(shape, kinds)
    triangle, circle = (kinds == TRIANGLE)[:, None], (kinds == CIRCLE)[:, None]
    curved = torch.stack(control_points(shape), dim=1)
    points = torch.where(triangle[..., None], shape[:, :6].unflatten(1, (3, 2)), curved)
    points = _floor(points * (2 * FINER * side - 1) + 0.5)
    radii = _floor(1.0 + shape[:, 6:8] * (FINER * side / 2))
    bias = [torch.where(circle, CIRCLE_BIAS[i], CURVE_BIAS[i]) for i in (0, 1)]
    curve = (points + 0.5 + bias[0][..., None]) / FINER - 0.5
    radii = (radii + bias[1]) / FINER
    path = torch.cat([curve[..., 0], curve[..., 1], radii, shape[:, 8:10]], dim=1)
    if not bool(triangle.any()):
        return path
    return torch.cat([path, _half_planes((points + 0.5) / FINER - 0.5) * triangle], dim=1)


def _half_planes(corner: Tensor) -> Tensor:
    side = corner.roll(-1, dims=1) - corner
    double_area = side[:, 0, 1] * side[:, 1, 0] - side[:, 0, 0] * side[:, 1, 1]
    scale = double_area.sign()[:, None] / (side.square().sum(dim=2) + 1e-6).sqrt()
    by_row, by_column = side[..., 1] * scale, -side[..., 0] * scale
    constant = -(by_row * corner[..., 0] + by_column * corner[..., 1]) + 0.5 / FINER
    return torch.stack([by_row, by_column, constant], dim=2).flatten(1)


def _floor(value: Tensor) -> Tensor:
    return value + (value.detach().floor() - value.detach())
