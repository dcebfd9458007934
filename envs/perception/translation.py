"""What an agent sees, made by a generator: colors from ids, or other colors from colors.

Such a generator (rlsuite/generative/translators.py) stands between a simulation and a policy that was taught on other
pictures; it runs at every step, so a distilled one (envs/evaluation/distillation) is what one wants.

Shapes: B batch, H and W sides of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from envs.perception.perceiver import Perceiver, Seen, State
from rlsuite.generative.translators import Translator, TranslatorConfig

# Roberts' sequence in three dimensions (2018): powers of 1 / g, g^4 = g + 1. Any of its first points lie well apart.
_STEPS = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)


@dataclass(frozen=True, kw_only=True)
class TranslationPerceiverConfig:
    """Its numbers.

    Attributes:
        network: the generator.
        weights: file of its weights.
    """

    network: TranslatorConfig = field(default_factory=lambda: TranslatorConfig(width=16, levels=4))
    weights: str = ""


class FromColors(Perceiver):
    """Colors in the place of colors: another look of the same scene."""

    Config = TranslationPerceiverConfig
    network: Translator

    def __init__(self, *, config: TranslationPerceiverConfig, seed: int = 0) -> None:
        super().__init__(config=config)
        self.network = Translator(3, 3, config.network, seed)

    def entering(self, seen: Seen) -> Tensor:
        """Return what the generator takes, (B, 3, H, W) in [-1, 1]."""
        return 2.0 * seen["rgb"] - 1.0

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return the generator's picture as "rgb"."""
        return {"rgb": (0.5 + 0.5 * self.network(self.entering(seen))).clamp(0.0, 1.0)}, state


class FromIds(FromColors):
    """Colors made from which geometry is where: the pictures that were never rendered."""

    inputs = ("ids",)

    def entering(self, seen: Seen) -> Tensor:
        """Return ids in colors of their own."""
        return id_colors(seen["ids"])


def id_colors(ids: Tensor) -> Tensor:
    """Return ids (B, 1, H, W) as colors (B, 3, H, W) in [-1, 1), one a number, -1 (nothing) being black."""
    steps = torch.tensor(_STEPS, device=ids.device).view(1, 3, 1, 1)
    return 2.0 * torch.frac((ids + 1).float() * steps) - 1.0
