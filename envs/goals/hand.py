"""The Shadow hand: 20 position-controlled joints of 24, an action the set points within their ranges.

What HandReach and the HandManipulate tasks share. Gymnasium-Robotics' option relative_control is left out: its own code
for it cannot run with MuJoCo's Python bindings.

Shapes: n environments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from envs.goals.task import GoalTask
from envs.random import EnvironmentRandom
from envs.simulation.base import Simulation
from envs.task import ViewConfig


def _camera() -> ViewConfig:
    return {"distance": 0.5, "azimuth": 55.0, "elevation": -25.0, "lookat": [1.0, 0.96, 0.14]}


@dataclass(frozen=True)
class HandTask(GoalTask):
    """Base of the Shadow hand's tasks."""

    action_size: ClassVar[int] = 20

    default_camera_config: ViewConfig = field(default_factory=_camera)

    def actuate(self, simulation: Simulation, action: Tensor, random: EnvironmentRandom) -> None:
        """Set each joint's set point, -1 and 1 being the ends of its range."""
        simulation.field("ctrl").copy_(self.set_points(simulation, action))

    def set_points(self, simulation: Simulation, action: Tensor) -> Tensor:
        """Return controls (n, 20) of actions (n, 20)."""
        low, high = simulation.facts.control_low, simulation.facts.control_high
        wanted = (high + low) / 2 + action.clamp(-1.0, 1.0) * ((high - low) / 2)
        return wanted.clamp(low, high)
