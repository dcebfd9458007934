"""Proximal steps: a gradient step on what is smooth, then the exact answer to what is not, an l1 norm.

Shapes: any; every entry by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def soft_threshold(value: Tensor, by: float | Tensor) -> Tensor:
    """Return the entries moved by `by` towards zero, those within it being zero: the prox of by * |value|_1."""
    return value.sign() * (value.abs() - by).clamp_min(0.0)


class Fista:
    """Accelerated proximal descent on smooth(x) + weight * |x|_1 (Beck and Teboulle 2009, FISTA), entry by entry.

    As in structured pruning by masks (Lin et al. 2019, arXiv:1903.09291) the gradient is that at x, not at the
    extrapolated point, since x is what the network has while it learns beside it:

        y = x + (a_old - 1) / a * (x - x_old),   a = (1 + sqrt(1 + 4 a_old^2)) / 2
        x_new = soft_threshold(y - rate * gradient, rate * weight), and not below zero where `nonnegative`

    Args:
        weight: of the l1 norm.
        nonnegative: whether negative entries become zero.
        accelerate: False leaves the extrapolation out: plain proximal descent.
    """

    def __init__(self, weight: float, *, nonnegative: bool = False, accelerate: bool = True) -> None:
        self.weight, self.nonnegative, self.accelerate = weight, nonnegative, accelerate
        self.momentum = 1.0
        self.before: Tensor | None = None

    @torch.no_grad()
    def step(self, value: Tensor, gradient: Tensor, rate: float) -> Tensor:
        """Return the next entries, in the shape of `value`."""
        start = value
        if self.accelerate and self.before is not None:
            momentum = (1.0 + (1.0 + 4.0 * self.momentum**2) ** 0.5) / 2.0
            start = value + (self.momentum - 1.0) / momentum * (value - self.before)
            self.momentum = momentum
        self.before = value.clone()
        moved = soft_threshold(start - rate * gradient, rate * self.weight)
        return moved.clamp_min(0.0) if self.nonnegative else moved

    def restart(self) -> None:
        """Forget the steps before, as the papers' code does where the learning rate falls."""
        self.momentum, self.before = 1.0, None

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers."""
        return {"momentum": self.momentum, "before": None if self.before is None else self.before.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what state_dict() returned."""
        before = state["before"]
        self.momentum, self.before = state["momentum"], None if before is None else before.clone()
