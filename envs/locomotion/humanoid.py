"""Humanoid: a 3-D two-legged body of 17 joints runs forward without falling (Tassa, Erez & Todorov 2012).

The task of Gymnasium's Humanoid-v5: same options, defaults, observation, reward and termination.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from envs.locomotion.humanoid_body import HumanoidBody, tendons
from envs.locomotion.place import ground_distance, ground_position
from envs.simulation.base import Fields
from envs.task import Outcome, ViewConfig, squared_norm


def _camera() -> ViewConfig:
    return {"trackbodyid": 1, "distance": 4.0, "lookat": (0.0, 0.0, 2.0), "elevation": -20.0}


@dataclass(frozen=True)
class Humanoid(HumanoidBody):
    """Options of Humanoid.

    Attributes:
        forward_reward_weight: Weight of the velocity of the center of mass along x.
        contact_cost_weight: Weight of the squared contact forces.
        contact_cost_range: The contact cost is clipped to it.
        healthy_reward: Reward of each step on which the torso is in `healthy_z_range`.
        terminate_when_unhealthy: End the episode when it is not.
        healthy_z_range: Heights of the torso (m), bounds excluded.
    """

    name: ClassVar[str] = "Humanoid"
    max_episode_steps: ClassVar[int] = 1000

    xml_file: str = "humanoid.xml"
    default_camera_config: ViewConfig = field(default_factory=_camera)
    forward_reward_weight: float = 1.25
    contact_cost_weight: float = 5e-7
    contact_cost_range: tuple[float, float] = (-math.inf, 10.0)
    healthy_reward: float = 5.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (1.0, 2.0)

    def tracked(self, fields: Fields) -> Tensor:
        """Return the x and y of the center of mass, (n, 2)."""
        mass = fields.facts.body_mass
        return (fields.field("xipos")[..., :2] * (mass / mass.sum()).unsqueeze(1)).sum(dim=1)

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Reward velocity and height, charge control and contacts; end on a fall."""
        position = fields.field("qpos")
        velocity = (after - before) / self.seconds(fields.facts)
        low, high = self.healthy_z_range
        height = position[:, 2]
        healthy = (height > low) & (height < high)
        survive = healthy.to(velocity.dtype) * self.healthy_reward  # a bool times a float is float32
        forward = self.forward_reward_weight * velocity[:, 0]
        control_cost = self.ctrl_cost_weight * squared_norm(action)
        contact_cost = self.contact_cost_weight * squared_norm(fields.field("cfrc_ext"))
        contact_cost = contact_cost.clamp(*self.contact_cost_range)
        terminated = ~healthy if self.terminate_when_unhealthy else torch.zeros_like(healthy)
        info = self.reset_info(fields) | {
            "x_velocity": velocity[:, 0],
            "y_velocity": velocity[:, 1],
            "reward_survive": survive,
            "reward_forward": forward,
            "reward_ctrl": -control_cost,
            "reward_contact": -contact_cost,
        }
        return Outcome(forward + survive - (control_cost + contact_cost), terminated, info)

    def reset_info(self, fields: Fields) -> dict[str, Tensor]:
        """Return the torso's place and the tendons."""
        return ground_position(fields) | tendons(fields) | ground_distance(fields)
