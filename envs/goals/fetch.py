"""The Fetch arm: reach a point, push a block, slide a puck, pick a block and place it.

Same tasks as Gymnasium-Robotics' FetchReach-v4, FetchPush-v4, FetchSlide-v4 and FetchPickAndPlace-v4. The gripper is
dragged by a mocap body welded to it; an action moves that body by at most 5 cm in each direction, and the fingers.

Shapes: n environments.
"""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import mujoco
import torch
from torch import Tensor

from envs.constants import constant
from envs.goals import rotations
from envs.goals.task import Addresses, GoalTask, MovingSite, joint_addresses, robot_joints
from envs.random import EnvironmentRandom
from envs.simulation.base import Fields, ModelFacts, Simulation
from envs.task import Marker, ViewConfig, body_index, norm

_GRIP, _OBJECT, _OBJECT_JOINT = "robot0:grip", "object0", "object0:joint"
_REACH_OF_ACTION = 0.05  # m
_DOWNWARD = (1.0, 0.0, 1.0, 0.0)  # the gripper's orientation, a quaternion not of unit length
_FROM_GRIP_TO_START = (-0.498, 0.005, -0.431)  # m
_SETTLING_STEPS = 10
_NEAREST_OBJECT = 0.1  # m from the gripper, in the plane


def _camera() -> ViewConfig:
    return {"distance": 2.5, "azimuth": 132.0, "elevation": -14.0, "lookat": [1.3, 0.75, 0.55]}


@dataclass(frozen=True)
class FetchFacts(ModelFacts):
    """Constants of a Fetch model.

    Attributes:
        start: (3,) where the gripper is when an episode begins.
        object_height: Of the object lying on the table.
        grip: The site between the fingers.
        gripper_body: The body that the mocap body drags.
        fingers: Joints of the fingers.
        actuated: Joints that the model's actuators move, in their order.
        object: The object's site, or None.
        object_joint: The object's free joint; empty where there is none.
    """

    start: Tensor
    object_height: float
    grip: MovingSite
    gripper_body: int
    fingers: Addresses
    actuated: Addresses
    object: MovingSite | None
    object_joint: Addresses


def _facts(fields: Fields) -> FetchFacts:
    facts = fields.facts
    assert isinstance(facts, FetchFacts)
    return facts


