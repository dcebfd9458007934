"""DeepFool (Moosavi-Dezfooli, Fawzi and Frossard 2016, arXiv:1511.04599, algorithm 2): the least change, by lines.

Its changes are small and seldom carry over to other networks.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.evaluation.attacks.attack import Box
from envs.evaluation.attacks.least import LeastChange, Outputs, of_rows
from rlsuite.errors import require, require_finite


@dataclass(frozen=True, kw_only=True)
class DeepFoolConfig:
    """How it goes; the defaults are the paper's.

    Attributes:
        overshoot: how far past the border, as a share of the way to it.
        steps: linearizations at most.
    """

    overshoot: float = 0.02
    steps: int = 50

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"steps={self.steps}: use 1 or more")
        require_finite("overshoot", self.overshoot, low=0.0)


class DeepFool(LeastChange):
    """Step by step to the nearest border between classes, were the classifier linear from where it stands."""

    Config = DeepFoolConfig

    def least(self, outputs: Outputs, x: Tensor, label: Tensor, box: Box) -> Tensor:
        """Return inputs just beyond the nearest border; see LeastChange."""
        changed, way = x.clone(), torch.zeros_like(x)
        rows = torch.arange(len(x), device=x.device)
        for _ in range(self.config.steps):
            with torch.enable_grad():
                leaf = changed.detach().requires_grad_()
                output = outputs(leaf)
                above = output - output[rows, label][:, None]  # of the true class, 0
                slopes = torch.stack(
                    [torch.autograd.grad(column.sum(), leaf, retain_graph=True)[0] for column in above.unbind(1)], dim=1
                )
            above = above.detach()
            standing = (above <= 0).all(1)
            if not standing.any():
                break
            length = slopes.flatten(2).norm(dim=2).clamp_min(1e-12)
            distance = (above.abs() + 1e-4) / length
            distance[rows, label] = torch.inf
            near = distance.argmin(1)
            step = of_rows((distance / length)[rows, near], x) * slopes[rows, near]
            way = way + torch.where(of_rows(standing, x), step, 0.0)
            changed = x + (1 + self.config.overshoot) * way
            changed = changed if box is None else changed.clamp(*box)
        return changed
