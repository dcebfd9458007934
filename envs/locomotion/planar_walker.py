"""What Hopper and Walker2d share: a planar body that walks upright along x.

Shapes: n environments, D observation, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.simulation.base import Fields
from envs.task import Outcome, Task, squared_norm


@dataclass(frozen=True)
class PlanarWalker(Task):
    """Options that both tasks have.

    Attributes:
        forward_reward_weight: Weight of the velocity along x.
        ctrl_cost_weight: Weight of the squared action.
        healthy_reward: Reward of each healthy step.
        terminate_when_unhealthy: End the episode on the first unhealthy step.
        healthy_z_range: Heights of the torso (m), bounds excluded.
        healthy_angle_range: Angles of the torso (rad), bounds excluded.
        reset_noise_scale: Half width of the uniform noise on the start state.
        exclude_current_positions_from_observation: Leave out x.
    """

    frame_skip: int = 4
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (0.0, 0.0)
    healthy_angle_range: tuple[float, float] = (0.0, 0.0)
    reset_noise_scale: float = 5e-3
    exclude_current_positions_from_observation: bool = True

    def healthy(self, fields: Fields) -> Tensor:
        """Return (n,) bool, environments whose torso is high and upright enough."""
        position = fields.field("qpos")
        height, angle = position[:, 1], position[:, 2]
        low, high = self.healthy_z_range
        left, right = self.healthy_angle_range
        return (height > low) & (height < high) & (angle > left) & (angle < right)

    def observation(self, fields: Fields) -> Tensor:
        """Return positions and velocities clipped to 10, (n, D)."""
        start = 1 if self.exclude_current_positions_from_observation else 0
        return torch.cat([fields.field("qpos")[:, start:], fields.field("qvel").clamp(-10.0, 10.0)], dim=1)

    def tracked(self, fields: Fields) -> Tensor:
        """Return x, (n, 1)."""
        return fields.field("qpos")[:, :1]

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Reward velocity and health, charge the action; end when unhealthy."""
        velocity = (after - before)[:, 0] / self.seconds(fields.facts)
        healthy = self.healthy(fields)
        survive = healthy.to(velocity.dtype) * self.healthy_reward  # a bool times a float is float32
        forward = self.forward_reward_weight * velocity
        control_cost = self.ctrl_cost_weight * squared_norm(action)
        terminated = ~healthy if self.terminate_when_unhealthy else torch.zeros_like(healthy)
        info = self.reset_info(fields) | {
            "x_velocity": velocity,
            "reward_forward": forward,
            "reward_ctrl": -control_cost,
            "reward_survive": survive,
        }
        return Outcome(forward + survive - control_cost, terminated, info)

    def reset_info(self, fields: Fields) -> dict[str, Tensor]:
        """Return x, and the height over the standing pose."""
        position = fields.field("qpos")
        return {
            "x_position": position[:, 0],
            "z_distance_from_origin": position[:, 1] - fields.facts.initial_qpos[1],
        }
