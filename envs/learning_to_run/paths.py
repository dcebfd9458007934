"""Muscle paths: lengths and exact moment arms of nine muscles a leg.

Each path is a line through points on bones, and exactly one of its segments varies in length (of a flexed rectus
femoris two, of one angle each). What a joint feels is -dL/dq of the whole path, with what the moving knee axis and the
moving insertions on the tibia contribute. Of three muscles the length depends on two angles: it is that of a sum of two
vectors, |g(knee) + R(q) u|, q being the hip or the ankle. All functions of one angle, g and the other muscles' lengths,
are tabulated as cubics on cells that end where a function changes its form.

All is planar but for constant offsets to the side. Angles are about +z: hip and ankle flex forward with positive
angles, the knee flexes with negative ones.

Shapes: N environments; legs right, left; nine muscles, ordered by the joints that they cross.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from envs.learning_to_run.path_points import (
    ANKLE,
    CALCANEUS,
    CONDITIONS,
    HIP,
    KNEE_FUNCTIONS,
    MUSCLES,
    PATHS,
)
from envs.learning_to_run.splines import sampled_cubics, spline_cubics
from envs.simulation.base import Movable

# The muscles by the joints that they cross, so that those of a joint are neighbours.
ORDER = ("glut_max", "iliopsoas", "hamstrings", "rect_fem", "bifemsh", "vasti", "gastroc", "soleus", "tib_ant")
AT_HIP, AT_KNEE, AT_ANKLE = slice(0, 4), slice(2, 7), slice(6, 9)
PLACES = tuple(MUSCLES.index(muscle) for muscle in ORDER)  # of them in the order of actions
_TOLERANCE = 1e-5  # rad, by which OpenSim widens the ranges of conditional points
_CELL, _REACH = 0.01, 3.5  # rad: widest cell of a table, and the angle beyond which it goes on in straight lines
_COLUMNS = 8  # functions a slot of the table
# Angles that are looked up: hip, knee (g of the muscles of two angles), knee (the rest), ankle.
_SLOTS = (0, 1, 1, 2)

_Columns = Callable[[Tensor, Tensor], list[Tensor]]


class PathState(NamedTuple):
    """Where the muscles are.

    Attributes:
        length: (2, 9, N) metres of tendon and muscle, in the order of `ORDER`.
        by_hip: (2, 4, N) dL/dq of the muscles `AT_HIP`, metres a radian; a moment arm is its opposite.
        by_knee: (2, 5, N) of those `AT_KNEE`.
        by_ankle: (2, 3, N) of those `AT_ANKLE`.
        tibia: (2, 2, N): of each leg x and y of the tibia's origin in the femur.
        tibia_rate: (2, 2, N) its derivative with the knee's angle.
    """

    length: Tensor
    by_hip: Tensor
    by_knee: Tensor
    by_ankle: Tensor
    tibia: Tensor
    tibia_rate: Tensor


class MusclePaths(Movable):
    """The paths of both legs; all of its tensors are constants of the model."""

    def __init__(self) -> None:
        self._knee = spline_cubics(KNEE_FUNCTIONS)
        knots = [np.asarray(knots) for knots, _ in KNEE_FUNCTIONS.values()]
        bounds = {angle: [] for angle in ("hip", "knee", "ankle")}
        for angle, low, high in CONDITIONS.values():
            bounds[angle] += [low - _TOLERANCE, high + _TOLERANCE]
        knee_breaks = _breaks([*bounds["knee"], *np.concatenate(knots)])
        parts: list[tuple[_Columns, np.ndarray]] = [
            (_hip_columns, _breaks(bounds["hip"])),
            (self._vector_columns, knee_breaks),
            (self._knee_columns, knee_breaks),
            (_ankle_columns, _breaks(bounds["ankle"])),
        ]
        self._table = sampled_cubics([(_padded(columns), breaks) for columns, breaks in parts])
        self._slots = torch.tensor(_SLOTS)
        # Vectors that turn against g: of hamstrings and rect_fem with the hip, backwards, of gastroc with the ankle.
        hip = torch.tensor(HIP, dtype=torch.float64)
        arms = [hip - _place("hamstrings", 0), hip - _place("rect_fem", 0), _place("gastroc", 2)]
        self._arm_x, self._arm_y = (torch.stack([arm[axis] for arm in arms]).view(3, 1) for axis in (0, 1))
        self._turning = torch.tensor([0, 0, 2])
        self._sign = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64).view(3, 1)
        _, low, high = CONDITIONS["rect_fem"]
        self._flexed = (low - _TOLERANCE, high + _TOLERANCE)

    def tibia(self, knee: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and y of the tibiae's origins in the femora, and their derivatives, (2, 2, n), at angles (2, n)."""
        value, rate = self._knee(knee.unsqueeze(1))
        return value[:, 0, :2], rate[:, 0, :2]

    def __call__(self, joints: Tensor) -> PathState:
        """Return lengths and derivatives at angles (2, 3, N): of each leg the hip, the knee, the ankle."""
        value, rate = self._table(joints.index_select(1, self._slots))  # (2, 4, 8, N)
        turned = joints.index_select(1, self._turning) * self._sign
        cos, sin = turned.cos(), turned.sin()
        arm_x, arm_y = cos * self._arm_x - sin * self._arm_y, sin * self._arm_x + cos * self._arm_y  # (2, 3, N)
        vector, vector_rate, rest, rest_rate = value[:, 1], rate[:, 1], value[:, 2], rate[:, 2]
        x, y = vector[:, 0:3] + arm_x, vector[:, 3:6] + arm_y
        length = (x * x + y * y + rest[:, 5:8]).sqrt()
        per_length = length.reciprocal()
        by_knee = (x * vector_rate[:, 0:3] + y * vector_rate[:, 3:6]) * per_length
        by_other = (y * arm_x - x * arm_y) * per_length * self._sign
        # A flexed rectus femoris bends around the femur: two segments, of one angle each.
        knee, (low, high) = joints[:, 1], self._flexed
        flexed = (knee <= high) & (knee >= low)
        hip, hip_rate = value[:, 0], rate[:, 0]
        length[:, 1] = torch.where(flexed, hip[:, 2] + rest[:, 2], length[:, 1])
        by_knee[:, 1] = torch.where(flexed, rest_rate[:, 2], by_knee[:, 1])
        by_other[:, 1] = torch.where(flexed, hip_rate[:, 2], by_other[:, 1])
        length[:, 0::2] += vector[:, 6:8]
        ankle, ankle_rate = value[:, 3], rate[:, 3]
        return PathState(
            length=torch.cat([hip[:, 0:2], length[:, 0:2], rest[:, 0:2], length[:, 2:3], ankle[:, 0:2]], dim=1),
            by_hip=torch.cat([hip_rate[:, 0:2], by_other[:, 0:2]], dim=1),
            by_knee=torch.cat([by_knee[:, 0:2], rest_rate[:, 0:2], by_knee[:, 2:3]], dim=1),
            by_ankle=torch.cat([by_other[:, 2:3], ankle_rate[:, 0:2]], dim=1),
            tibia=rest[:, 3:5],
            tibia_rate=rest_rate[:, 3:5],
        )

    def _vector_columns(self, knee: Tensor, inside: Tensor) -> list[Tensor]:
        """Return x and y of g of hamstrings, rect_fem and gastroc, and the fixed lengths of the first and the last."""
        functions = self._knee(knee.view(1, 1, -1))[0][0, 0]
        cos, sin = knee.cos(), knee.sin()
        on = _chosen("hamstrings", inside)
        end = [torch.where(on, _place("hamstrings", 1)[axis], _place("hamstrings", 2)[axis]) for axis in (0, 1)]
        g = [_added(functions[:2], _turned(cos, sin, *end)), _added(functions[:2], _turned(cos, sin, *functions[2:4]))]
        bent = _chosen("gastroc", inside)
        start = [torch.where(bent, _place("gastroc", 1)[axis], _place("gastroc", 0)[axis]) for axis in (0, 1)]
        gap = functions[0] - start[0], functions[1] - start[1]
        g.append(_added(ANKLE[:2], _turned(cos, -sin, *gap)))
        fixed = [torch.where(_chosen(muscle, inside), *_fixed(muscle)) for muscle in ("hamstrings", "gastroc")]
        return [*(x for x, _ in g), *(y for _, y in g), *fixed]

    def _knee_columns(self, knee: Tensor, inside: Tensor) -> list[Tensor]:
        """Return lengths of bifemsh, vasti, a flexed rect_fem's lower half; the tibia's origin; offsets squared."""
        functions = self._knee(knee.view(1, 1, -1))[0][0, 0]
        cos, sin = knee.cos(), knee.sin()

        def reach(start: Tensor, end: Sequence[Tensor], side: Tensor) -> Tensor:
            x, y = _turned(cos, sin, end[0], end[1])
            x, y = functions[0] + x - start[0], functions[1] + y - start[1]
            return (x * x + y * y + (side - start[2]) ** 2).sqrt()

        bifemsh = reach(_place("bifemsh", 0), _place("bifemsh", 1).unbind()[:2], _place("bifemsh", 1)[2])
        side = _place("vasti", 3)[2]
        vasti = [reach(_place("vasti", index), functions[4:6].unbind(), side) for index in (2, 1)]
        vasti = [length + fixed for length, fixed in zip(vasti, _fixed("vasti"), strict=True)]
        rectus = reach(_place("rect_fem", 1), functions[2:4].unbind(), _place("rect_fem", 2)[2])
        sides = [
            (_place(muscle, last)[2] - torch.where(_chosen(muscle, inside), *(_place(muscle, i)[2] for i in first)))
            ** 2
            for muscle, first, last in (("rect_fem", (1, 0), 2), ("gastroc", (1, 0), 2))
        ]
        top = _place("hamstrings", 0)[2]
        on = _chosen("hamstrings", inside)
        sides.insert(0, (torch.where(on, _place("hamstrings", 1)[2], _place("hamstrings", 2)[2]) - top) ** 2)
        lengths = [bifemsh + _fixed("bifemsh")[0], torch.where(_chosen("vasti", inside), *vasti), rectus]
        return [*lengths, functions[0], functions[1], *sides]


