"""Swimmer: a chain of three links swims forward in a viscous plane (Coulom 2002).

The task of Gymnasium's Swimmer-v5: same options, defaults, observation and reward; it never terminates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from envs.locomotion.place import ground_distance, ground_position
from envs.simulation.base import Fields
from envs.task import Outcome, Task, never, squared_norm


@dataclass(frozen=True)
class Swimmer(Task):
    """Options of Swimmer.

    Attributes:
        forward_reward_weight: Weight of the velocity along x.
        ctrl_cost_weight: Weight of the squared action.
        reset_noise_scale: Half width of the uniform noise on the start state.
        exclude_current_positions_from_observation: Leave out x and y.
    """

    name: ClassVar[str] = "Swimmer"
    max_episode_steps: ClassVar[int] = 1000

    xml_file: str = "swimmer.xml"
    frame_skip: int = 4
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-4
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    def observation(self, fields: Fields) -> Tensor:
        """Return positions and velocities, (n, D)."""
        start = 2 if self.exclude_current_positions_from_observation else 0
        return torch.cat([fields.field("qpos")[:, start:], fields.field("qvel")], dim=1)

    def tracked(self, fields: Fields) -> Tensor:
        """Return x and y, (n, 2)."""
        return fields.field("qpos")[:, :2]

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Reward velocity, charge the action."""
        velocity = (after - before) / self.seconds(fields.facts)
        forward = self.forward_reward_weight * velocity[:, 0]
        control_cost = self.ctrl_cost_weight * squared_norm(action)
        info = self.reset_info(fields) | {
            "x_velocity": velocity[:, 0],
            "y_velocity": velocity[:, 1],
            "reward_forward": forward,
            "reward_ctrl": -control_cost,
        }
        return Outcome(forward - control_cost, never(fields), info)

    def reset_info(self, fields: Fields) -> dict[str, Tensor]:
        """Return the first link's place."""
        return ground_position(fields) | ground_distance(fields)
