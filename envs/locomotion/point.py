"""Point 3-D: a point that moves where it is told, and is paid for being near the origin.

The smallest task of arXiv:1911.12574: T = 30, s' = s + a with a within 0.1, reward -||s'||. The reward
is a known function of what is seen, here of the next observation.

Shapes: n environments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from envs.random import EnvironmentRandom
from envs.simulation.base import Fields, ModelFacts, Simulation
from envs.task import KnownReward, Marker, Outcome, Task, ViewConfig, never

_LARGEST_STEP = 0.1
_START = 1.0  # starts are uniform within this of the origin, along each axis


@dataclass(frozen=True)
class Point3D(Task):
    """A point in space; it has no options of its own."""

    name: ClassVar[str] = "Point3D"
    max_episode_steps: ClassVar[int] = 30
    pixel_view: ClassVar[ViewConfig] = {"lookat": (0.0, 0.0, 0.0), "distance": 3.2}
    markers: ClassVar[tuple[Marker, ...]] = (Marker("goal", upon="goal"),)

    xml_file: str = "point_3d.xml"

    @property
    def known_reward(self) -> KnownReward:
        """The reward of a step."""
        return self.reward

    def reward(self, observation: Tensor, action: Tensor, following: Tensor) -> Tensor:
        """Return the reward (..., rows) of steps that lead to observations (..., rows, 3)."""
        return -following.square().sum(dim=-1).sqrt()

    def action_bounds(self, facts: ModelFacts) -> tuple[Tensor, Tensor]:
        """Return the bounds of a step along each axis, (3,) each."""
        high = torch.full((3,), _LARGEST_STEP, dtype=torch.float64)
        return -high, high

    def actuate(self, simulation: Simulation, action: Tensor, random: EnvironmentRandom) -> None:
        """Give the point the speed that takes it there in one step; nothing else acts on it."""
        clipped = action.clamp(-_LARGEST_STEP, _LARGEST_STEP)
        simulation.field("qvel").copy_(clipped / self.seconds(simulation.facts))

    def observation(self, fields: Fields) -> Tensor:
        """Return the position, (n, 3)."""
        return fields.field("qpos").clone()

    def tracked(self, fields: Fields) -> Tensor:
        """Return the position, (n, 3)."""
        return fields.field("qpos")

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Charge the distance that is left."""
        return Outcome(self.reward(before, action, after), never(fields), {})

    def initial_state(self, facts: ModelFacts, random: EnvironmentRandom, env_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a place."""
        place = random.uniform(env_ids, 3, -_START, _START)
        return place, torch.zeros_like(place)