def _hip_columns(hip: Tensor, inside: Tensor) -> list[Tensor]:
    """Return lengths of glut_max, iliopsoas, and a flexed rect_fem's upper half, (n,) each."""

    def reach(muscle: str, start: int, end: int) -> Tensor:
        offset = torch.tensor(HIP, dtype=torch.float64) - _place(muscle, start)
        return _reach(hip, offset, _place(muscle, end), offset[2] - HIP[2])

    iliopsoas = [reach("iliopsoas", start, 3) + fixed for start, fixed in zip((2, 1), _fixed("iliopsoas"), strict=True)]
    chosen = torch.where(_chosen("iliopsoas", inside), *iliopsoas)
    return [reach("glut_max", 1, 2) + _fixed("glut_max")[0], chosen, reach("rect_fem", 0, 1)]


def _ankle_columns(ankle: Tensor, inside: Tensor) -> list[Tensor]:
    """Return lengths of soleus and tib_ant, (n,) each."""

    def reach(muscle: str, start: int, end: int) -> Tensor:
        offset = torch.tensor(ANKLE, dtype=torch.float64) - _place(muscle, start)
        return _reach(ankle, offset, _place(muscle, end), offset[2]) + _fixed(muscle)[0]

    return [reach("soleus", 0, 1), reach("tib_ant", 1, 2)]


