"""HumanoidStandup: the humanoid lies on its back and stands up (Tassa, Erez & Todorov 2012).

The task of Gymnasium's HumanoidStandup-v5: same options, defaults, observation and reward; it never
terminates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from envs.locomotion.humanoid import body_observation
from envs.simulation.base import Fields
from envs.task import CameraConfig, Outcome, Task, never, squared_norm


def _camera() -> CameraConfig:
    return {"trackbodyid": 1, "distance": 4.0, "lookat": (0.0, 0.0, 0.8925), "elevation": -20.0}


@dataclass(frozen=True)
class HumanoidStandup(Task):
    """Options of HumanoidStandup.

    Attributes:
        uph_cost_weight: Listed among Gymnasium's options, and like there without effect: the reward of the
            height has weight 1.
        ctrl_cost_weight: Weight of the squared control.
        impact_cost_weight: Weight of the squared contact forces.
        impact_cost_range: The impact cost is clipped to it.
        reset_noise_scale: Half width of the uniform noise on the start state.
        exclude_current_positions_from_observation: Leave out the torso's x and y.
        include_cinert_in_observation: Bodies' inertia about the center of mass.
        include_cvel_in_observation: Bodies' velocity about the center of mass.
        include_qfrc_actuator_in_observation: Joint forces of the actuators.
        include_cfrc_ext_in_observation: Contact forces on the bodies.
        contact_forces: "sensor" (the engine's, free) or "exact" (Gymnasium's numbers, slower).
    """

    name: ClassVar[str] = "HumanoidStandup"
    max_episode_steps: ClassVar[int] = 1000

    xml_file: str = "humanoidstandup.xml"
    frame_skip: int = 5
    default_camera_config: CameraConfig = field(default_factory=_camera)
    uph_cost_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    impact_cost_weight: float = 0.5e-6
    impact_cost_range: tuple[float, float] = (-math.inf, 10.0)
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
        position = fields.field("qpos")
        return {
            "x_position": position[:, 0],
            "y_position": position[:, 1],
            "z_distance_from_origin": position[:, 2] - fields.facts.initial_qpos[2],
            "tendon_length": fields.field("ten_length"),
            "tendon_velocity": fields.field("ten_velocity"),
        }
