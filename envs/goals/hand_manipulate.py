"""The Shadow hand turns an object on its palm: a block, an egg or a pen.

Same tasks as Gymnasium-Robotics' HandManipulateBlock*-v1, HandManipulateEgg*-v1 and HandManipulatePen*-v1.

Shapes: n environments.
"""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from envs.constants import constant
from envs.goals import rotations
from envs.goals.hand import HandTask
from envs.goals.task import Addresses, MovingSite, joint_addresses, robot_joints
from envs.random import EnvironmentRandom
from envs.simulation.base import Fields, ModelFacts, SelectedFields, Simulation
from rlsuite.errors import require, require_choice, require_finite

_POSITIONS = ("ignore", "fixed", "random")
_ROTATIONS = ("ignore", "fixed", "xyz", "z", "parallel")
_POSITION_RANGE = ((-0.04, -0.06, 0.0), (0.04, 0.02, 0.06))  # m, of the target from the object
_START_STD = 0.005  # m
_SETTLING_STEPS = 10
_ON_PALM = 0.04  # m, height of the object's center
_ASIDE = 0.15  # m, where a goal without a place is shown
_POSITION_WEIGHT = 10.0  # of metres against radians, in the dense reward


@dataclass(frozen=True)
class ManipulateFacts(ModelFacts):
    """Constants of the model.

    Attributes:
        joints: The hand's joints.
        object_joint: The object's free joint.
        target_joint: The free joint of what pictures show as its goal.
        center: The object's center.
    """

    joints: Addresses
    object_joint: Addresses
    target_joint: Addresses
    center: MovingSite


def _facts(fields: Fields) -> ManipulateFacts:
    facts = fields.facts
    assert isinstance(facts, ManipulateFacts)
    return facts


