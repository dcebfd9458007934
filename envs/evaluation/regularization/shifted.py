"""Environments, and any pictures, under other values of factors: what a network is scored in that must not mind them.

Shapes: N environments, P numbers of a factor's value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.regularization.factors import Factor, as_shares
from envs.evaluation.tasks import Task
from envs.wrapper import ObservationWrapper
from rlsuite.errors import UserError
from rlsuite.running.seeding import derive_seed, restore_generator


class ShiftedObservation(ObservationWrapper):
    """Environments whose every episode has values of its own for some factors. What happens in them does not change.

    Args:
        env: whose observations are pictures.
        factors: all applied, one after another.
        widths: of each.
        seed: of the values, until a reset has a seed.
    """

    def __init__(self, env: Any, factors: Sequence[Factor], widths: Sequence[float], *, seed: int = 0) -> None:
        super().__init__(env)
        shape = env.single_observation_space.shape
        if len(shape) != 3:
            raise UserError(f"factors change pictures (channels, height, width), not observations of {shape}")
        self.factors, self.widths = tuple(factors), tuple(widths)
        self.generator = torch.Generator().manual_seed(derive_seed(seed, "factors"))
        self._like = torch.zeros(self.num_envs, *shape)
        self.values = self._draw()

    def begin(self, rows: Tensor, seed: int | None) -> None:
        """Draw new values for some environments."""
        if seed is not None:
            self.generator.manual_seed(derive_seed(seed, "factors"))
        chosen = rows.cpu()[:, None]
        self.values = [torch.where(chosen, new, old) for new, old in zip(self._draw(), self.values, strict=True)]

    def see(self, observation: Tensor) -> Tensor:
        """Return the pictures under the values of their episodes."""
        pictures = as_shares(observation)
        for factor, z in zip(self.factors, self.values, strict=True):
            pictures = factor.apply(pictures, z)
        return (pictures * 255.0).round().to(torch.uint8) if observation.dtype == torch.uint8 else pictures

    def own_state(self) -> dict[str, Tensor]:
        """Return the values and the generator's state."""
        values = {f"value_{place}": z.clone() for place, z in enumerate(self.values)}
        return {**values, "generator": self.generator.get_state()}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Restore them."""
        self.values = [state[f"value_{place}"].clone() for place in range(len(self.factors))]
        restore_generator(self.generator, state["generator"])

    def _draw(self) -> list[Tensor]:
        drawn = zip(self.factors, self.widths, strict=True)
        return [factor.draw(self._like, width, self.generator) for factor, width in drawn]


class _Shifted(nn.Module):
    """A network whose every picture is seen under values of its own."""

    def __init__(self, module: nn.Module, factors: Sequence[Factor], widths: Sequence[float], seed: int) -> None:
        super().__init__()
        self.module, self.factors, self.widths = module, tuple(factors), tuple(widths)
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, pictures: Tensor) -> Tensor:
        pictures = as_shares(pictures)
        for factor, width in zip(self.factors, self.widths, strict=True):
            pictures = factor.apply(pictures, factor.draw(pictures, width, self.generator))
        return self.module(pictures)


def shifted_score(
    task: Task, module: nn.Module, factors: Sequence[Factor], widths: Sequence[float], seed: int
) -> np.ndarray:
    """Return scores (E,) of a network under factors: drawn for each episode, or for each picture."""
    if isinstance(task, PolicyTask):
        return task.score(module, seed, seen=lambda env: ShiftedObservation(env, factors, widths))
    return task.score(_Shifted(module, factors, widths, derive_seed(seed, "factors")), seed)
