"""InvertedDoublePendulum: a cart keeps a pole upright that stands on another pole.

The task of Gymnasium's InvertedDoublePendulum-v5: same options, defaults, observation, reward and
termination.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from envs.simulation.base import Fields
from envs.task import Outcome, Task

_LOWEST_TIP = 1.0
_LARGEST_OBSERVED = 10.0


@dataclass(frozen=True)
class InvertedDoublePendulum(Task):
    """Options of InvertedDoublePendulum.

    Attributes:
        healthy_reward: Reward of each step on which the tip is high enough.
        reset_noise_scale: Half width of the uniform noise on positions, deviation of the normal noise on
            velocities.
    """

    name: ClassVar[str] = "InvertedDoublePendulum"
    max_episode_steps: ClassVar[int] = 1000
    normal_start_velocity: ClassVar[bool] = True

    xml_file: str = "inverted_double_pendulum.xml"
    frame_skip: int = 5
    healthy_reward: float = 10.0
    reset_noise_scale: float = 0.1

    def observation(self, fields: Fields) -> Tensor:
        """Return the cart's place, sines and cosines of the angles, velocities, the cart's constraint force.

        Velocities and the force are clipped to 10; (n, 9).
        """
        position = fields.field("qpos")
        angles = position[:, 1:].contiguous()
        velocity = fields.field("qvel").clamp(-_LARGEST_OBSERVED, _LARGEST_OBSERVED)
        force = fields.field("qfrc_constraint")[:, :1].clamp(-_LARGEST_OBSERVED, _LARGEST_OBSERVED)
        return torch.cat([position[:, :1], angles.sin(), angles.cos(), velocity, force], dim=1)

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Reward a high tip, charge its distance from the top and the angular velocities."""
        tip = fields.field("site_xpos")[:, 0]
        velocity = fields.field("qvel")
        terminated = tip[:, 2] <= _LOWEST_TIP
        survive = (~terminated).to(tip.dtype) * self.healthy_reward  # a bool times a float is float32
        distance_penalty = 0.01 * tip[:, 0].square() + (tip[:, 2] - 2.0).square()
        velocity_penalty = 1e-3 * velocity[:, 1].square() + 5e-3 * velocity[:, 2].square()
        info = {
            "reward_survive": survive,
            "distance_penalty": -distance_penalty,
            "velocity_penalty": -velocity_penalty,
        }
        return Outcome(survive - distance_penalty - velocity_penalty, terminated, info)
