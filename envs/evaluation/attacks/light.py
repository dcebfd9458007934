"""Uneven light on what pixel policies see: for training that gets used to it, and the worst one for a whole episode.

Shapes: N environments, observations (N, C, H, W) of bytes, or of floats in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from envs.evaluation.attacks.fields import FieldConfig, Fields, Light
from envs.wrapper import ObservationWrapper
from rlsuite.errors import UserError, require, require_finite
from rlsuite.running.seeding import derive_seed, restore_generator


@dataclass(frozen=True, kw_only=True)
class LightConfig:
    """How the light changes.

    Attributes:
        eps: amplitude, as a share of the pictures' range.
        drift: deviation of each step of a light's random walk: a moving shadow (0.02); 0 for one that stands still
            through an episode.
        fields: which lights.
    """

    eps: float = 0.2
    drift: float = 0.0
    fields: FieldConfig = field(default_factory=FieldConfig)

    def __post_init__(self) -> None:
        require_finite("eps", self.eps, low=0.0)
        require_finite("drift", self.drift, low=0.0)


class HarmonicLight(ObservationWrapper):
    """Environments in uneven light, drawn anew for every episode, or one given light for all of them.

    Args:
        env: whose observations are pictures.
        config: how.
        light: of one row, shown always; None to draw.
        seed: of the draws, until a reset has a seed.
    """

    def __init__(self, env: Any, config: LightConfig, *, light: Light | None = None, seed: int = 0) -> None:
        super().__init__(env)
        shape = env.single_observation_space.shape
        if len(shape) != 3:
            raise UserError(f"light falls on pictures (channels, height, width), not on observations of {shape}")
        self.config, self.given = config, light
        self.fields = Fields(config.fields, shape)
        self.generator = torch.Generator().manual_seed(derive_seed(seed, "light"))
        self.light = self.fields.draw(self.num_envs, self.generator) if light is None else light.rows(self.num_envs)

    def begin(self, rows: Tensor, seed: int | None) -> None:
        """Draw new lights for some environments."""
        if seed is not None:
            self.generator.manual_seed(derive_seed(seed, "light"))
        if self.given is None:
            fresh, chosen = self.fields.draw(self.num_envs, self.generator), rows.cpu()[:, None]
            self.light = Light(*(torch.where(chosen, new, old) for new, old in zip(fresh, self.light, strict=True)))

    def see(self, observation: Tensor) -> Tensor:
        """Return pictures under the lights as they are now; drifting ones move on."""
        bytes_in = observation.dtype == torch.uint8
        pictures = observation.float() / 255.0 if bytes_in else observation
        light = Light(*(part.to(observation.device) for part in self.light))
        lit = self.fields.lit(pictures, light, self.config.eps)
        if self.config.drift and self.given is None:
            self.light = self.fields.walk(self.light, self.config.drift, self.generator)
        return (lit * 255.0).round().to(torch.uint8) if bytes_in else lit

    def own_state(self) -> dict[str, Tensor]:
        """Return the lights and the generator's state."""
        return {
            "family": self.light.family.clone(),
            "numbers": self.light.numbers.clone(),
            "generator": self.generator.get_state(),
        }

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Restore them."""
        self.light = Light(state["family"].clone(), state["numbers"].clone())
        restore_generator(self.generator, state["generator"])


def worst_light(
    returns: Callable[[Light], float], fields: Fields, draws: int, generator: torch.Generator
) -> tuple[Light, Sequence[float]]:
    """Return the light, one for whole episodes, that costs the most of random ones, and what each of them left.

    Args:
        returns: mean return under a light of one row: the queries of a black box are episodes.
        fields: for the pictures' size.
        draws: lights that are tried.
        generator: of the lights.
    """
    require(draws >= 1, f"draws={draws}: use 1 or more")
    lights = [fields.draw(1, generator) for _ in range(draws)]
    earned = [returns(light) for light in lights]
    return lights[min(range(draws), key=earned.__getitem__)], earned
