"""PGD in a Euclidean ball: steps along the gradient itself, the change as a whole no longer than eps.

Madry et al. 2018 (arXiv:1706.06083, section 2.1) with the l2 norm in place of the largest entry. Other attacks here
bound every entry; this one is for defences that claim something about Euclidean changes. `noise` is as long a change in
any direction.

Shapes: B batch, (...) one input.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.evaluation.attacks.ascend import ascend
from envs.evaluation.attacks.attack import Box, Objective
from envs.evaluation.attacks.least import of_rows

TINY = 1e-12


def climb(
    objective: Objective, x: Tensor, box: Box, eps: float, generator: torch.Generator, *, steps: int = 40
) -> Tensor:
    """Return the best inputs (B, ...) visited, from a random start; each step is 2.5 eps / steps long.

    Args:
        objective: what is made large.
        x: inputs (B, ...), floats in the box.
        box: the range that inputs lie in; None for none.
        eps: the change's largest length.
        generator: of the starts.
        steps: gradients that are taken.
    """

    def project(changed: Tensor) -> Tensor:
        changed = x + shortened(changed - x, eps)
        return changed if box is None else changed.clamp(*box)

    start = project(x + eps * unit(_normal(x, generator)))
    return ascend(objective, start, lambda gradient: 2.5 * eps / steps * unit(gradient), project, steps=steps).value


def noise(x: Tensor, box: Box, length: float | Tensor, generator: torch.Generator) -> Tensor:
    """Return inputs changed by so much in random directions; `length` is one for all, or of each (B,)."""
    way = unit(_normal(x, generator))
    changed = x + (of_rows(length, x) if isinstance(length, Tensor) else length) * way
    return changed if box is None else changed.clamp(*box)


def lengths(change: Tensor) -> Tensor:
    """Return the Euclidean norms (B,) of changes (B, ...)."""
    return change.flatten(1).norm(dim=1)


def unit(value: Tensor) -> Tensor:
    """Return values (B, ...) of length 1, and zeros where they are zero."""
    return value / of_rows(lengths(value).clamp_min(TINY), value)


def shortened(change: Tensor, eps: float) -> Tensor:
    """Return changes (B, ...) no longer than eps."""
    return change * of_rows((eps / lengths(change).clamp_min(TINY)).clamp(max=1.0), change)


def _normal(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=generator.device).to(x)