@dataclass(frozen=True)
class FetchTask(GoalTask):
    """Base of the four tasks."""

    max_episode_steps: ClassVar[int] = 50
    action_size: ClassVar[int] = 4
    goal_size: ClassVar[int] = 3
    markers: ClassVar[tuple[Marker, ...]] = (Marker("target0"),)
    other_fields: ClassVar[tuple[str, ...]] = ("xpos", "xquat")
    has_object: ClassVar[bool] = True
    blocked_fingers: ClassVar[bool] = True
    base_position: ClassVar[tuple[float, float, float]]
    object_position: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.0)
    extra_height: ClassVar[float] = 0.0
    target_in_the_air: ClassVar[bool] = False
    target_offset: ClassVar[float] = 0.0  # along x
    object_range: ClassVar[float] = 0.15
    target_range: ClassVar[float] = 0.15

    default_camera_config: ViewConfig = field(default_factory=_camera)

    # -- the model --------------------------------------------------------------------------------------------

    def setup(self, model: Any, facts: ModelFacts) -> FetchFacts:
        """Place robot and object, tie the gripper to the mocap body, and let it move to where episodes start."""
        data = mujoco.MjData(model)
        for joint, value in zip(("slide0", "slide1", "slide2"), self.base_position, strict=True):
            data.joint(f"robot0:{joint}").qpos[0] = value
        if self.has_object:
            data.joint(_OBJECT_JOINT).qpos[:] = [*self.object_position, 1.0, 0.0, 0.0, 0.0]
        welds = model.eq_type == int(mujoco.mjtEq.mjEQ_WELD)
        model.eq_data[welds, :7] = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
        mujoco.mj_forward(model, data)
        above = [*_FROM_GRIP_TO_START[:2], _FROM_GRIP_TO_START[2] + self.extra_height]
        data.mocap_pos[0] = data.site(_GRIP).xpos + above
        data.mocap_quat[0] = _DOWNWARD
        mujoco.mj_step(model, data, nstep=_SETTLING_STEPS * self.frame_skip)
        moved = [model.joint(int(joint)).name for joint in model.actuator_trnid[:, 0]]
        return facts.extended(
            FetchFacts,
            initial_qpos=torch.tensor(data.qpos),
            initial_qvel=torch.tensor(data.qvel),
            start=torch.tensor(data.site(_GRIP).xpos),
            object_height=float(data.site(_OBJECT).xpos[2]) if self.has_object else 0.0,
            grip=MovingSite.find(model, _GRIP),
            gripper_body=body_index(facts, "robot0:gripper_link"),
            fingers=joint_addresses(model, robot_joints(model)[-2:]),
            actuated=joint_addresses(model, moved),
            object=MovingSite.find(model, _OBJECT) if self.has_object else None,
            object_joint=joint_addresses(model, [_OBJECT_JOINT] if self.has_object else []),
        )

    def memory(self, facts: ModelFacts) -> dict[str, int]:
        """Remember the goal, and the gripper's pose when it was last computed, which the next action starts from."""
        return super().memory(facts) | {"grip_pose": 7}

    # -- a step -----------------------------------------------------------------------------------------------

    def actuate(self, simulation: Simulation, action: Tensor, random: EnvironmentRandom) -> None:
        """Move the mocap body from the gripper's pose by the action, and the fingers' set points.

        The turn is added to the quaternion, not multiplied, and MuJoCo makes its length one again.
        """
        action = action.clamp(-1.0, 1.0)
        pose = simulation.field("grip_pose")
        simulation.field("mocap_pos")[:, 0] = pose[:, :3] + action[:, :3] * _REACH_OF_ACTION
        simulation.field("mocap_quat")[:, 0] = pose[:, 3:] + constant(_DOWNWARD, pose)
        set_point = simulation.field("qpos")[:, _facts(simulation).actuated.position]
        simulation.field("ctrl").copy_(set_point if self.blocked_fingers else set_point + action[:, 3:])

    def after_step(self, simulation: Simulation, random: EnvironmentRandom) -> None:
        """Shut the fingers where they are blocked, and note where the gripper is."""
        if self.blocked_fingers:
            simulation.field("qpos").index_fill_(1, _facts(simulation).fingers.position, 0.0)
            simulation.forward(None, positions_only=True)  # nothing else is read before the next step
        self._note_grip(simulation, slice(None))

    @staticmethod
    def _note_grip(simulation: Simulation, env_ids: Tensor | slice) -> None:
        body, pose = _facts(simulation).gripper_body, simulation.field("grip_pose")
        pose[env_ids, :3] = simulation.field("xpos")[env_ids, body]
        pose[env_ids, 3:] = simulation.field("xquat")[env_ids, body]

    # -- an episode's start -----------------------------------------------------------------------------------

    def initial_state(self, facts: ModelFacts, random: EnvironmentRandom, env_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Start as the setup ended, the object somewhere around the gripper but not under it."""
        assert isinstance(facts, FetchFacts)
        qpos = facts.initial_qpos.expand(len(env_ids), -1).clone()
        if self.has_object:
            reach = [self.object_range] * 2
            offset = random.until(
                env_ids, 2, [-self.object_range] * 2, reach, lambda place: norm(place) >= _NEAREST_OBJECT
            )
            qpos[:, facts.object_joint.position[:2]] = facts.start[:2] + offset
        return qpos, facts.initial_qvel.expand(len(env_ids), -1)

    def after_reset(self, simulation: Simulation, env_ids: Tensor) -> None:
        """Note where the gripper is."""
        self._note_grip(simulation, env_ids)

    def draw_goal(self, fields: Fields, random: EnvironmentRandom, env_ids: Tensor) -> Tensor:
        """Draw a point around the gripper's start: in space, on the table, or half of them above it."""
        facts = _facts(fields)
        goal = facts.start + random.uniform(env_ids, 3, -self.target_range, self.target_range)
        if not self.has_object:
            return goal
        goal[:, 0] += self.target_offset
        goal[:, 2].fill_(facts.object_height)
        if self.target_in_the_air:
            chance, height = random.uniform(env_ids, 2, [0.0, 0.0], [1.0, 0.45]).unbind(dim=1)
            goal[:, 2] += torch.where(chance < 0.5, height, 0.0)
        return goal

    def shown(self, facts: ModelFacts, qpos: Tensor, memory: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Show the goal as a red ball."""
        return qpos, memory["goal"].unsqueeze(1)

    # -- what is seen and judged ------------------------------------------------------------------------------

    def achieved_goal(self, fields: Fields) -> Tensor:
        """Return where the object is, or the gripper where there is none, (n, 3)."""
        facts = _facts(fields)
        return (facts.object or facts.grip).place(fields)

    def own_observation(self, fields: Fields) -> Tensor:
        """Return positions, the object's relative to the gripper, fingers, velocities a step: (n, 10 or 25)."""
        facts = _facts(fields)
        step_s = self.seconds(facts)
        grip, grip_velocity = facts.grip.place(fields), facts.grip.velocity(fields)[0] * step_s
        fingers = fields.field("qpos")[:, facts.fingers.position]
        finger_velocity = fields.field("qvel")[:, facts.fingers.velocity] * step_s
        if facts.object is None:
            return torch.cat([grip, fingers, grip_velocity, finger_velocity], dim=1)
        place = facts.object.place(fields)
        matrix = fields.field("site_xmat")[:, facts.object.index].unflatten(-1, (3, 3))
        linear, angular = facts.object.velocity(fields)
        parts = [
            *(grip, place, place - grip, fingers, rotations.matrix_to_euler(matrix)),
            *(linear * step_s - grip_velocity, angular * step_s, grip_velocity, finger_velocity),
        ]
        return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class FetchReach(FetchTask):
    """Bring the gripper to a point."""

    name: ClassVar[str] = "FetchReach"
    has_object: ClassVar[bool] = False
    base_position: ClassVar[tuple[float, float, float]] = (0.4049, 0.48, 0.0)
    extra_height: ClassVar[float] = 0.2

    xml_file: str = "fetch/reach.xml"


@dataclass(frozen=True)
class FetchPush(FetchTask):
    """Push a block to a point on the table, fingers shut."""

    name: ClassVar[str] = "FetchPush"
    base_position: ClassVar[tuple[float, float, float]] = (0.405, 0.48, 0.0)
    object_position: ClassVar[tuple[float, float, float]] = (1.25, 0.53, 0.4)

    xml_file: str = "fetch/push.xml"


@dataclass(frozen=True)
class FetchSlide(FetchTask):
    """Hit a puck so that it slides to a point out of reach."""

    name: ClassVar[str] = "FetchSlide"
    base_position: ClassVar[tuple[float, float, float]] = (0.05, 0.48, 0.0)
    object_position: ClassVar[tuple[float, float, float]] = (1.7, 1.1, 0.41)
    extra_height: ClassVar[float] = -0.02
    target_offset: ClassVar[float] = 0.4
    object_range: ClassVar[float] = 0.1
    target_range: ClassVar[float] = 0.3

    xml_file: str = "fetch/slide.xml"


@dataclass(frozen=True)
class FetchPickAndPlace(FetchTask):
    """Grasp a block and bring it to a point on the table or above it."""

    name: ClassVar[str] = "FetchPickAndPlace"
    blocked_fingers: ClassVar[bool] = False
    base_position: ClassVar[tuple[float, float, float]] = (0.405, 0.48, 0.0)
    object_position: ClassVar[tuple[float, float, float]] = (1.25, 0.53, 0.4)
    extra_height: ClassVar[float] = 0.2
    target_in_the_air: ClassVar[bool] = True

    xml_file: str = "fetch/pick_and_place.xml"
