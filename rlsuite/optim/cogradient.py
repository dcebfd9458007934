"""Cogradient descent (CoGD): of two factors that are multiplied, the sparse one is kept from vanishing too early.

Zhuo et al. 2020, arXiv:2006.09142. In |b - A x|^2 + lambda |x|_1 the gradient of a column of A is multiplied by its
x_j: once that is zero the column learns nothing, though it may be worth it. Counting A as a function of x, the chain
rule has one term more, Tr[(dG/dA)^T dA/dx_j], and a column depends on its own x_j alone. A step of descent on that
term is the paper's projection,

    P(x_new, x_old) = x_new + beta * x_old,   beta_j = -rate * sum_i (dG/dA)_ij / x_j * dA_ij / dx_j,

with dA / dx the quotient of the last step's differences. It is taken only where the two are out of step: x_j is sparse
already and its column is not (R, the norm of the switch, is l1).

With g = A x - b that beta_j is -rate * sum_i g_i dA_ij / dx_j, without a division by x_j; `pull` is its sum. Our own
are the bounds of beta, without which a difference near zero makes it arbitrary, and thresholds as shares of means. P
makes nothing of entries that were zero before the step, too; so it must be asked at every step.

Shapes: x (...) any; what is said of its columns has that shape, or one that broadcasts to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlsuite.errors import require_choice, require_finite

KINDS = ("off", "coupled", "constant")
SMALLEST = 1e-12  # of the differences' product


@dataclass(frozen=True, kw_only=True)
class CogradientConfig:
    """When and how far sparse factors are sent back.

    Attributes:
        kind: of beta: "coupled" (from gradients and differences, the paper's), "constant", or "off" (never).
        constant: beta of kind "constant".
        largest: beta is cut to [0, largest]; below zero it would make sparse factors sparser.
        sparse_share: x_j is sparse where it is smaller than so many times the mean magnitude of all.
        dense_share: its column is not where its l1 norm is so many times the mean of all, or more.
    """

    kind: str = "coupled"
    constant: float = 0.02
    largest: float = 0.1
    sparse_share: float = 0.5
    dense_share: float = 1.0

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)
        for name in ("constant", "largest", "sparse_share", "dense_share"):
            require_finite(name, getattr(self, name), low=0.0)


def coupling(pull: Tensor, step: Tensor, rate: float) -> Tensor:
    """Return beta (...), not yet bounded; 0 where the sparse factor has not moved.

    Args:
        pull: sum_i g_i (A_ij - A_ij before) of every x_j.
        step: x_j - x_j before.
        rate: of descent on x.
    """
    still = step.abs() < SMALLEST
    return torch.where(still, 0.0, -rate * pull / torch.where(still, 1.0, step))


def switch(sparse: Tensor, size: Tensor, sparse_below: float | Tensor, dense_from: float | Tensor) -> Tensor:
    """Return where factors are out of step (...): |x_j| is below one bound, its column's norm not below the other."""
    return (sparse.abs() < sparse_below) & (size >= dense_from)


def project(new: Tensor, old: Tensor, beta: Tensor, on: Tensor) -> Tensor:
    """Return P(new, old) where it is on, and `new`, bit for bit, elsewhere."""
    return torch.where(on, new + beta * old, new)


class Cogradient:
    """The projection after every step of sparse factors, with the step before remembered.

    Args:
        config: see CogradientConfig.

    Attributes:
        asked: factors looked at so far.
        fired: 0-d tensor, those that were sent back: out of step, and P made another number of them.
    """

    def __init__(self, config: CogradientConfig) -> None:
        self.config = config
        self.asked = 0
        self.fired = torch.zeros((), dtype=torch.int64)
        self.before: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def after(
        self, new: Tensor, old: Tensor, dense: Tensor, size: Tensor, pull: Callable[[Tensor], Tensor], rate: float
    ) -> Tensor:
        """Return the sparse factors (...) to go on with.

        Args:
            new: (...) what the base optimizer made.
            old: (...) what it made that from.
            dense: the other factors, of now, in any shape.
            size: the l1 norm of each sparse factor's own column of these; it broadcasts to (...).
            pull: from a step of `dense` to sum_i g_i dA_ij of every sparse factor (...); g is the gradient of what is
                fitted with respect to A x, at `old`.
            rate: the base optimizer's, of the sparse factors.
        """
        before, self.before = self.before, (dense.clone(), old.clone())
        config = self.config
        if config.kind == "off" or (config.kind == "coupled" and before is None):
            return new
        if config.kind == "constant" or before is None:
            beta = torch.full_like(new, config.constant)
        else:
            beta = coupling(pull(dense - before[0]), old - before[1], rate)
        size = size.expand_as(new)
        on = switch(new, size, config.sparse_share * new.abs().mean(), config.dense_share * size.mean())
        self.asked += new.numel()
        back = project(new, old, beta.clamp(0.0, config.largest), on)
        self.fired = self.fired.to(on.device) + (back != new).sum()
        return back

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers."""
        before = None if self.before is None else [each.clone() for each in self.before]
        return {"asked": self.asked, "fired": self.fired.clone(), "before": before}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what state_dict() returned."""
        self.asked, self.fired = state["asked"], state["fired"].clone()
        before = state["before"]
        self.before = None if before is None else (before[0].clone(), before[1].clone())
