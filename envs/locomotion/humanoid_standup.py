"""HumanoidStandup: the humanoid lies on its back and stands up (Tassa, Erez & Todorov 2012).

The task of Gymnasium's HumanoidStandup-v5: same options, defaults, observation and reward; it never
terminates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from envs.locomotion.humanoid_body import HumanoidBody, tendons
from envs.locomotion.place import ground_position, rise
from envs.simulation.base import Fields
from envs.task import Outcome, ViewConfig, never, squared_norm


def _camera() -> ViewConfig:
    return {"trackbodyid": 1, "distance": 4.0, "lookat": (0.0, 0.0, 0.8925), "elevation": -20.0}


@dataclass(frozen=True)
class HumanoidStandup(HumanoidBody):
    """Options of HumanoidStandup.

    Attributes:
        uph_cost_weight: Listed among Gymnasium's options, and like there without effect: the reward of the
            height has weight 1.
        impact_cost_weight: Weight of the squared contact forces.
        impact_cost_range: The impact cost is clipped to it.
    """

    name: ClassVar[str] = "HumanoidStandup"
    max_episode_steps: ClassVar[int] = 1000

    xml_file: str = "humanoidstandup.xml"
    default_camera_config: ViewConfig = field(default_factory=_camera)
    uph_cost_weight: float = 1.0
    impact_cost_weight: float = 0.5e-6
    impact_cost_range: tuple[float, float] = (-math.inf, 10.0)

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Reward height, charge control and impacts."""
        # Gymnasium divides the height, not a change of height, by the physics timestep.
        upward = fields.field("qpos")[:, 2] / fields.facts.timestep
        control_cost = self.ctrl_cost_weight * squared_norm(action)
        impact_cost = self.impact_cost_weight * squared_norm(fields.field("cfrc_ext"))
        impact_cost = impact_cost.clamp(*self.impact_cost_range)
        info = self.reset_info(fields) | {
            "reward_linup": upward,
            "reward_quadctrl": -control_cost,
            "reward_impact": -impact_cost,
        }
        return Outcome(upward - control_cost - impact_cost + 1.0, never(fields), info)

    def reset_info(self, fields: Fields) -> dict[str, Tensor]:
        """Return the torso's place and the tendons."""
        return ground_position(fields) | rise(fields, column=2) | tendons(fields)
