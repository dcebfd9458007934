"""Cubic splines of one angle, several at once: not-a-knot between the outermost knots, straight beyond them.

Those are the functions by which the musculoskeletal model moves its knee axis and the quadriceps' insertions
(OpenSim's SimmSpline).

Shapes: F functions, C cells (C - 1 breaks), ... angles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

Knots = tuple[Sequence[float], Sequence[float]]


def not_a_knot(knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the slopes (n,) at the knots of the cubic spline whose first and last two cells are one cubic each.

    Args:
        knots: (n,) ascending, n of 4 or more.
        values: (n,) at the knots.
    """
    width = np.diff(knots)
    secant = np.diff(values) / width
    size = len(knots)
    matrix, right = np.zeros((size, size)), np.zeros(size)
    for row in range(1, size - 1):  # the second derivative is continuous
        before, after = width[row - 1], width[row]
        matrix[row, row - 1 : row + 2] = after, 2.0 * (before + after), before
        right[row] = 3.0 * (after * secant[row - 1] + before * secant[row])
    for row, (first, second) in ((0, (0, 1)), (size - 1, (size - 2, size - 3))):
        # The third derivative is the same on both sides of the outermost inner knot.
        near, far = width[first], width[second]
        inner = 1 if row == 0 else size - 2
        matrix[row, row], matrix[row, inner] = far, near + far
        right[row] = ((near + 2.0 * (near + far)) * far * secant[first] + near**2 * secant[second]) / (near + far)
    return np.linalg.solve(matrix, right)


class PiecewiseCubics:
    """Several splines of one angle, evaluated together with their derivatives.

    Args:
        functions: name -> knots and values.

    Attributes:
        names: Of the functions, in their order.
    """

    def __init__(self, functions: Mapping[str, Knots]) -> None:
        self.names = tuple(functions)
        breaks = np.unique(np.concatenate([np.asarray(knots, dtype=float) for knots, _ in functions.values()]))
        origins = np.concatenate([breaks[:1], breaks])  # a cell's left end; the first cell's is its right end
        cells = np.zeros((4, len(functions), len(origins)))
        for index, (knots, values) in enumerate(functions.values()):
            cells[:, index] = _cells(np.asarray(knots, dtype=float), np.asarray(values, dtype=float), origins)
        self._breaks = torch.from_numpy(breaks)
        self._origins = torch.from_numpy(origins)
        self._cells = torch.from_numpy(cells)

    def __call__(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and derivatives, (F, ...) each, at angles (...) float64."""
        cell = torch.bucketize(angle, self._breaks, right=True).flatten()
        offset = angle - self._origins[cell].view(angle.shape)
        chosen = self._cells.index_select(2, cell).unflatten(2, angle.shape)
        constant, slope, square, cube = chosen.unbind()
        cubed = cube * offset
        value = ((cubed + square) * offset + slope) * offset + constant
        return value, (3.0 * cubed + 2.0 * square) * offset + slope


def _cells(knots: np.ndarray, values: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Return one spline's polynomial about each origin, (4, C), the constant first."""
    slopes = not_a_knot(knots, values)
    width = np.diff(knots)
    secant = np.diff(values) / width
    square = (3.0 * secant - 2.0 * slopes[:-1] - slopes[1:]) / width
    cube = (slopes[:-1] + slopes[1:] - 2.0 * secant) / width**2
    cells = np.zeros((4, len(origins)))
    for index, origin in enumerate(origins):
        if index == 0 or origin < knots[0]:
            cells[:2, index] = values[0] + slopes[0] * (origin - knots[0]), slopes[0]
        elif origin >= knots[-1]:
            cells[:2, index] = values[-1] + slopes[-1] * (origin - knots[-1]), slopes[-1]
        else:
            left = int(np.searchsorted(knots, origin, side="right")) - 1
            a, b, c, d = values[left], slopes[left], square[left], cube[left]
            x = origin - knots[left]
            cells[:, index] = a + x * (b + x * (c + x * d)), b + x * (2.0 * c + 3.0 * x * d), c + 3.0 * x * d, d
    return cells
