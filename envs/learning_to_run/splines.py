"""Functions of angles as cubics on cells, many at once, with their derivatives.

Made from knots: OpenSim's SimmSplines, straight beyond the outermost knots, by which the model moves its knee axis and
the quadriceps' insertions. Or sampled from any smooth function.

Shapes: S slots, of which each has an angle of its own; F functions a slot; C cells in all; A legs; N environments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.simulation.base import Movable

Knots = tuple[Sequence[float], Sequence[float]]
_APART = 20.0  # rad between the slots' angles, where all slots' breaks stand in one row
_LARGEST = 9.0  # rad; larger angles count as this


class _Slot(NamedTuple):
    """One slot's cells.

    Attributes:
        breaks: (c - 1,) between the cells.
        origins: (c,) of the cells' polynomials.
        cells: (4, F, c) coefficients, the constant first.
    """

    breaks: np.ndarray
    origins: np.ndarray
    cells: np.ndarray


def spline_slopes(knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the slopes (n,) at the knots of the cubic spline whose outermost third derivatives are those of cubics.

    The cubics go through the first and the last four knots (Forsythe, Malcolm & Moler 1977), as OpenSim's SimmSpline
    has it.

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
    for row, cell, four in ((0, 0, slice(0, 4)), (size - 1, size - 2, slice(size - 4, size))):
        third = np.polyfit(knots[four] - knots[four].mean(), values[four], 3)[0]
        matrix[row, [cell, cell + 1]] = 1.0
        right[row] = 2.0 * secant[cell] + width[cell] ** 2 * third
    return np.linalg.solve(matrix, right)


class PiecewiseCubics(Movable):
    """Functions of S angles, F of each.

    Args:
        slots: The angles' cells.
    """

    def __init__(self, slots: Sequence[_Slot]) -> None:
        count = len(slots)
        shifted = [slot.breaks + index * _APART for index, slot in enumerate(slots)]
        between = [np.array([index * _APART + _APART / 2.0]) for index in range(count - 1)] + [np.empty(0)]
        row = np.concatenate([part for pair in zip(shifted, between, strict=True) for part in pair])
        self._breaks = torch.from_numpy(row)
        self._origins = torch.from_numpy(np.concatenate([slot.origins for slot in slots]))
        cells = np.concatenate([slot.cells for slot in slots], axis=2)
        self._functions = cells.shape[1]
        self._cells = torch.from_numpy(np.ascontiguousarray(cells.transpose(2, 0, 1).reshape(cells.shape[2], -1)))
        self._shift = torch.arange(count, dtype=torch.float64).view(count, 1) * _APART

    def __call__(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and derivatives, (A, S, F, N) each, at angles (A, S, N) in the tables' dtype."""
        legs, slots, count = angle.shape
        angle = angle.clamp(-_LARGEST, _LARGEST)
        cell = torch.bucketize(angle.detach() + self._shift, self._breaks, right=True).flatten()
        offset = (angle - self._origins.index_select(0, cell).view(angle.shape)).unsqueeze(2)
        chosen = self._cells.index_select(0, cell).view(legs, slots, count, 4, self._functions)
        constant, slope, square, cube = chosen.permute(3, 0, 1, 4, 2).contiguous().unbind()
        cubed = cube * offset
        value = ((cubed + square) * offset + slope) * offset + constant
        return value, (3.0 * cubed + 2.0 * square) * offset + slope


def spline_cubics(functions: Mapping[str, Knots]) -> PiecewiseCubics:
    """Return the splines through knots and values, all of one angle, in their order."""
    breaks = np.unique(np.concatenate([np.asarray(knots, dtype=float) for knots, _ in functions.values()]))
    origins = np.concatenate([breaks[:1], breaks])  # a cell's left end; the first cell's is its right end
    cells = np.zeros((4, len(functions), len(origins)))
    for index, (knots, values) in enumerate(functions.values()):
        cells[:, index] = _cells(np.asarray(knots, dtype=float), np.asarray(values, dtype=float), origins)
    return PiecewiseCubics([_Slot(breaks, origins, cells)])


def sampled_cubics(slots: Sequence[tuple[Callable[[Tensor, Tensor], Tensor], np.ndarray]]) -> PiecewiseCubics:
    """Return cubics that have the values and the derivatives of functions at the ends of cells, straight beyond them.

    Args:
        slots: Of each angle, the functions and the breaks (c - 1,) between cells. The functions map angles (c,) to
            (F, c), differentiably; their second argument (c,) are angles inside of the same cells, which say what form
            a function has where that changes at a break.
    """

    def ends(functions: Callable[[Tensor, Tensor], Tensor], angles: np.ndarray, inside: Tensor) -> list[np.ndarray]:
        angle = torch.from_numpy(angles).requires_grad_()
        with torch.enable_grad():
            values = functions(angle, inside)
            rates = [torch.autograd.grad(row.sum(), angle, retain_graph=True, allow_unused=True)[0] for row in values]
        rates = [torch.zeros_like(angle) if rate is None else rate for rate in rates]
        return [values.detach().numpy(), torch.stack(rates).numpy()]

    found = []
    for functions, breaks in slots:
        inside = torch.from_numpy((breaks[:-1] + breaks[1:]) / 2.0)
        (start, start_rate), (end, end_rate) = (ends(functions, part, inside) for part in (breaks[:-1], breaks[1:]))
        width = np.diff(breaks)
        secant = (end - start) / width
        square = (3.0 * secant - 2.0 * start_rate - end_rate) / width
        cube = (start_rate + end_rate - 2.0 * secant) / width**2
        inner = np.stack([start, start_rate, square, cube])
        none = np.zeros_like(start[:, :1])
        first = np.stack([start[:, :1], start_rate[:, :1], none, none])
        last = np.stack([end[:, -1:], end_rate[:, -1:], none, none])
        origins = np.concatenate([breaks[:1], breaks])
        found.append(_Slot(breaks, origins, np.concatenate([first, inner, last], axis=2)))
    return PiecewiseCubics(found)


def _cells(knots: np.ndarray, values: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Return one spline's polynomial about each origin, (4, C), the constant first."""
    slopes = spline_slopes(knots, values)
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
