"""HAAM, the Harmonic Adversarial Attack Method (arXiv:1807.10590): the worst light for a network that sees pictures.

Its change of a picture has no edges (envs/evaluation/attacks/fields.py), so it may be larger than noise before it is
noticed, by people and by detectors of edges. What is searched is a handful of numbers: a few random lights, the best of
them improved by Adam through the closed form of the field; or, where only outputs are seen, by small random changes.
The paper's own optimizer and amplitudes could not be read; these are our own.

Shapes: B pictures, C channels, H and W sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from envs.evaluation.attacks.ascend import adam_steps, ascend
from envs.evaluation.attacks.attack import Attack, Box, Objective
from envs.evaluation.attacks.fields import FieldConfig, Fields, Light
from rlsuite.errors import UserError, require, require_choice, require_finite

Harm = Callable[[Light], Tensor]
Draw = Callable[[], Light]
MODES = ("white_box", "black_box")
STEP, LARGEST, SMALLEST = 0.3, 1.0, 0.01  # deviations of the black box's small changes: first, most, least
GROW, SHRINK = 1.5, 1.5**-0.25  # the one-fifth rule: steady where one change of five succeeds


@dataclass(frozen=True, kw_only=True)
class HAAMConfig(FieldConfig):
    """How the light is found.

    Attributes:
        mode: "white_box" (draws, then steps by gradients) or "black_box" (outputs alone).
        draws: random lights to begin with.
        steps: of Adam, from the best of them.
        rate: Adam's learning rate.
        queries: outputs that a black box is asked for: half for random lights, half for small changes of the best.
        universal: one light for all pictures of a batch, the worst on average.
    """

    mode: str = "white_box"
    draws: int = 24
    steps: int = 20
    rate: float = 0.05
    queries: int = 200
    universal: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("mode", self.mode, MODES)
        require(self.draws >= 1, f"draws={self.draws}: use 1 or more")
        require(self.steps >= 0, f"steps={self.steps}: use 0 (draws alone) or more")
        require(self.queries >= 1, f"queries={self.queries}: use 1 or more")
        require_finite("rate", self.rate, above=0.0)


class HAAM(Attack):
    """The worst of smooth lights."""

    Config = HAAMConfig
    needs: ClassVar = {"convolutional": "it changes the light in pictures; use attacks/pgd"}

    @property
    def white_box(self) -> bool:
        """As its mode says."""
        return self.config.mode == "white_box"

    def perturb(self, objective: Objective, x: Tensor, box: Box, eps: float, generator: torch.Generator) -> Tensor:
        """Return pictures (B, C, H, W) under the worst light found.

        Raises:
            UserError: if these are no pictures.
        """
        if x.dim() != 4:
            raise UserError(f"attacks/harmonic changes pictures, not inputs of {tuple(x.shape[1:])}; use attacks/pgd")
        if eps == 0:
            return x
        _, channels, height, width = x.shape
        fields = Fields(self.config, (channels, height, width))
        light = self.find(objective, x, box, eps, fields, generator)
        with torch.no_grad():
            return fields.lit(x, light.rows(len(x)) if self.config.universal else light, eps, box)

    def find(
        self, objective: Objective, x: Tensor, box: Box, eps: float, fields: Fields, generator: torch.Generator
    ) -> Light:
        """Return the worst lights found, one a picture, or one for all."""
        rows = 1 if self.config.universal else len(x)

        def harm(light: Light) -> Tensor:
            if self.config.universal:
                return objective(fields.lit(x, light.rows(len(x)), eps, box)).mean(0, keepdim=True)
            return objective(fields.lit(x, light, eps, box))

        def draw() -> Light:
            return Light(*(part.to(x.device) for part in fields.draw(rows, generator)))

        if not self.white_box:
            return search(harm, draw, fields, self.config.queries, generator)
        family, numbers = best_of(harm, draw, self.config.draws)[0]
        climbed = ascend(
            lambda changed: harm(Light(family, changed)),
            numbers,
            adam_steps(self.config.rate),
            fields.bounded,
            steps=self.config.steps,
        )
        return Light(family, climbed.value)


@torch.no_grad()
def best_of(harm: Harm, draw: Draw, draws: int) -> tuple[Light, Tensor]:
    """Return of so many lights drawn the worst of each row, and its harm (B,).

    Args:
        harm: of lights (B, ...): (B,).
        draw: returns lights for B rows.
        draws: how many.
    """
    best = draw()
    highest = harm(best)
    for _ in range(draws - 1):
        other = draw()
        found = harm(other)
        better = (found > highest)[:, None]
        best = Light(*(torch.where(better, new, old) for new, old in zip(other, best, strict=True)))
        highest = torch.maximum(found, highest)
    return best, highest


@torch.no_grad()
def search(harm: Harm, draw: Draw, fields: Fields, queries: int, generator: torch.Generator) -> Light:
    """Return the worst lights found by values alone: random ones, then a (1+1) evolution strategy from the best.

    Args:
        harm: of lights (B, ...): (B,).
        draw: returns lights for B rows.
        fields: of the lights.
        queries: values that are asked for, of each row.
        generator: of the changes.
    """
    drawn = -(-queries // 2)
    best, highest = best_of(harm, draw, drawn)
    size = torch.full_like(highest, STEP)[:, None]
    for _ in range(queries - drawn):
        step = torch.randn(best.numbers.shape, generator=generator).to(best.numbers)
        other = Light(best.family, fields.bounded(best.numbers + size * step))
        found = harm(other)
        better = (found > highest)[:, None]
        best = Light(best.family, torch.where(better, other.numbers, best.numbers))
        highest = torch.maximum(found, highest)
        size = torch.where(better, size * GROW, size * SHRINK).clamp(SMALLEST, LARGEST)
    return best
