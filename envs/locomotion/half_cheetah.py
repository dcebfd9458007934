"""HalfCheetah: a planar two-legged runner of six joints runs as fast as it can (Wawrzynski 2009).

The task of Gymnasium's HalfCheetah-v5: same options, defaults, observation and reward; it never terminates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from envs.simulation.base import Fields
from envs.task import Outcome, Task, ViewConfig, never, squared_norm


def _camera() -> ViewConfig:
    return {"distance": 4.0}


@dataclass(frozen=True)
class HalfCheetah(Task):
    """Options of HalfCheetah.

    Attributes:
        forward_reward_weight: Weight of the velocity along x.
        ctrl_cost_weight: Weight of the squared action.
        reset_noise_scale: Half width of the uniform noise on positions, deviation of the normal noise on
            velocities.
        exclude_current_positions_from_observation: Leave out x.
    """

    name: ClassVar[str] = "HalfCheetah"
    max_episode_steps: ClassVar[int] = 1000
    normal_start_velocity: ClassVar[bool] = True

    xml_file: str = "half_cheetah.xml"
    frame_skip: int = 5
    default_camera_config: ViewConfig = field(default_factory=_camera)
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    def observation(self, fields: Fields) -> Tensor:
        """Return joint positions and velocities, (n, D)."""
        start = 1 if self.exclude_current_positions_from_observation else 0
        return torch.cat([fields.field("qpos")[:, start:], fields.field("qvel")], dim=1)

    def tracked(self, fields: Fields) -> Tensor:
        """Return x, (n, 1)."""
        return fields.field("qpos")[:, :1]

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Reward velocity, charge the action."""
        velocity = (after - before)[:, 0] / self.seconds(fields.facts)
        forward = self.forward_reward_weight * velocity
        control_cost = self.ctrl_cost_weight * squared_norm(action)
        info = self.reset_info(fields) | {
            "x_velocity": velocity,
            "reward_forward": forward,
            "reward_ctrl": -control_cost,
        }
        return Outcome(forward - control_cost, never(fields), info)

    def reset_info(self, fields: Fields) -> dict[str, Tensor]:
        """Return x."""
        return {"x_position": fields.field("qpos")[:, 0]}
