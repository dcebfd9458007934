"""Ant: a four-legged body of eight joints walks forward (Schulman et al. 2016).

The task of Gymnasium's Ant-v5: same options, defaults, observation, reward and termination.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from envs.locomotion.place import ground_distance, ground_position
from envs.simulation.base import Fields
from envs.task import Outcome, Task, ViewConfig, body_index, squared_norm


def _camera() -> ViewConfig:
    return {"distance": 4.0}


@dataclass(frozen=True)
class Ant(Task):
    """Options of Ant.

    Attributes:
        forward_reward_weight: Weight of the main body's velocity along x.
        ctrl_cost_weight: Weight of the squared action.
        contact_cost_weight: Weight of the squared clipped contact forces.
        healthy_reward: Reward of each healthy step.
        main_body: Body whose movement is rewarded: index or name.
        terminate_when_unhealthy: End the episode on the first unhealthy step.
        healthy_z_range: Heights of the torso (m), bounds included.
        contact_force_range: Contact forces are clipped to it.
        reset_noise_scale: Half width of the uniform noise on positions, deviation of the normal noise on
            velocities.
        exclude_current_positions_from_observation: Leave out the torso's x and y.
        include_cfrc_ext_in_observation: Clipped contact forces on the bodies.
        contact_forces: "sensor" (the engine's, free) or "exact" (Gymnasium's numbers, slower).
    """

    name: ClassVar[str] = "Ant"
    max_episode_steps: ClassVar[int] = 1000
    normal_start_velocity: ClassVar[bool] = True

    xml_file: str = "ant.xml"
    frame_skip: int = 5
    default_camera_config: ViewConfig = field(default_factory=_camera)
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    healthy_reward: float = 1.0
    main_body: int | str = 1
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True
    include_cfrc_ext_in_observation: bool = True
    contact_forces: str = "sensor"

    def observation(self, fields: Fields) -> Tensor:
        """Return positions, velocities and clipped contact forces, (n, D)."""
        start = 2 if self.exclude_current_positions_from_observation else 0
        parts = [fields.field("qpos")[:, start:], fields.field("qvel")]
        if self.include_cfrc_ext_in_observation:
            forces = fields.field("cfrc_ext")[:, 1:].flatten(1)  # body 0 is the world
            parts.append(forces.clamp(*self.contact_force_range))
        return torch.cat(parts, dim=1)

    def tracked(self, fields: Fields) -> Tensor:
        """Return the main body's x and y, (n, 2)."""
        body = self.main_body
        if isinstance(body, str):
            body = body_index(fields.facts, body)
        return fields.field("xpos")[:, body, :2]

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Reward velocity and health, charge the action and contacts; end when unhealthy."""
        velocity = (after - before) / self.seconds(fields.facts)
        height = fields.field("qpos")[:, 2]
        low, high = self.healthy_z_range
        # Gymnasium also asks for a finite state; a non-finite one is a failed simulation here.
        healthy = (height >= low) & (height <= high)
        survive = healthy.to(velocity.dtype) * self.healthy_reward  # a bool times a float is float32
        forward = velocity[:, 0] * self.forward_reward_weight
        control_cost = self.ctrl_cost_weight * squared_norm(action)
        contact_cost = self.contact_cost_weight * squared_norm(
            fields.field("cfrc_ext").clamp(*self.contact_force_range)
        )
        terminated = ~healthy if self.terminate_when_unhealthy else torch.zeros_like(healthy)
        info = self.reset_info(fields) | {
            "x_velocity": velocity[:, 0],
            "y_velocity": velocity[:, 1],
            "reward_forward": forward,
            "reward_ctrl": -control_cost,
            "reward_contact": -contact_cost,
            "reward_survive": survive,
        }
        return Outcome(forward + survive - (control_cost + contact_cost), terminated, info)

    def reset_info(self, fields: Fields) -> dict[str, Tensor]:
        """Return the torso's place."""
        return ground_position(fields) | ground_distance(fields)
