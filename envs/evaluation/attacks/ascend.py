"""The one loop of attacks by gradients: climb, stay within bounds, keep the best that was visited.

Shapes: B batch; values (B, ...) are whatever is climbed in: changed inputs, or a few numbers that make them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from envs.evaluation.attacks.attack import Objective

Mover = Callable[[Tensor], Tensor]  # gradient (B, ...) -> step (B, ...)


class Ascended(NamedTuple):
    """The best values (B, ...) visited, and their objective (B,)."""

    value: Tensor
    objective: Tensor


def ascend(
    objective: Objective, start: Tensor, move: Mover, project: Callable[[Tensor], Tensor], *, steps: int
) -> Ascended:
    """Climb from `start`; the start and the end are among what is visited.

    Args:
        objective: of values (B, ...), each of its own row, differentiable.
        start: where it begins, within bounds.
        move: from gradients to steps; called once for every step, so it may remember.
        project: back into bounds.
        steps: gradients that are taken; the objective is evaluated once more.
    """
    value, best = start.detach(), None
    for number in range(steps + 1):
        with torch.set_grad_enabled(number < steps):
            leaf = value.detach().requires_grad_(number < steps)
            found = objective(leaf)
            gradient = torch.autograd.grad(found.sum(), leaf)[0] if number < steps else None
        here = Ascended(value, found.detach())
        best = here if best is None else better(best, here)
        if gradient is not None:
            value = project(value + move(gradient))
    assert best is not None
    return best


def better(one: Ascended, other: Ascended) -> Ascended:
    """Return row by row the one of the larger objective; `one` where they are equal, or the other's is no number."""
    above = other.objective > one.objective
    row = above.view(-1, *[1] * (one.value.dim() - 1))
    return Ascended(torch.where(row, other.value, one.value), torch.where(above, other.objective, one.objective))


def sign_steps(size: float) -> Mover:
    """Return steps of one size in every entry, along the gradient's sign."""
    return lambda gradient: size * gradient.sign()


def momentum_steps(size: float, decay: float) -> Mover:
    """Return steps along the sign of a running sum of gradients, each divided by its mean magnitude.

    Dong et al. 2018 (arXiv:1710.06081), equations 6 and 7; they divide by the sum of magnitudes, which makes no
    difference to the signs.
    """
    kept: list[Tensor] = []

    def move(gradient: Tensor) -> Tensor:
        size_of = gradient.abs().flatten(1).mean(1).clamp_min(torch.finfo(gradient.dtype).tiny)
        gradient = gradient / size_of.view(-1, *[1] * (gradient.dim() - 1))
        kept[:] = [decay * kept[0] + gradient if kept else gradient]
        return size * kept[0].sign()

    return move


def adam_steps(rate: float, decays: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8) -> Mover:
    """Return Adam's steps, uphill (Kingma and Ba 2015, algorithm 1): entry by entry, so rows stay apart."""
    moments: list[Tensor] = []
    count = 0

    def move(gradient: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if not moments:
            moments[:] = [torch.zeros_like(gradient), torch.zeros_like(gradient)]
        moments[0].lerp_(gradient, 1 - decays[0])
        moments[1].lerp_(gradient.square(), 1 - decays[1])
        first, second = (moment / (1 - decay**count) for moment, decay in zip(moments, decays, strict=True))
        return rate * first / (second.sqrt() + epsilon)

    return move
