"""The runner in a mirror: which of its numbers change places when left becomes right.

It is planar, so that nothing changes its sign. Numbers have names, in which "_r" and "_l" say of which side they are.

Shapes: D numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from envs.learning_to_run.path_points import MUSCLES

_JOINTS = ("hip", "knee", "ankle")
_SIDES = ("_r", "_l")
BODIES = ("head", "pelvis", "torso", "toes_l", "toes_r", "talus_l", "talus_r")
# The 41 numbers of the challenge.
RAW_NAMES = (
    *("tilt", "pelvis_x", "pelvis_y", "tilt_rate", "pelvis_vx", "pelvis_vy"),
    *(f"{joint}{side}" for side in _SIDES for joint in _JOINTS),
    *(f"{joint}_rate{side}" for side in _SIDES for joint in _JOINTS),
    *("mass_x", "mass_y", "mass_vx", "mass_vy"),
    *(f"{body}.{axis}" for body in BODIES for axis in "xy"),
    *("strength_l", "strength_r", "ball_x", "ball_y", "ball_radius"),
)


def mirrored(names: Sequence[str]) -> tuple[int, ...]:
    """Return, of each name, the place (D,) of the one that is of the other side; its own, where it is of none."""
    swap = {"_r": "_l", "_l": "_r"}

    def other(name: str) -> str:
        head, dot, tail = name.partition(".")
        for side, opposite in swap.items():
            if head.endswith(side):
                return f"{head.removesuffix(side)}{opposite}{dot}{tail}"
        return name

    place = {name: index for index, name in enumerate(names)}
    return tuple(place[other(name)] for name in names)


RAW = mirrored(RAW_NAMES)
ACTION = mirrored([f"{muscle}{side}" for side in _SIDES for muscle in MUSCLES])
