"""What Humanoid and HumanoidStandup share: a body with tendons, and what of it is seen.

Shapes: n environments, D observation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from envs.simulation.base import Fields
from envs.task import Task

# First row of each quantity: body 0 is the world, and the root's six degrees of freedom have no actuator.
_FIRST = {"cinert": 1, "cvel": 1, "qfrc_actuator": 6, "cfrc_ext": 1}


@dataclass(frozen=True)
class HumanoidBody(Task):
    """Options that both tasks have.

    Attributes:
        ctrl_cost_weight: Weight of the squared control.
        reset_noise_scale: Half width of the uniform noise on the start state.
        exclude_current_positions_from_observation: Leave out the torso's x and y.
        include_cinert_in_observation: Bodies' inertia about the center of mass.
        include_cvel_in_observation: Bodies' velocity about the center of mass.
        include_qfrc_actuator_in_observation: Joint forces of the actuators.
        include_cfrc_ext_in_observation: Contact forces on the bodies.
        contact_forces: "sensor" (the engine's, free) or "exact" (Gymnasium's numbers, slower).
    """

    frame_skip: int = 5
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 1e-2
    exclude_current_positions_from_observation: bool = True
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True
    contact_forces: str = "sensor"

    def observation(self, fields: Fields) -> Tensor:
        """Return positions, velocities and the included body quantities, (n, D)."""
        start = 2 if self.exclude_current_positions_from_observation else 0
        parts = [fields.field("qpos")[:, start:], fields.field("qvel")]
        parts += [
            fields.field(name)[:, first:].flatten(1)
            for name, first in _FIRST.items()
            if getattr(self, f"include_{name}_in_observation")
        ]
        return torch.cat(parts, dim=1)


def tendons(fields: Fields) -> dict[str, Tensor]:
    """Return the lengths and velocities of the tendons, (n, 2) each."""
    return {"tendon_length": fields.field("ten_length"), "tendon_velocity": fields.field("ten_velocity")}
