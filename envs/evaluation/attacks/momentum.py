"""FGSM with momentum (MI-FGSM): Dong et al. 2018, Boosting Adversarial Attacks with Momentum, arXiv:1710.06081."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.evaluation.attacks.ascend import ascend, momentum_steps
from envs.evaluation.attacks.attack import Attack, Box, Objective, inside, off_flat_ground
from rlsuite.errors import require, require_finite


@dataclass(frozen=True, kw_only=True)
class MIFGSMConfig:
    """How it climbs; the defaults are the paper's.

    Attributes:
        steps: each of eps / steps, so that all of them together just reach the ball's border.
        decay: how much of the gradients before a step counts, mu.
    """

    steps: int = 10
    decay: float = 1.0

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"steps={self.steps}: use 1 or more")
        require_finite("decay", self.decay, low=0.0)


class MIFGSM(Attack):
    """Steps along the sign of all gradients so far, which carries over better to other networks (algorithm 1)."""

    Config = MIFGSMConfig

    def perturb(self, objective: Objective, x: Tensor, box: Box, eps: float, generator: torch.Generator) -> Tensor:
        """Return the best inputs visited."""
        if eps == 0:
            return x
        start = off_flat_ground(objective, x, box, eps, generator)
        move = momentum_steps(eps / self.config.steps, self.config.decay)
        return ascend(objective, start, move, lambda value: inside(value, x, box, eps), steps=self.config.steps).value
