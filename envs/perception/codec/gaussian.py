"""Values whose normal distribution, of mean 0, is told value by value (Balle et al. 2018, arXiv:1802.01436).

Shapes: B batch, any shape behind it; n values.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from envs.perception.codec.gdn import lower_bound
from envs.perception.codec.range_coder import Tables

LEAST = 1e-9  # probability
SMALLEST, LARGEST, LEVELS = 0.11, 256.0, 64  # standard deviations that are told apart when values become bytes
REACH = 5.0  # a table ends so many deviations away from 0; others are escaped


def gaussian_bits(values: Tensor, deviations: Tensor) -> Tensor:
    """Return what values (B, ...) with these standard deviations (B, ...) take, (B,) bits."""
    deviations = lower_bound(deviations, SMALLEST)
    away = values.abs()  # the tail's side, where differences of the cumulative are exact
    shares = _cumulative((0.5 - away) / deviations) - _cumulative((-0.5 - away) / deviations)
    return -torch.log2(lower_bound(shares, LEAST)).flatten(1).sum(dim=1)


def gaussian_rows(deviations: Tensor) -> np.ndarray:
    """Return the table (n,) of each standard deviation: the narrowest that is no narrower."""
    levels = torch.tensor(_levels(), dtype=torch.float64)
    found = torch.searchsorted(levels, deviations.detach().cpu().double().flatten())
    return found.clamp(max=LEVELS - 1).numpy()


@functools.cache
def gaussian_tables() -> Tables:
    """Return the tables of whole numbers, one for each level."""
    shares, first = [], []
    for deviation in _levels():
        reach = math.ceil(REACH * deviation)
        edges = [0.5 * math.erfc(-(value - 0.5) / (deviation * math.sqrt(2.0))) for value in range(-reach, reach + 2)]
        inside = np.maximum(np.diff(edges), 0.0)
        shares.append(np.append(inside, max(0.0, 1.0 - float(inside.sum()))))
        first.append(-reach)
    return Tables(shares, first)


@functools.cache
def _levels() -> tuple[float, ...]:
    step = (math.log(LARGEST) - math.log(SMALLEST)) / (LEVELS - 1)
    return tuple(math.exp(math.log(SMALLEST) + step * level) for level in range(LEVELS))


def _cumulative(values: Tensor) -> Tensor:
    return 0.5 * torch.erfc(-(2.0**-0.5) * values)
