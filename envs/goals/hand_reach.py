"""HandReach: the Shadow hand brings its thumb and one finger together, the other fingertips staying where they are.

Same task as Gymnasium-Robotics' HandReach-v3.

Shapes: n environments.
"""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import mujoco
import torch
from torch import Tensor

from envs.constants import constant
from envs.goals.hand import HandTask
from envs.goals.task import Addresses, joint_addresses, robot_joints
from envs.random import EnvironmentRandom
from envs.simulation.base import Fields, ModelFacts
from envs.task import Marker

_FINGERTIPS = [f"robot0:S_{finger}tip" for finger in ("ff", "mf", "rf", "lf", "th")]
_THUMB = 4
_PALM_TO_MEETING = (0.0, -0.09, 0.05)  # m
_MEETING_STD = 0.005  # m
_GAP = 0.005  # m, from a fingertip's goal to the meeting point
_BACK_TO_START = 0.1  # share of the goals
_START = {
    "WRJ1": -0.16514339750464327,
    "WRJ0": -0.31973286565062153,
    "FFJ3": 0.14340512546557435,
    "FFJ2": 0.32028208333591573,
    "FFJ1": 0.7126053607727917,
    "FFJ0": 0.6705281001412586,
    "MFJ3": 0.000246444303701037,
    "MFJ2": 0.3152655251085491,
    "MFJ1": 0.7659800313729842,
    "MFJ0": 0.7323156897425923,
    "RFJ3": 0.00038520700007378114,
    "RFJ2": 0.36743546201985233,
    "RFJ1": 0.7119514095008576,
    "RFJ0": 0.6699446327514138,
    "LFJ4": 0.0525442258033891,
    "LFJ3": -0.13615534724474673,
    "LFJ2": 0.39872030433433003,
    "LFJ1": 0.7415570009679252,
    "LFJ0": 0.704096378652974,
    "THJ4": 0.003673823825070126,
    "THJ3": 0.5506291436028695,
    "THJ2": -0.014515151997119306,
    "THJ1": -0.0015229223564485414,
    "THJ0": -0.7894883021600622,
}


@dataclass(frozen=True)
class HandReachFacts(ModelFacts):
    """Constants of the model.

    Attributes:
        joints: The hand's joints.
        fingertips: (5,) int64 sites, the thumb's last.
        start: (5, 3) where the fingertips are when an episode begins.
        palm: (3,) where the palm is then.
    """

    joints: Addresses
    fingertips: Tensor
    start: Tensor
    palm: Tensor


def _facts(fields: Fields) -> HandReachFacts:
    facts = fields.facts
    assert isinstance(facts, HandReachFacts)
    return facts


@dataclass(frozen=True)
class HandReach(HandTask):
    """Options of HandReach; its distance is that of all five fingertips together, of 15 numbers."""

    name: ClassVar[str] = "HandReach"
    max_episode_steps: ClassVar[int] = 50
    goal_size: ClassVar[int] = 15
    markers: ClassVar[tuple[Marker, ...]] = (
        *(Marker(f"target{tip}") for tip in range(5)),
        *(Marker(f"finger{tip}", upon=name) for tip, name in enumerate(_FINGERTIPS)),
    )

    xml_file: str = "hand/reach.xml"
    distance_threshold: float = 0.01

    def setup(self, model: Any, facts: ModelFacts) -> HandReachFacts:
        """Bend the fingers into the start position, and measure it."""
        data = mujoco.MjData(model)
        for joint, value in _START.items():
            data.joint(f"robot0:{joint}").qpos[0] = value
        mujoco.mj_forward(model, data)
        fingertips = torch.tensor([int(model.site(name).id) for name in _FINGERTIPS])
        return facts.extended(
            HandReachFacts,
            initial_qpos=torch.tensor(data.qpos),
            joints=joint_addresses(model, robot_joints(model)),
            fingertips=fingertips,
            start=torch.tensor(data.site_xpos)[fingertips],
            palm=torch.tensor(data.body("robot0:palm").xpos),
        )

    def initial_state(self, facts: ModelFacts, random: EnvironmentRandom, env_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Start always alike."""
        count = len(env_ids)
        return facts.initial_qpos.expand(count, -1), facts.initial_qvel.expand(count, -1)

    def draw_goal(self, fields: Fields, random: EnvironmentRandom, env_ids: Tensor) -> Tensor:
        """Draw a finger to meet the thumb above the palm; one goal in ten is to stay."""
        facts, count = _facts(fields), len(env_ids)
        finger, stay = random.uniform(env_ids, 2).unbind(dim=1)
        finger = (finger * _THUMB).long().clamp_max(_THUMB - 1)  # a float32 may be rounded up to 1
        meeting = facts.palm + constant(_PALM_TO_MEETING, facts.palm)
        meeting = meeting + random.normal(env_ids, 3) * _MEETING_STD
        goal = facts.start.repeat(count, 1, 1)
        row = torch.arange(count, device=goal.device)
        for tip in (torch.full_like(finger, _THUMB), finger):
            toward = meeting - goal[row, tip]
            toward = toward / toward.square().sum(1, keepdim=True).sqrt()
            goal[row, tip] = meeting - _GAP * toward
        stays = (stay < _BACK_TO_START).view(-1, 1, 1)
        return torch.where(stays, facts.start, goal).flatten(1)

    def shown(self, facts: ModelFacts, qpos: Tensor, memory: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Show the goals of the fingertips, and the fingertips, as balls."""
        return qpos, memory["goal"].unflatten(1, (5, 3))

    def achieved_goal(self, fields: Fields) -> Tensor:
        """Return the fingertips' places, (n, 15)."""
        return fields.field("site_xpos")[:, _facts(fields).fingertips].flatten(1)

    def own_observation(self, fields: Fields) -> Tensor:
        """Return the hand's joint angles, their velocities and the fingertips, (n, 63)."""
        at = _facts(fields).joints
        position, velocity = fields.field("qpos")[:, at.position], fields.field("qvel")[:, at.velocity]
        return torch.cat([position, velocity, self.achieved_goal(fields)], dim=1)
