"""Noise of the same size as an attack: what any random change of the input does, beside which attacks are shown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.evaluation.attacks.attack import Attack, Box, Objective, inside, signs
from rlsuite.errors import require_choice

KINDS = ("sign", "uniform")


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """Which noise.

    Attributes:
        kind: "sign" (every entry by eps, up or down: as large as an attack's) or "uniform" (each by eps at most).
    """

    kind: str = "sign"

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)


class Noise(Attack):
    """A random change, drawn without looking."""

    Config = NoiseConfig

    @property
    def white_box(self) -> bool:
        """No: it sees nothing at all."""
        return False

    def perturb(self, objective: Objective, x: Tensor, box: Box, eps: float, generator: torch.Generator) -> Tensor:
        """Return x with noise."""
        if eps == 0:
            return x
        if self.config.kind == "sign":
            noise = signs(x, generator)
        else:
            noise = (torch.rand(x.shape, generator=generator, device=generator.device) * 2 - 1).to(x)
        return inside(x + eps * noise, x, box, eps)
