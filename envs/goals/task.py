"""What a goal task is: an observation, what was achieved, what was asked for, and a reward that judges any pair.

The vectorized environment sees one flat observation, [own observation, desired goal, achieved goal], so that rollouts
and replay treat all tasks alike; `rlsuite.goals.GoalSpec` says which column is what.

Shapes: n environments, D the task's own observation, G goal, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from envs.random import EnvironmentRandom
from envs.simulation.base import Fields, ModelFacts, SelectedFields, Simulation
from envs.task import Outcome, Task, never
from rlsuite.errors import require_choice, require_finite
from rlsuite.goals import GoalSpec

REWARD_TYPES = ("sparse", "dense")


@dataclass(frozen=True)
class GoalTask(Task):
    """Base of the goal tasks.

    Attributes:
        reward_type: "sparse" (0 where the goal is reached, else -1) or "dense" (minus the distance).
        distance_threshold: Metres within which a goal counts as reached.
    """

    action_size: ClassVar[int]
    goal_size: ClassVar[int]

    frame_skip: int = 20
    reward_type: str = "sparse"
    distance_threshold: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("env.reward_type", self.reward_type, REWARD_TYPES)
        require_finite("env.distance_threshold", self.distance_threshold, above=0.0)

    # -- what a subclass defines ----------------------------------------------------------------------------

    def own_observation(self, fields: Fields) -> Tensor:
        """Return the task's own observation, (n, D) float64."""
        raise NotImplementedError

    def achieved_goal(self, fields: Fields) -> Tensor:
        """Return what has been achieved, (n, G) float64."""
        raise NotImplementedError

    def draw_goal(self, fields: Fields, random: EnvironmentRandom, env_ids: Tensor) -> Tensor:
        """Draw what is asked for in the episodes that begin, (n, G) float64."""
        raise NotImplementedError

    def start(self, simulation: Simulation, random: EnvironmentRandom, env_ids: Tensor) -> None:
        """Put some simulations (n,) into a drawn start state, the goal apart."""
        super().begin(simulation, random, env_ids)

    # -- how goals are judged: by their distance, unless a subclass knows better ------------------------------

    def compute_reward(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Return the reward (...) of having achieved (..., G) where (..., G) was desired, for any leading axes."""
        distance = (achieved - desired).square().sum(-1).sqrt()
        return -distance if self.reward_type == "dense" else -(distance > self.distance_threshold).to(distance)

    def is_success(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Return bool (...): whether the goal is reached."""
        return (achieved - desired).square().sum(-1).sqrt() < self.distance_threshold

    # -- what follows from it -------------------------------------------------------------------------------

    def memory(self, facts: ModelFacts) -> dict[str, int]:
        """Remember each episode's goal."""
        return {"goal": self.goal_size}

    def action_bounds(self, facts: ModelFacts) -> tuple[Tensor, Tensor]:
        """Actions are relative: each component in [-1, 1]."""
        high = torch.ones(self.action_size, dtype=torch.float64)
        return -high, high

    def begin(self, simulation: Simulation, random: EnvironmentRandom, env_ids: Tensor) -> None:
        """Draw start states, then goals."""
        self.start(simulation, random, env_ids)
        fields = SelectedFields(simulation, env_ids)
        simulation.field("goal")[env_ids] = self.draw_goal(fields, random, env_ids)

    def observation(self, fields: Fields) -> Tensor:
        """Return [own observation, desired goal, achieved goal], (n, D + 2 G)."""
        return torch.cat([self.own_observation(fields), fields.field("goal"), self.achieved_goal(fields)], dim=1)

    def outcome(self, fields: Fields, before: Tensor, after: Tensor, action: Tensor) -> Outcome:
        """Judge what is achieved now; the episode goes on whether or not the goal is reached."""
        achieved, desired = self.achieved_goal(fields), fields.field("goal")
        info = {"is_success": self.is_success(achieved, desired).to(achieved)}
        return Outcome(self.compute_reward(achieved, desired), never(fields), info)

    def spec(self, flat_size: int) -> GoalSpec:
        """Return what hindsight needs, for flat observations of `flat_size` numbers."""
        return GoalSpec(flat_size - 2 * self.goal_size, self.goal_size, self.compute_reward, self.is_success)


# -- names to numbers -------------------------------------------------------------------------------------------


class Addresses(NamedTuple):
    """Where some joints' numbers lie.

    Attributes:
        position: (k,) int64, in qpos.
        velocity: (k',) int64, in qvel.
    """

    position: Tensor
    velocity: Tensor


def joint_addresses(model: Any, names: Sequence[str]) -> Addresses:
    """Return the addresses of joints of any kind, one after the other."""
    joints = [model.joint(name) for name in names]
    position = [int(joint.qposadr[0]) + offset for joint in joints for offset in range(len(joint.qpos0))]
    velocity = [int(joint.dofadr[0]) + offset for joint in joints for offset in range(len(joint.damping))]
    return Addresses(torch.tensor(position, dtype=torch.int64), torch.tensor(velocity, dtype=torch.int64))


def robot_joints(model: Any) -> list[str]:
    """Return the names of the robot's joints, in the model's order."""
    return [name for name in (model.joint(index).name for index in range(model.njnt)) if name.startswith("robot")]


@dataclass(frozen=True)
class MovingSite:
    """A site, and what its velocity is computed from.

    Attributes:
        index: Of the site.
        chain: (k,) int64, the degrees of freedom that move it.
        root: The body at the root of its kinematic tree.
    """

    index: int
    chain: Tensor
    root: int

    @staticmethod
    def find(model: Any, name: str) -> MovingSite:
        """Look a site up by name."""
        index = int(model.site(name).id)
        body = int(model.site_bodyid[index])
        root, chain = int(model.body_rootid[body]), []
        while body > 0:
            first = int(model.body_dofadr[body])
            chain += range(first, first + int(model.body_dofnum[body]))
            body = int(model.body_parentid[body])
        return MovingSite(index, torch.tensor(sorted(chain)), root)

    def place(self, fields: Fields) -> Tensor:
        """Return where it is in the world, (n, 3)."""
        return fields.field("site_xpos")[:, self.index]

    def velocity(self, fields: Fields) -> tuple[Tensor, Tensor]:
        """Return its linear and angular velocity (n, 3) in the world: mj_jacSite's Jacobian times qvel.

        The Jacobian is of the positions that the derived fields are of, which after a step lag one substep behind
        qvel; so do Gymnasium-Robotics' observations.
        """
        velocity = fields.field("qvel")[:, self.chain].unsqueeze(-1)
        # A motion axis about the tree's center of mass: first rotation, then translation.
        motion = (fields.field("cdof")[:, self.chain] * velocity).sum(dim=1)
        angular, linear = motion[:, :3], motion[:, 3:]
        arm = self.place(fields) - fields.field("subtree_com")[:, self.root]
        return linear + torch.linalg.cross(angular, arm), angular
