"""Hopper: a planar one-legged body of three joints hops forward (Erez, Tassa & Todorov 2011).

The task of Gymnasium's Hopper-v5: same options, defaults, observation, reward and termination.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from envs.locomotion.planar_walker import PlanarWalker
from envs.simulation.base import Fields
from envs.task import ViewConfig


def _camera() -> ViewConfig:
    return {"trackbodyid": 2, "distance": 3.0, "lookat": (0.0, 0.0, 1.15), "elevation": -20.0}


@dataclass(frozen=True)
class Hopper(PlanarWalker):
    """Options of Hopper, besides those of `PlanarWalker`.

    Attributes:
        healthy_state_range: All positions and velocities but x and height must be in it, bounds excluded.
    """

    name: ClassVar[str] = "Hopper"
    max_episode_steps: ClassVar[int] = 1000

    xml_file: str = "hopper.xml"
    default_camera_config: ViewConfig = field(default_factory=_camera)
    healthy_state_range: tuple[float, float] = (-100.0, 100.0)
    healthy_z_range: tuple[float, float] = (0.7, math.inf)
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)

    def healthy(self, fields: Fields) -> Tensor:
        """Return (n,) bool, environments whose torso is upright and whose state is not extreme."""
        low, high = self.healthy_state_range
        position, velocity = fields.field("qpos")[:, 2:], fields.field("qvel")
        inside = ((position > low) & (position < high)).all(dim=1)
        inside &= ((velocity > low) & (velocity < high)).all(dim=1)
        return inside & super().healthy(fields)
