"""Humanoid: a 3-D two-legged body of 17 joints runs forward without falling (Tassa, Erez & Todorov 2012).

The task of Gymnasium's Humanoid-v5: same options, defaults, observation, reward and termination.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from envs.simulation.base import Fields
from envs.task import CameraConfig, Outcome, Task, norm, squared_norm


def _camera() -> CameraConfig:
    return {"trackbodyid": 1, "distance": 4.0, "lookat": (0.0, 0.0, 2.0), "elevation": -20.0}


@dataclass(frozen=True)
class Humanoid(Task):
    """Options of Humanoid.

    Attributes:
        forward_reward_weight: Weight of the velocity of the center of mass along x.
        ctrl_cost_weight: Weight of the squared control.
        contact_cost_weight: Weight of the squared contact forces.
        contact_cost_range: The contact cost is clipped to it.
        healthy_reward: Reward of each step on which the torso is in `healthy_z_range`.
        terminate_when_unhealthy: End the episode when it is not.
        healthy_z_range: Heights of the torso (m), bounds excluded.
        reset_noise_scale: Half width of the uniform noise on the start state.
        exclude_current_positions_from_observation: Leave out the torso's x and y.
        include_cinert_in_observation: Bodies' inertia about the center of mass.
        include_cvel_in_observation: Bodies' velocity about the center of mass.
        include_qfrc_actuator_in_observation: Joint forces of the actuators.
        include_cfrc_ext_in_observation: Contact forces on the bodies.
        contact_forces: "sensor" (the engine's, free) or "exact" (Gymnasium's numbers, slower).
    """

    name: ClassVar[str] = "Humanoid"
    max_episode_steps: ClassVar[int] = 1000

    xml_file: str = "humanoid.xml"
    frame_skip: int = 5
    default_camera_config: CameraConfig = field(default_factory=_camera)
    forward_reward_weight: float = 1.25
    ctrl_cost_weight: float = 0.1
    contact_cost_weight: float = 5e-7
    contact_cost_range: tuple[float, float] = (-math.inf, 10.0)
    healthy_reward: float = 5.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (1.0, 2.0)
    reset_noise_scale: float = 1e-2
    exclude_current_positions_from_observation: bool = True
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True
    contact_forces: str = "sensor"

    def observation(self, fields: Fields) -> Tensor:
        """Return positions, velocities and the included body quantities, (n, D)."""
        return body_observation(self, fields)

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
        position = fields.field("qpos")
        return {
            "x_position": position[:, 0],
            "y_position": position[:, 1],
            "tendon_length": fields.field("ten_length"),
            "tendon_velocity": fields.field("ten_velocity"),
            "distance_from_origin": norm(position[:, :2]),
        }


def body_observation(task: Task, fields: Fields) -> Tensor:
    """Return the observation that Humanoid and HumanoidStandup share, (n, D).

    Args:
        task: A task with the ``include_*`` options of Humanoid.
        fields: The simulation.
    """
    options = vars(task)
    start = 2 if options["exclude_current_positions_from_observation"] else 0
    parts = [fields.field("qpos")[:, start:], fields.field("qvel")]
    # Body 0 is the world, and the root's six degrees of freedom have no actuator.
    skipped = {"cinert": 1, "cvel": 1, "qfrc_actuator": 6, "cfrc_ext": 1}
    parts += [
        fields.field(name)[:, first:].flatten(1)
        for name, first in skipped.items()
        if options[f"include_{name}_in_observation"]
    ]
    return torch.cat(parts, dim=1)
