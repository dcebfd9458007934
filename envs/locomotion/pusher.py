"""Pusher: an arm of seven joints pushes a cylinder to a goal.

The task of Gymnasium's Pusher-v5: same options, defaults, observation and reward; it never terminates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from envs.random import EnvironmentRandom
from envs.simulation.base import Fields, ModelFacts
from envs.task import Outcome, Task, ViewConfig, body_index, never, norm, squared_norm

_CYLINDER_LOW = (-0.3, -0.2)
_CYLINDER_HIGH = (0.0, 0.2)
_CYLINDER_CLEARANCE = 0.17
_VELOCITY_NOISE = 0.005


def _camera() -> ViewConfig:
    return {"trackbodyid": -1, "distance": 4.0}


@dataclass(frozen=True)
class Pusher(Task):
    """Options of Pusher.

    Attributes:
        reward_near_weight: Weight of the distance from the arm's tip to the cylinder.
        reward_dist_weight: Weight of the distance from the cylinder to the goal.
        reward_control_weight: Weight of the squared action.
    """

    name: ClassVar[str] = "Pusher"
    max_episode_steps: ClassVar[int] = 100

    xml_file: str = "pusher_v5.xml"
    frame_skip: int = 5
    default_camera_config: ViewConfig = field(default_factory=_camera)
    reward_near_weight: float = 0.5
    reward_dist_weight: float = 1.0
    reward_control_weight: float = 0.1

    def _places(self, fields: Fields) -> list[Tensor]:
        """Return the places of the arm's tip, the cylinder and the goal, (n, 3) each."""
        place = fields.field("xpos")
        return [place[:, body_index(fields.facts, name)] for name in ("tips_arm", "object", "goal")]

    def observation(self, fields: Fields) -> Tensor:
        """Return the arm's joints and their velocities, and the three places, (n, 23)."""
        parts = [fields.field("qpos")[:, :7], fields.field("qvel")[:, :7], *self._places(fields)]
        return torch.cat(parts, dim=1)

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Charge both distances and the action."""
        tip, cylinder, goal = self._places(fields)
        near_reward = -norm(cylinder - tip) * self.reward_near_weight
        distance_reward = -norm(cylinder - goal) * self.reward_dist_weight
        control_reward = -squared_norm(action) * self.reward_control_weight
        info = {"reward_dist": distance_reward, "reward_ctrl": control_reward, "reward_near": near_reward}
        return Outcome(distance_reward + control_reward + near_reward, never(fields), info)

    def initial_state(self, facts: ModelFacts, random: EnvironmentRandom, env_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Put the cylinder somewhere not too near to the goal, the arm at rest but for small velocities."""
        qpos = facts.initial_qpos.repeat(len(env_ids), 1)
        qpos[:, -4:-2] = random.until(
            env_ids, 2, _CYLINDER_LOW, _CYLINDER_HIGH, lambda place: norm(place) > _CYLINDER_CLEARANCE
        )
        qpos[:, -2:].zero_()
        noise = random.uniform(env_ids, facts.num_velocities, -_VELOCITY_NOISE, _VELOCITY_NOISE)
        noise[:, -4:].zero_()
        return qpos, facts.initial_qvel + noise
