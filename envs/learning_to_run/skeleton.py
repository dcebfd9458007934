"""Planar kinematics of the runner, in torch: where its bodies are now, how they move, and the challenge's 41 numbers.

The engine's derived fields describe the state before its last substep, and its tibia hangs from a knee axis that is
moved between substeps; these are the positions and velocities of the current state, the axis's own motion included.

Shapes: N environments; legs right, left. Vectors are pairs (x, y) of tensors, y upwards.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]

# Columns of the 41 numbers (osim-rl 1.5); left comes before right among the places of bodies.
TILT, PELVIS_X, PELVIS_Y = 0, 1, 2
PELVIS_VX, PELVIS_VY = 4, 5
KNEE_R, KNEE_L = 7, 10
MASS_X, MASS_Y, MASS_VX, MASS_VY = 18, 19, 20, 21
HEAD_X, HEAD_Y = 22, 23
TORSO_X = 26
TOES_L_X, TOES_R_X, TALUS_L_X, TALUS_R_X = 28, 30, 32, 34
TALUS_L_Y, TALUS_R_Y = 33, 35
BODIES = slice(22, 36)  # head, pelvis, torso, toes, tali: x and y of each
STRENGTHS = slice(36, 38)
BALL = slice(38, 41)  # distance to the pelvis, height, radius
SIZE = 41


class Pose(NamedTuple):
    """Where the bodies are, in metres, and how they move.

    Attributes:
        hip: The joints' place, one for both legs, (N,) each.
        knee: Of each leg, (2, N) each, as those that follow.
        ankle: The talus's origin.
        ankle_velocity: m/s.
        foot: cosine and sine of the feet's angle.
        foot_rate: (2, N) rad/s.
        mass: Center of mass of the body, (N,) each.
        mass_velocity: m/s.
        head: The head's origin, (N,) each.
        torso: The torso's.
        toes: The toes', (2, N) each.
    """

    hip: Pair
    knee: Pair
    ankle: Pair
    ankle_velocity: Pair
    foot: Pair
    foot_rate: Tensor
    mass: Pair
    mass_velocity: Pair
    head: Pair
    torso: Pair
    toes: Pair


class Skeleton:
    """The bodies' places in their frames and their masses, read from the compiled model.

    Args:
        model: mujoco.MjModel of runner.xml; its x and z are x and y here.
    """

    def __init__(self, model: Any) -> None:
        def body(name: str) -> tuple[float, float, float, float, float]:
            """Return place in the parent, center of mass, and mass."""
            entry = model.body(name)
            (x, _, y), (mass_x, _, mass_y) = entry.pos.tolist(), entry.ipos.tolist()
            return x, y, mass_x, mass_y, float(entry.mass[0])

        pelvis, torso, head = body("pelvis"), body("torso"), body("head")
        lean = torch.tensor(float(2.0 * torch.atan2(*torch.tensor(model.body("torso").quat[[2, 0]]))))
        # A rotation about -y there is one about +z here.
        cos, sin = float(torch.cos(-lean)), float(torch.sin(-lean))
        self.torso = torso[:2]
        self.head = (torso[0] + cos * head[0] - sin * head[1], torso[1] + sin * head[0] + cos * head[1])
        upper = (torso[0] + cos * torso[2] - sin * torso[3], torso[1] + sin * torso[2] + cos * torso[3])
        self.trunk, self.trunk_mass = _combined([(pelvis[2:4], pelvis[4]), (upper, torso[4]), (self.head, head[4])])
        femur, tibia, talus, calcn, toes = (body(f"{name}_r") for name in ("femur", "tibia", "talus", "calcn", "toes"))
        self.hip, self.thigh, self.thigh_mass = femur[:2], femur[2:4], femur[4]
        self.shank, self.shank_mass = tibia[2:4], tibia[4]
        self.ankle = talus[:2]
        self.calcn = calcn[:2]
        self.toes = (calcn[0] + toes[0], calcn[1] + toes[1])
        parts = [
            (talus[2:4], talus[4]),
            ((calcn[0] + calcn[2], calcn[1] + calcn[3]), calcn[4]),
            ((self.toes[0] + toes[2], self.toes[1] + toes[3]), toes[4]),
        ]
        self.foot, self.foot_mass = _combined(parts)
        self.mass = self.trunk_mass + 2.0 * (self.thigh_mass + self.shank_mass + self.foot_mass)

    def pose(self, position: Tensor, velocity: Tensor, tibia: Tensor, tibia_rate: Tensor) -> Pose:
        """Return the pose at coordinates and velocities (9, N): pelvis x, y, tilt, and three joints of each leg.

        Args:
            position: (9, N).
            velocity: (9, N).
            tibia: (2, 2, N) of each leg x and y of the tibia's origin in the femur.
            tibia_rate: (2, 2, N) its derivative with the knee's angle.
        """
        x, y, tilt = position[0], position[1], position[2:3]
        legs, leg_rates = position[3:].unflatten(0, (2, 3)), velocity[3:].unflatten(0, (2, 3))
        thigh = tilt + legs[:, 0]
        shank = thigh + legs[:, 1]
        angles = torch.cat([tilt, thigh, shank, shank + legs[:, 2]])  # (7, N)
        cos, sin = angles.cos(), angles.sin()
        turn = velocity[2]
        thigh_rate = turn + leg_rates[:, 0]
        shank_rate = thigh_rate + leg_rates[:, 1]
        foot_rate = shank_rate + leg_rates[:, 2]
        trunk_turn, thigh_turn, shank_turn, foot_turn = (
            (cos[rows], sin[rows]) for rows in (0, slice(1, 3), slice(3, 5), slice(5, 7))
        )

        def add(start: Pair, arm: Pair) -> Pair:
            return start[0] + arm[0], start[1] + arm[1]

        origin, origin_velocity = (x, y), (velocity[0], velocity[1])
        hip_arm = _turned(trunk_turn, self.hip)
        hip, hip_velocity = add(origin, hip_arm), add(origin_velocity, _spun(hip_arm, turn))
        knee_arm = _turned(thigh_turn, (tibia[:, 0], tibia[:, 1]))
        slide = _turned(thigh_turn, (tibia_rate[:, 0] * leg_rates[:, 1], tibia_rate[:, 1] * leg_rates[:, 1]))
        knee = add(hip, knee_arm)
        knee_velocity = add(add(hip_velocity, _spun(knee_arm, thigh_rate)), slide)
        ankle_arm = _turned(shank_turn, self.ankle)
        ankle = add(knee, ankle_arm)
        ankle_velocity = add(knee_velocity, _spun(ankle_arm, shank_rate))

        trunk_arm = _turned(trunk_turn, self.trunk)
        thigh_arm, shank_arm = _turned(thigh_turn, self.thigh), _turned(shank_turn, self.shank)
        foot_arm = _turned(foot_turn, self.foot)
        mass: list[Tensor] = []
        for trunk, part, lower, foot in (
            *zip(add(origin, trunk_arm), add(hip, thigh_arm), add(knee, shank_arm), add(ankle, foot_arm), strict=True),
            *zip(
                add(origin_velocity, _spun(trunk_arm, turn)),
                add(hip_velocity, _spun(thigh_arm, thigh_rate)),
                add(knee_velocity, _spun(shank_arm, shank_rate)),
                add(ankle_velocity, _spun(foot_arm, foot_rate)),
                strict=True,
            ),
        ):
            leg = part * self.thigh_mass + lower * self.shank_mass + foot * self.foot_mass
            mass.append((trunk * self.trunk_mass + (leg[0] + leg[1])) * (1.0 / self.mass))
        return Pose(
            hip=hip,
            knee=knee,
            ankle=ankle,
            ankle_velocity=ankle_velocity,
            foot=foot_turn,
            foot_rate=foot_rate,
            mass=(mass[0], mass[1]),
            mass_velocity=(mass[2], mass[3]),
            head=add(origin, _turned(trunk_turn, self.head)),
            torso=add(origin, _turned(trunk_turn, self.torso)),
            toes=add(ankle, _turned(foot_turn, self.toes)),
        )


def numbers(position: Tensor, velocity: Tensor, pose: Pose, strength: Tensor, ball: Tensor) -> Tensor:
    """Return the 41 numbers of the challenge, (N, 41).

    Args:
        position: (9, N) coordinates, as `Skeleton.pose` takes them.
        velocity: (9, N).
        pose: That of them.
        strength: (N, 2) of the psoas muscles, right and left.
        ball: (N, 3) the next ball: its distance, height and radius.
    """
    rows = [position[2], position[0], position[1], velocity[2], velocity[0], velocity[1], *position[3:], *velocity[3:]]
    rows += [*pose.mass, *pose.mass_velocity, *pose.head, position[0], position[1], *pose.torso]
    for place in (pose.toes, pose.ankle):
        rows += [place[0][1], place[1][1], place[0][0], place[1][0]]
    return torch.cat([torch.stack(rows, dim=1), strength.flip(1), ball], dim=1)


def _turned(turn: Pair, arm: tuple[float, float] | Pair) -> Pair:
    """Return an arm turned by an angle of which (cosine, sine) are given."""
    (cos, sin), (x, y) = turn, arm
    return cos * x - sin * y, sin * x + cos * y


def _spun(arm: Pair, rate: Tensor) -> Pair:
    """Return the velocity of an arm's end that turns at a rate."""
    return -(arm[1] * rate), arm[0] * rate


def _combined(parts: list[tuple[tuple[float, ...], float]]) -> tuple[tuple[float, float], float]:
    """Return the center of mass and the mass of parts (place, mass)."""
    total = sum(mass for _, mass in parts)
    x, y = (sum(place[axis] * mass for place, mass in parts) / total for axis in (0, 1))
    return (x, y), total
