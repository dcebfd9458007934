"""InvertedPendulum: a cart keeps a pole upright (Barto, Sutton & Anderson 1983).

The task of Gymnasium's InvertedPendulum-v5: same options, defaults, observation, reward and termination.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from envs.simulation.base import Fields
from envs.task import Outcome, Task, ViewConfig

_LARGEST_ANGLE = 0.2


def _camera() -> ViewConfig:
    return {"trackbodyid": 0, "distance": 2.04}


@dataclass(frozen=True)
class InvertedPendulum(Task):
    """Options of InvertedPendulum.

    Attributes:
        reset_noise_scale: Half width of the uniform noise on the start state.
    """

    name: ClassVar[str] = "InvertedPendulum"
    max_episode_steps: ClassVar[int] = 1000
    pixel_view: ClassVar[ViewConfig] = {"lookat": (0.0, 0.0, 0.25), "distance": 2.5, "elevation": 0.0}

    xml_file: str = "inverted_pendulum.xml"
    frame_skip: int = 2
    default_camera_config: ViewConfig = field(default_factory=_camera)
    reset_noise_scale: float = 0.01

    def observation(self, fields: Fields) -> Tensor:
        """Return positions and velocities, (n, 4)."""
        return torch.cat([fields.field("qpos"), fields.field("qvel")], dim=1)

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Reward 1 while the pole stands; end when it leans too far."""
        # Gymnasium also ends on a non-finite state; that is a failed simulation here.
        angle = fields.field("qpos")[:, 1]
        terminated = angle.abs() > _LARGEST_ANGLE
        reward = (~terminated).to(angle)
        return Outcome(reward, terminated, {"reward_survive": reward})
