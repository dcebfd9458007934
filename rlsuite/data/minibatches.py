"""Which examples a minibatch has: a function of (seed, step), so that a fit resumes without the state of an iterator.

Shapes: M examples, B of them a minibatch.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from rlsuite.data.counters import counted_seed, uniform

ORDERS = ("epochs", "random")


def minibatch(seed: int, step: int, length: int, size: int, order: str = "epochs") -> Tensor:
    """Return the examples of the step-th minibatch.

    Args:
        seed: of the order.
        step: which minibatch, from 0.
        length: M.
        size: B.
        order: "epochs": every example once before any comes again, in an order that is new each time; a minibatch may
            hold the end of one epoch and the start of the next. "random": each drawn from all of them.

    Returns:
        (B,) int64 in [0, M).
    """
    if order == "random":
        draws = uniform(seed, torch.arange(step * size, (step + 1) * size), 1).squeeze(1)
        return (draws * length).to(torch.int64).clamp_(max=length - 1)
    parts, place, end = [], step * size, (step + 1) * size
    while place < end:
        epoch, first = divmod(place, length)
        last = min(length, first + end - place)
        parts.append(_permutation(seed, epoch, length)[first:last])
        place += last - first
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, length: int) -> Tensor:
    return torch.randperm(length, generator=torch.Generator().manual_seed(counted_seed(seed, epoch)))
