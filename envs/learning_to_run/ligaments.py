"""Soft joint stops: the torque of six springs and dampers that tighten beyond a joint's range.

The law of OpenSim's CoordinateLimitForce: with e the excess over the limit, w the transition's width and S the quintic
step, the stiffness is k = K S(e / w), the torque k e towards the range less D (k / K) times the velocity. The quintic's
argument is cut to [0, 1], so that the stops are slack inside of the range.

Shapes: N environments; legs right, left; joints hip, knee, ankle.
"""

from __future__ import annotations

import math

from torch import Tensor

from envs.constants import constant

_LIMITS = ((-30.0, 120.0), (-140.0, 10.0), (-40.0, 20.0))  # degrees: hip, knee, ankle
_WIDTH = math.radians(10.0)
STIFFNESS = math.degrees(20.0)  # 20 N m a degree, in N m/rad
DAMPING = math.degrees(0.25)  # N m s/rad
_MIDDLE = tuple(math.radians((low + high) / 2.0) for low, high in _LIMITS)
_HALF = tuple(math.radians((high - low) / 2.0) for low, high in _LIMITS)


def stop_torque(angle: Tensor, velocity: Tensor) -> Tensor:
    """Return the torques (2, 3, N) in N m at angles and velocities (2, 3, N); positive ones turn with the angle."""
    place = angle - constant(_MIDDLE, angle).view(3, 1)
    excess = (place.abs() - constant(_HALF, angle).view(3, 1)).clamp_(min=0.0)
    share = (excess * (1.0 / _WIDTH)).clamp_(max=1.0)
    step = share * share * share * ((share * 6.0 - 15.0) * share + 10.0)
    return step * (-STIFFNESS * excess * place.sign() - DAMPING * velocity)


def stop_effort(torque: Tensor) -> Tensor:
    """Return the root of the sum of squares of the six torques (2, 3, N), (N,): what the reward charges for."""
    squares = torque * torque
    legs = squares[0] + squares[1]
    return (legs[0] + legs[1] + legs[2]).sqrt()
