"""Walker2d: a planar two-legged body of six joints walks forward (Erez, Tassa & Todorov 2011).

The task of Gymnasium's Walker2d-v5: same options, defaults, observation, reward and termination.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from envs.locomotion.planar_walker import PlanarWalker
from envs.task import ViewConfig


def _camera() -> ViewConfig:
    return {"trackbodyid": 2, "distance": 4.0, "lookat": (0.0, 0.0, 1.15), "elevation": -20.0}


@dataclass(frozen=True)
class Walker2d(PlanarWalker):
    """Options of Walker2d: those of `PlanarWalker`."""

    name: ClassVar[str] = "Walker2d"
    max_episode_steps: ClassVar[int] = 1000

    xml_file: str = "walker2d_v5.xml"
    default_camera_config: ViewConfig = field(default_factory=_camera)
    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)