def _reach(angle: Tensor, offset: Tensor, point: Tensor, side: Tensor) -> Tensor:
    """Return |offset + R(angle) point|, (n,); sideways is `side` plus the point's."""
    x, y = _turned(angle.cos(), angle.sin(), point[0], point[1])
    return ((offset[0] + x) ** 2 + (offset[1] + y) ** 2 + (side + point[2]) ** 2).sqrt()


def _padded(columns: _Columns) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what gives all of a slot's columns, (F, n), zeros where there are fewer functions."""

    def all_columns(angle: Tensor, inside: Tensor) -> Tensor:
        found = columns(angle, inside)
        return torch.stack([*found, *[angle * 0.0] * (_COLUMNS - len(found))])

    return all_columns


def _breaks(special: Sequence[float]) -> np.ndarray:
    """Return the breaks between cells: a grid, and angles where a function changes its form."""
    grid = np.arange(-_REACH, _REACH + _CELL, _CELL)
    found = np.unique(np.concatenate([grid, np.asarray(special, dtype=float)]))
    apart = np.diff(found) > 1e-9  # of two breaks at one place the cell between them has no width
    return found[np.concatenate([[True], apart])]


def _turned(cos: Tensor, sin: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return cos * x - sin * y, sin * x + cos * y


def _added(one: Sequence[float] | Tensor, other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return other[0] + one[0], other[1] + one[1]


def _place(muscle: str, index: int) -> Tensor:
    """Return a point of a path (3,), of the calcaneus in the talus's frame, whose origin is the ankle's axis.

    Sideways, it is where it is in the pelvis's frame, since nothing moves sideways.
    """
    bone, (x, y, z) = PATHS[muscle][index]
    place = (x, y, z)
    if bone.startswith("calcn"):
        place = (x + CALCANEUS[0], y + CALCANEUS[1], z + HIP[2] + CALCANEUS[2])
    elif not bone.startswith("pelvis"):
        place = (x, y, z + HIP[2])
    return torch.tensor(place, dtype=torch.float64)


def _fixed(muscle: str) -> tuple[Tensor, Tensor]:
    """Return the summed length of segments within one bone, with the conditional point and without."""
    bones = [bone for bone, _ in PATHS[muscle]]

    def total(kept: list[int]) -> Tensor:
        pairs = [(a, b) for a, b in zip(kept, kept[1:], strict=False) if bones[a].rstrip("?") == bones[b].rstrip("?")]
        lengths = [(_place(muscle, a) - _place(muscle, b)).square().sum().sqrt() for a, b in pairs]
        return sum(lengths, torch.zeros((), dtype=torch.float64))

    everyone = list(range(len(bones)))
    return total(everyone), total([index for index in everyone if not bones[index].endswith("?")])


def _chosen(muscle: str, angle: Tensor) -> Tensor:
    """Return bool (n,): whether the path is led over its conditional point."""
    _, low, high = CONDITIONS[muscle]
    return (angle >= low - _TOLERANCE) & (angle <= high + _TOLERANCE)
