"""The exact rasterizer written plainly, one stroke and one circle at a time, in NumPy.

It is what renderers/bezier.py must equal, and what scripts/benchmark.py what=painting measures it against.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FillCircle = Callable[[np.ndarray, int, int, int, float], None]


def draw_stroke(shape: np.ndarray, size: int, *, circles: int = 100, fill: FillCircle | None = None) -> np.ndarray:
    """Draw one stroke, as the official code does.

    Args:
        shape: (10,), see renderers/strokes.py.
        size: W.
        circles: along the curve.
        fill: draws a filled circle on a raster: (raster, row, column, radius, value); by default in NumPy.

    Returns:
        The opacity map (W, W), float32.
    """
    row_0, column_0, row_1, column_1, row_2, column_2, radius_0, radius_2, value_0, value_2 = (float(x) for x in shape)
    row_1 = row_0 + (row_2 - row_0) * row_1
    column_1 = column_0 + (column_2 - column_0) * column_1
    side = 2 * size

    def pixel(place: float) -> int:
        return int(np.floor(place * (side - 1) + 0.5))

    row_0, row_1, row_2 = pixel(row_0), pixel(row_1), pixel(row_2)
    column_0, column_1, column_2 = pixel(column_0), pixel(column_1), pixel(column_2)
    radius_0, radius_2 = int(1 + radius_0 * size // 2), int(1 + radius_2 * size // 2)
    raster = np.zeros((side, side), np.float32)
    for number in range(circles):
        time = number * (1.0 / circles)
        rest = 1.0 - time
        row = int(rest * rest * row_0 + 2 * time * rest * row_1 + time * time * row_2)
        column = int(rest * rest * column_0 + 2 * time * rest * column_1 + time * time * column_2)
        radius = int(rest * radius_0 + time * radius_2)
        (fill or fill_circle)(raster, row, column, radius, rest * value_0 + time * value_2)
    return raster.reshape(size, 2, size, 2).mean(axis=(1, 3))


def draw_glyph_stroke(
    shape: np.ndarray, size: int, *, circles: int = 100, fill: FillCircle | None = None
) -> np.ndarray:
    """Draw one stroke of a glyph, as the official code of arXiv:1806.08990 does (bezier.py); arguments as draw_stroke.

    Returns:
        How much of each pixel is inked (W, W), float32: 1 minus the official code's picture.
    """
    side = 4 * size
    numbers = [float(x) for x in shape[:9]]
    row_0, column_0, row_1, column_1, row_2, column_2 = (int(np.floor(x * (side - 1) + 0.5)) for x in numbers[:6])
    radius_0, radius_1, radius_2 = (int(np.floor(x * size / 2 + size / 32)) for x in numbers[6:])
    raster = np.zeros((side, side), np.float32)
    for number in range(circles):
        time = number * (1.0 / circles)
        rest = 1.0 - time
        first, middle, last = rest * rest, 2.0 * time * rest, time * time
        row = int(first * row_0 + middle * row_1 + last * row_2)
        column = int(first * column_0 + middle * column_1 + last * column_2)
        radius = int(first * radius_0 + middle * radius_1 + last * radius_2)
        (fill or fill_circle)(raster, row, column, radius, 1.0)
    # Bilinear reduction by four: a pixel's centre lies between the second and third of its four rows and columns.
    return raster.reshape(size, 4, size, 4)[:, 1:3, :, 1:3].mean(axis=(1, 3))


def fill_circle(raster: np.ndarray, row: int, column: int, radius: int, value: float) -> None:
    """Fill Bresenham's midpoint circle, row by row, where it lies on the raster."""
    side = len(raster)
    across, down, error, minus = radius, 0, 0, 2 * radius - 1
    while across >= down:
        for half, distance in ((across, down), (down, across)):
            for line in (row - distance, row + distance):
                if 0 <= line < side:
                    raster[line, max(0, column - half) : max(0, column + half + 1)] = value
        error += 2 * down + 1
        down += 1
        if error > 0:
            error -= minus
            minus -= 2
            across -= 1
