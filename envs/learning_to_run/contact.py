"""The original's contact law: feet of two spheres on soft ground, and against balls, as forces on the coordinates.

Hunt and Crossley (1975) as Simbody has it: f = (4/3) k d sqrt(R k d) (1 + 1.5 c d') at depth d, with k half of K^(2/3)
where both bodies have stiffness K, and friction that grows with the slip up to a transition velocity. The force acts
half way into the overlap.

Shapes: N environments; legs right, left; spheres heel, toe; B balls.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.constants import constant
from envs.learning_to_run.skeleton import Pair, Pose, Skeleton

RADIUS = 0.05  # of every sphere of the feet, m
PLACE = (0.03, 0.04)  # of the spheres in the calcaneus and in the toes
SIDE = (0.0835 + 0.00792, 0.0835 + 0.00792 + 0.00108)  # heel and toe to the side of the body's plane
_HERTZ = 4.0 / 3.0 * 0.5**1.5
_GROUND = 600_000.0 * _HERTZ * RADIUS**0.5  # N / m^1.5
_DISSIPATION = 1.5 * 1.5  # s/m
_FRICTION, _TRANSITION = 0.8, 0.1  # m/s
_BALL = 1e6 * _HERTZ  # over its radius, times the root of the joint radius of curvature
_BALL_DISSIPATION = 1.5 * 1e-5


def contact_forces(skeleton: Skeleton, pose: Pose, pelvis: Pair, balls: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the forces (9, N) on the coordinates, and the normal forces (4, N) of r_heel, r_toe, l_heel, l_toe.

    Args:
        skeleton: The bodies.
        pose: Where they are.
        pelvis: Its x and y, (N,) each.
        balls: (B, 3, N) x, y and radius, or None.
    """
    cos, sin = (part.unsqueeze(1) for part in pose.foot)
    arms_x, arms_y = (
        constant((skeleton.calcn[axis] + PLACE[axis], skeleton.toes[axis] + PLACE[axis]), cos).view(2, 1)
        for axis in (0, 1)
    )
    arm_x, arm_y = cos * arms_x - sin * arms_y, sin * arms_x + cos * arms_y  # (2, 2, N): leg, sphere
    x, y = pose.ankle[0].unsqueeze(1) + arm_x, pose.ankle[1].unsqueeze(1) + arm_y
    rate = pose.foot_rate.unsqueeze(1)
    speed_x, speed_y = (
        pose.ankle_velocity[0].unsqueeze(1) - arm_y * rate,
        pose.ankle_velocity[1].unsqueeze(1) + arm_x * rate,
    )

    depth = (RADIUS - y).clamp(min=0.0)
    normal = (_GROUND * depth * depth.sqrt() * (1.0 - _DISSIPATION * speed_y)).clamp(min=0.0)
    lever = RADIUS - 0.5 * depth
    slip = speed_x + rate * lever
    tangential = -_FRICTION * normal * (slip * (1.0 / _TRANSITION)).clamp(-1.0, 1.0)
    force_x, force_y, moment = tangential, normal, tangential * lever  # about the spheres' centers
    if balls is not None:
        push_x, push_y, push = _ball_forces(x, y, speed_x, speed_y, balls)
        force_x, force_y, normal = force_x + push_x, force_y + push_y, normal + push

    def torque(joint: Pair) -> Tensor:
        """Return what turns a joint (2, N), of one leg or of both."""
        joint_x, joint_y = (place if place.ndim == 1 else place.unsqueeze(1) for place in joint)
        both = (x - joint_x) * force_y - (y - joint_y) * force_x + moment
        return both[:, 0] + both[:, 1]

    sum_x, sum_y = force_x[:, 0] + force_x[:, 1], force_y[:, 0] + force_y[:, 1]
    tilt = torque(pelvis)
    joints = torch.stack([torque(joint) for joint in (pose.hip, pose.knee, pose.ankle)], dim=1).flatten(0, 1)
    whole = torch.stack([sum_x[0] + sum_x[1], sum_y[0] + sum_y[1], tilt[0] + tilt[1]])
    return torch.cat([whole, joints]), normal.flatten(0, 1)


def _ball_forces(
    x: Tensor, y: Tensor, speed_x: Tensor, speed_y: Tensor, balls: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the frictionless forces of balls on spheres, x, y and size, (2, 2, N) each, summed over the balls."""
    radius = balls[:, 2].unsqueeze(1).unsqueeze(1)  # (B, 1, 1, N)
    away_x = x - balls[:, 0].unsqueeze(1).unsqueeze(1)
    away_y = y - balls[:, 1].unsqueeze(1).unsqueeze(1)
    sides = constant(SIDE, x).view(2, 1)
    distance = (away_x * away_x + away_y * away_y + sides * sides).sqrt()
    depth = (RADIUS + radius - distance).clamp(min=0.0)
    curvature = RADIUS * radius / (RADIUS + radius)
    unit_x, unit_y = away_x / distance, away_y / distance
    closing = -(unit_x * speed_x + unit_y * speed_y)
    size = _BALL / radius * curvature.sqrt() * depth * depth.sqrt() * (1.0 + _BALL_DISSIPATION * closing)
    size = size.clamp(min=0.0)
    total_x, total_y, total = size[0] * unit_x[0], size[0] * unit_y[0], size[0]
    for index in range(1, len(balls)):
        total_x, total_y = total_x + size[index] * unit_x[index], total_y + size[index] * unit_y[index]
        total = total + size[index]
    return total_x, total_y, total