@dataclass(frozen=True)
class ManipulateTask(HandTask):
    """Base of the block's, the egg's and the pen's tasks.

    Attributes:
        target_position: Of the object: "ignore" (any will do), "fixed" (where it is at the start) or "random".
        target_rotation: "ignore", "fixed", "z" (about the vertical), "parallel" (about the vertical, and by right
            angles) or "xyz" (about any axis).
        randomize_initial_position: Start within a few millimetres of the model's place.
        randomize_initial_rotation: Start turned, as target_rotation says.
        ignore_z_target_rotation: The rotation about the vertical does not matter.
        rotation_threshold: Radians within which a rotation counts as reached.
    """

    max_episode_steps: ClassVar[int] = 100
    goal_size: ClassVar[int] = 7
    other_fields: ClassVar[tuple[str, ...]] = ("site_xpos",)
    starts_by_physics: ClassVar[bool] = True

    target_position: str = "random"
    target_rotation: str = "xyz"
    randomize_initial_position: bool = True
    randomize_initial_rotation: bool = True
    ignore_z_target_rotation: bool = False
    distance_threshold: float = 0.01
    rotation_threshold: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("env.target_position", self.target_position, _POSITIONS)
        require_choice("env.target_rotation", self.target_rotation, _ROTATIONS)
        require_finite("env.rotation_threshold", self.rotation_threshold, above=0.0)
        both = self.target_position == self.target_rotation == "ignore"
        require(not both, "env.target_position=ignore and env.target_rotation=ignore leave no goal; change one")

    def setup(self, model: Any, facts: ModelFacts) -> ManipulateFacts:
        """Look up where hand and object are."""
        return facts.extended(
            ManipulateFacts,
            joints=joint_addresses(model, robot_joints(model)),
            object_joint=joint_addresses(model, ["object:joint"]),
            target_joint=joint_addresses(model, ["target:joint"]),
            center=MovingSite.find(model, "object:center"),
        )

    # -- an episode's start -----------------------------------------------------------------------------------

    def start(self, simulation: Simulation, random: EnvironmentRandom, env_ids: Tensor) -> None:
        """Drop the object on the palm, wait until it lies still, and try again where it has fallen off.

        The controls hold the middle of the joints' ranges meanwhile.
        """
        set_points = self.set_points(simulation, torch.zeros_like(simulation.facts.control_low).unsqueeze(0))
        pending = env_ids
        while len(pending):
            simulation.reset(pending, *self.initial_state(simulation.facts, random, pending))
            simulation.field("ctrl")[pending] = set_points
            for _ in range(_SETTLING_STEPS):
                simulation.step(self.frame_skip, pending)
            simulation.forward(pending)
            height = _facts(simulation).center.place(SelectedFields(simulation, pending))[:, 2]
            pending = pending[~(height > _ON_PALM)]  # so that a height of NaN is tried again, too

    def initial_state(self, facts: ModelFacts, random: EnvironmentRandom, env_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the object's pose, the hand as in the model."""
        assert isinstance(facts, ManipulateFacts)
        count, at = len(env_ids), facts.object_joint.position
        qpos = facts.initial_qpos.expand(count, -1).clone()
        place, quaternion = qpos[:, at[:3]], qpos[:, at[3:]]
        if self.randomize_initial_rotation and self.target_rotation != "fixed":
            kind = "xyz" if self.target_rotation == "ignore" else self.target_rotation
            quaternion = rotations.multiply(quaternion, _draw_rotation(kind, random, env_ids))
        if self.randomize_initial_position and self.target_position != "fixed":
            place = place + random.normal(env_ids, 3) * _START_STD
        quaternion = quaternion / quaternion.square().sum(1, keepdim=True).sqrt()
        qpos[:, at] = torch.cat([place, quaternion], dim=1)
        return qpos, facts.initial_qvel.expand(count, -1)

    def draw_goal(self, fields: Fields, random: EnvironmentRandom, env_ids: Tensor) -> Tensor:
        """Draw a pose, its position relative to where the object lies."""
        pose = self.achieved_goal(fields)
        place, quaternion = pose[:, :3], pose[:, 3:]
        if self.target_position == "random":
            place = place + random.uniform(env_ids, 3, *_POSITION_RANGE)
        if self.target_rotation not in ("ignore", "fixed"):
            quaternion = _draw_rotation(self.target_rotation, random, env_ids)
        quaternion = quaternion / quaternion.square().sum(1, keepdim=True).sqrt()
        return torch.cat([place, quaternion], dim=1)

    def shown(self, facts: ModelFacts, qpos: Tensor, memory: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Show the goal as a second object, put aside where its place does not matter."""
        assert isinstance(facts, ManipulateFacts)
        pose = memory["goal"].clone()
        if self.target_position == "ignore":
            pose[:, 0] += _ASIDE
        qpos = qpos.clone()
        qpos[:, facts.target_joint.position] = pose
        return super().shown(facts, qpos, memory)

    # -- what is seen and judged ------------------------------------------------------------------------------

    def achieved_goal(self, fields: Fields) -> Tensor:
        """Return the object's place and quaternion, (n, 7)."""
        return fields.field("qpos")[:, _facts(fields).object_joint.position]

    def own_observation(self, fields: Fields) -> Tensor:
        """Return the hand's joint angles, their velocities, the object's velocity and pose, (n, 61)."""
        facts = _facts(fields)
        qpos, qvel = fields.field("qpos"), fields.field("qvel")
        hand = [qpos[:, facts.joints.position], qvel[:, facts.joints.velocity]]
        return torch.cat([*hand, qvel[:, facts.object_joint.velocity], self.achieved_goal(fields)], dim=1)

    def distances(self, achieved: Tensor, desired: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distances in metres and in radians (...) of poses (..., 7), zero where they do not matter.

        The angle is 2 arccos(w) of the quaternion between them, in [0, 2 pi]: a quaternion and its negative, one
        rotation, are 2 pi apart, as in the reference.
        """
        metres = radians = torch.zeros_like(achieved[..., 0])
        if self.target_position != "ignore":
            metres = (achieved[..., :3] - desired[..., :3]).square().sum(-1).sqrt()
        if self.target_rotation != "ignore":
            mine, wanted = achieved[..., 3:], desired[..., 3:]
            if self.ignore_z_target_rotation:
                # The reference overwrites the third row instead of the third angle where it is given a batch.
                euler = rotations.to_euler(mine)
                mine = rotations.from_euler(torch.cat([euler[..., :2], rotations.to_euler(wanted)[..., 2:]], dim=-1))
            between = rotations.multiply(mine, rotations.conjugate(wanted))
            radians = 2.0 * torch.arccos(between[..., 0].clamp(-1.0, 1.0))
        return metres, radians

    def compute_reward(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Return 0 for success and -1 otherwise, or minus ten times the metres minus the radians."""
        if self.reward_type == "sparse":
            return self.is_success(achieved, desired).to(achieved.dtype) - 1.0
        metres, radians = self.distances(achieved, desired)
        return -(_POSITION_WEIGHT * metres + radians)

    def is_success(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Say whether position and rotation are within their thresholds."""
        metres, radians = self.distances(achieved, desired)
        return (metres < self.distance_threshold) & (radians < self.rotation_threshold)


def _draw_rotation(kind: str, random: EnvironmentRandom, env_ids: Tensor) -> Tensor:
    """Draw unit quaternions (n, 4): about the vertical, that and by right angles, or about any axis."""
    drawn = random.uniform(env_ids, 4, [-math.pi, -1.0, -1.0, -1.0], [math.pi, 1.0, 1.0, 1.0])
    if kind == "xyz":
        return rotations.about_axis(drawn[:, 0], drawn[:, 1:])
    vertical = constant((0.0, 0.0, 1.0), drawn).expand(len(env_ids), 3)
    turned = rotations.about_axis(drawn[:, 0], vertical)
    if kind == "z":
        return turned
    cube = rotations.parallel_quaternions().to(drawn)
    which = ((drawn[:, 1] + 1.0) / 2.0 * len(cube)).long().clamp_max(len(cube) - 1)
    return rotations.multiply(turned, cube[which])


@dataclass(frozen=True)
class HandManipulateBlock(ManipulateTask):
    """Turn and move a block."""

    name: ClassVar[str] = "HandManipulateBlock"

    xml_file: str = "hand/manipulate_block.xml"


@dataclass(frozen=True)
class HandManipulateEgg(ManipulateTask):
    """Turn and move an egg."""

    name: ClassVar[str] = "HandManipulateEgg"

    xml_file: str = "hand/manipulate_egg.xml"


@dataclass(frozen=True)
class HandManipulatePen(ManipulateTask):
    """Turn and move a pen; its rotation about the vertical does not matter, and it starts unturned."""

    name: ClassVar[str] = "HandManipulatePen"

    xml_file: str = "hand/manipulate_pen.xml"
    randomize_initial_rotation: bool = False
    ignore_z_target_rotation: bool = True
    distance_threshold: float = 0.05
