"""Reacher: a planar arm of two joints brings its fingertip to a target.

The task of Gymnasium's Reacher-v5: same options, defaults, observation and reward; it never terminates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from envs.random import EnvironmentRandom
from envs.simulation.base import Fields, ModelFacts
from envs.task import Outcome, Task, ViewConfig, body_index, never, norm, squared_norm

_TARGET_RADIUS = 0.2
_ANGLE_NOISE = 0.1
_VELOCITY_NOISE = 0.005


def _camera() -> ViewConfig:
    return {"trackbodyid": 0}


@dataclass(frozen=True)
class Reacher(Task):
    """Options of Reacher.

    Attributes:
        reward_dist_weight: Weight of the distance from fingertip to target.
        reward_control_weight: Weight of the squared action.
    """

    name: ClassVar[str] = "Reacher"
    max_episode_steps: ClassVar[int] = 50
    pixel_view: ClassVar[ViewConfig] = {"lookat": (0.0, 0.0, 0.0), "distance": 0.56, "elevation": -90.0}

    xml_file: str = "reacher.xml"
    frame_skip: int = 2
    default_camera_config: ViewConfig = field(default_factory=_camera)
    reward_dist_weight: float = 1.0
    reward_control_weight: float = 1.0

    def _to_target(self, fields: Fields) -> Tensor:
        """Return the vector from target to fingertip, (n, 3)."""
        place = fields.field("xpos")
        tip, target = (body_index(fields.facts, name) for name in ("fingertip", "target"))
        return place[:, tip] - place[:, target]

    def observation(self, fields: Fields) -> Tensor:
        """Return angles (cosines, sines), target, angular velocities, vector to the target: (n, 10)."""
        position, velocity = fields.field("qpos"), fields.field("qvel")
        angles = position[:, :2].contiguous()
        parts = [angles.cos(), angles.sin(), position[:, 2:], velocity[:, :2], self._to_target(fields)[:, :2]]
        return torch.cat(parts, dim=1)

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Charge the distance and the action."""
        distance_reward = -norm(self._to_target(fields)) * self.reward_dist_weight
        control_reward = -squared_norm(action) * self.reward_control_weight
        info = {"reward_dist": distance_reward, "reward_ctrl": control_reward}
        return Outcome(distance_reward + control_reward, never(fields), info)

    def initial_state(self, facts: ModelFacts, random: EnvironmentRandom, env_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Draw small angles and velocities, and a target uniform in a disc."""
        qpos = facts.initial_qpos + random.uniform(env_ids, facts.num_positions, -_ANGLE_NOISE, _ANGLE_NOISE)
        corner = [_TARGET_RADIUS] * 2
        qpos[:, -2:] = random.until(
            env_ids, 2, [-_TARGET_RADIUS] * 2, corner, lambda place: norm(place) < _TARGET_RADIUS
        )
        noise = random.uniform(env_ids, facts.num_velocities, -_VELOCITY_NOISE, _VELOCITY_NOISE)
        noise[:, -2:].zero_()
        qvel = facts.initial_qvel + noise
        return qpos, qvel
