"""How well objects are counted: by the whole picture, and by its parts.

Shapes: B pictures, H x W pixels of density maps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class CountErrors(NamedTuple):
    """Errors of counts: the mean of |off|, and the root of the mean square (which the field calls MSE)."""

    absolute: float
    root_mean_square: float


def count_errors(predicted: Tensor, true: Tensor) -> CountErrors:
    """Return the errors of counts (B,)."""
    off = predicted.double() - true.double()
    return CountErrors(float(off.abs().mean()), float(off.square().mean().sqrt()))


def grid_errors(predicted: Tensor, true: Tensor, level: int) -> Tensor:
    """Return GAME(level) of each picture (B,): the sum of |off| over 4^level equal cells (Guerrero et al. 2015).

    Args:
        predicted: density maps (B, H, W).
        true: likewise.
        level: 0 is the whole picture's error; sides that are no multiples of 2^level have cells that differ by a pixel.
    """
    cells = 2**level
    off = (predicted - true).double()
    rows = [part.sum(1) for part in torch.tensor_split(off, cells, dim=1)]
    return torch.stack([part.sum(1).abs() for row in rows for part in torch.tensor_split(row, cells, dim=1)]).sum(0)
