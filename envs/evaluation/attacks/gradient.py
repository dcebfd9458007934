"""Attacks along the sign of the gradient: one step (FGSM), and many with projection (PGD)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from envs.evaluation.attacks.ascend import Ascended, ascend, better, sign_steps
from envs.evaluation.attacks.attack import Attack, Box, Objective, inside, off_flat_ground, slope
from rlsuite.errors import require, require_finite


@dataclass(frozen=True, kw_only=True)
class FGSMConfig:
    """Nothing to choose."""


class FGSM(Attack):
    """One step of eps in every entry (Goodfellow, Shlens and Szegedy 2015, arXiv:1412.6572, section 4)."""

    Config = FGSMConfig

    def perturb(self, objective: Objective, x: Tensor, box: Box, eps: float, generator: torch.Generator) -> Tensor:
        """Return x + eps * sign(gradient), in the box; the gradient is taken beside x where x has none."""
        if eps == 0:
            return x
        place = off_flat_ground(objective, x, box, eps, generator)
        return inside(x + eps * slope(objective, place).sign(), x, box, eps)


@dataclass(frozen=True, kw_only=True)
class PGDConfig:
    """How it climbs.

    Attributes:
        steps: of the gradient's sign.
        step_share: length of a step as a share of eps; 0 for 2.5 / steps, which can reach the ball's far side.
        restarts: independent starts; of each input the best is kept.
        random_start: begin anywhere in the ball; false begins at the input, once.
    """

    steps: int = 10
    step_share: float = 0.0
    restarts: int = 1
    random_start: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "restarts"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require_finite("step_share", self.step_share, low=0.0)
        require(
            self.random_start or self.restarts == 1,
            f"restarts={self.restarts}: every start at the input is the same; use random_start=true",
        )


class PGD(Attack):
    """Many steps, each projected into the ball (Madry et al. 2018, arXiv:1706.06083, section 2.1); the best is kept."""

    Config = PGDConfig

    def perturb(self, objective: Objective, x: Tensor, box: Box, eps: float, generator: torch.Generator) -> Tensor:
        """Return the best inputs visited."""
        if eps == 0:
            return x
        config = self.config
        project = functools.partial(inside, x=x, box=box, eps=eps)
        size = eps * (config.step_share or 2.5 / config.steps)
        found: list[Ascended] = []
        for _ in range(config.restarts):
            if config.random_start:
                share = torch.rand(x.shape, generator=generator, device=generator.device).to(x) * 2 - 1
                start = inside(x + eps * share, x, box, eps)
            else:
                start = off_flat_ground(objective, x, box, eps, generator)
            found.append(ascend(objective, start, sign_steps(size), project, steps=config.steps))
        return functools.reduce(better, found).value
