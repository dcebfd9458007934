"""Muscle paths: lengths and exact moment arms of nine muscles a leg, in closed form.

Each path is a line through points on bones, and exactly one of its segments varies in length (of a flexed rectus
femoris two, of one angle each). What a joint feels is -dL/dq of the whole path, with what the moving knee axis and the
moving insertions on the tibia contribute. The numbers are those of gait9dof18musc (see docs/learning_to_run.md).

All is planar but for a constant offset to the side. Angles are about +z: hip and ankle flex forward with positive
angles, the knee flexes with negative ones.

Shapes: N environments; legs right, left; nine muscles in the order of `MUSCLES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from envs.learning_to_run.splines import PiecewiseCubics

MUSCLES = ("hamstrings", "bifemsh", "glut_max", "iliopsoas", "rect_fem", "vasti", "gastroc", "soleus", "tib_ant")

Point = tuple[float, float, float]

# Origins of the moving bones in their parents (right leg; the left one's z is the opposite).
HIP: Point = (-0.0707, -0.0661, 0.0835)
ANKLE: Point = (0.0, -0.43, 0.0)
CALCANEUS: Point = (-0.04877, -0.04195, 0.00792)

# Points that a path is led over only while an angle is between two bounds: muscle -> (angle, low, high).
CONDITIONS = {
    "hamstrings": ("knee", -0.5585, 0.1745),
    "iliopsoas": ("hip", -1.5708, 0.7854),
    "rect_fem": ("knee", -2.618, -1.46),
    "vasti": ("knee", -2.618, -1.42),
    "gastroc": ("knee", -0.7854, 0.1745),
}
# muscle -> its points from the top: (bone, place), of a moving point the name of its splines. The conditional point is
# the one marked "?"; moving points are in the tibia's frame.
PATHS: dict[str, list[tuple[str, Point]]] = {
    "hamstrings": [
        ("pelvis", (-0.1192, -0.09747, 0.07151)),
        ("tibia?", (-0.0348, -0.03519, -0.01891)),
        ("tibia", (-0.027, -0.04771, -0.01957)),
    ],
    "bifemsh": [
        ("femur", (0.005, -0.2111, 0.0234)),
        ("tibia", (-0.0301, -0.036, 0.02943)),
        ("tibia", (-0.0234, -0.0563, 0.0343)),
    ],
    "glut_max": [
        ("pelvis", (-0.1349, 0.0176, 0.0563)),
        ("pelvis", (-0.1376, -0.052, 0.0914)),
        ("femur", (-0.0426, -0.053, 0.0293)),
        ("femur", (-0.0156, -0.1016, 0.0419)),
    ],
    "iliopsoas": [
        ("pelvis", (-0.0647, 0.0887, 0.0289)),
        ("pelvis", (-0.0238, -0.057, 0.0759)),
        ("pelvis?", (-0.0288, -0.0805, 0.0816)),
        ("femur", (0.0016, -0.0507, 0.0038)),
        ("femur", (-0.0188, -0.0597, 0.0104)),
    ],
    "rect_fem": [
        ("pelvis", (-0.0295, -0.0311, 0.0968)),
        ("femur?", (0.0334, -0.403, 0.0019)),
        ("moving", (0.0, 0.0, 0.0014)),
    ],
    "vasti": [
        ("femur", (0.029, -0.1924, 0.031)),
        ("femur", (0.0335, -0.2084, 0.0285)),
        ("femur?", (0.0343, -0.403, 0.0055)),
        ("moving", (0.0, 0.0, 0.0018)),
    ],
    "gastroc": [
        ("femur", (-0.019, -0.3929, -0.0235)),
        ("femur?", (-0.03, -0.4022, -0.0258)),
        ("calcn", (0.0, 0.031, -0.0053)),
    ],
    "soleus": [("tibia", (-0.0024, -0.1533, 0.0071)), ("calcn", (0.0, 0.031, -0.0053))],
    "tib_ant": [
        ("tibia", (0.0179, -0.1624, 0.0115)),
        ("tibia", (0.0329, -0.3951, -0.0177)),
        ("calcn", (0.1166, 0.0178, -0.0305)),
    ],
}
# Functions of the knee's angle: the tibia's origin in the femur, and the insertions on it that move.
_MOVING_KNOTS = (
    *(-2.0944, -1.99997, -1.5708, -1.45752, -1.39626, -1.0472, -0.698132, -0.526391, -0.349066, -0.174533, 0.0),
    *(0.00017453, 0.00034907, 0.0279253, 0.0872665, 0.174533, 2.0944),
)
KNEE_FUNCTIONS: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "tibia_x": (
        (
            *(-2.0944, -1.74533, -1.39626, -1.0472, -0.698132, -0.349066, -0.174533, 0.197344, 0.337395, 0.490178),
            *(1.52146, 2.0944),
        ),
        (
            *(-0.0032, 0.00179, 0.00411, 0.0041, 0.00212, -0.001, -0.0031, -0.005227, -0.005435, -0.005574),
            *(-0.005435, -0.00525),
        ),
    ),
    "tibia_y": (
        (-2.0944, -1.22173, -0.523599, -0.349066, -0.174533, 0.159149, 2.0944),
        (-0.4226, -0.4082, -0.399, -0.3976, -0.3966, -0.395264, -0.396),
    ),
    "rect_fem_x": (
        _MOVING_KNOTS,
        (
            *(0.0155805, 0.0179938, 0.0275081, 0.0296564, 0.0307615, 0.0365695, 0.0422074, 0.0450902, 0.048391),
            *(0.0534299, 0.0617576, 0.0617669, 0.0617762, 0.0633083, 0.066994, 0.0733035, 0.0573481),
        ),
    ),
    "rect_fem_y": (
        _MOVING_KNOTS,
        (
            *(0.0234116, 0.0237613, 0.0251141, 0.0252795, 0.0253146, 0.0249184, 0.0242373, 0.0238447, 0.0234197),
            *(0.0227644, 0.020984, 0.0209814, 0.0209788, 0.0205225, 0.0191754, 0.0159554, -0.0673774),
        ),
    ),
    "vasti_x": (
        _MOVING_KNOTS,
        (
            *(0.0082733, 0.0106866, 0.0202042, 0.022353, 0.0234583, 0.0292715, 0.0349465, 0.037871, 0.0412569),
            *(0.0465287, 0.0554632, 0.0554735, 0.0554837, 0.0571717, 0.061272, 0.0684368, 0.0648818),
        ),
    ),
    "vasti_y": (
        _MOVING_KNOTS,
        (
            *(0.025599, 0.0259487, 0.0273124, 0.0274796, 0.0275151, 0.0271363, 0.0265737, 0.0263073, 0.0261187),
            *(0.0260129, 0.0252923, 0.0252911, 0.0252898, 0.0250526, 0.0242191, 0.0218288, -0.0685706),
        ),
    ),
}
_TOLERANCE = 1e-5  # rad, by which OpenSim widens the ranges of conditional points


class PathState(NamedTuple):
    """Where the muscles are.

    Attributes:
        length: (2, 9, N) metres of tendon and muscle.
        by_hip: (2, 9, N) dL/dq of the hip, metres a radian; the moment arm is its opposite.
        by_knee: Of the knee.
        by_ankle: Of the ankle.
        tibia: (2, 2, N): x and y of the tibia's origin in the femur, of both legs.
        tibia_rate: (2, 2, N) its derivative with the knee's angle.
    """

    length: Tensor
    by_hip: Tensor
    by_knee: Tensor
    by_ankle: Tensor
    tibia: Tensor
    tibia_rate: Tensor


class MusclePaths:
    """The paths of both legs; all of its tensors are constants of the model."""

    def __init__(self) -> None:
        self.knee_functions = PiecewiseCubics(KNEE_FUNCTIONS)
        points = {muscle: [_in_joint_frame(*point) for point in path] for muscle, path in PATHS.items()}

        def place(muscle: str, index: int) -> Tensor:
            return torch.tensor(points[muscle][index], dtype=torch.float64)

        def fixed(muscle: str, *skipped: int) -> float:
            """Return the summed length of the segments within one bone, some points left out."""
            kept = [index for index in range(len(PATHS[muscle])) if index not in skipped]
            pairs = [pair for pair in zip(kept, kept[1:], strict=False) if _same_bone(muscle, *pair)]
            return sum(float((place(muscle, a) - place(muscle, b)).square().sum().sqrt()) for a, b in pairs)

        # Segments of one angle: L^2 = A + B cos q + C sin q. Rows: glut_max, iliopsoas, the upper half of a flexed
        # rectus femoris (hip); soleus, tib_ant (ankle); then iliopsoas without its conditional point.
        hip, ankle = torch.tensor(HIP, dtype=torch.float64), torch.tensor(ANKLE, dtype=torch.float64)
        hip[2] = ankle[2] = 0.0  # the sides' offsets are in the points already
        rows = [
            _one_angle(hip - place("glut_max", 1), place("glut_max", 2)),
            _one_angle(hip - place("iliopsoas", 2), place("iliopsoas", 3)),
            _one_angle(hip - place("rect_fem", 0), place("rect_fem", 1)),
            _one_angle(ankle - place("soleus", 0), place("soleus", 1)),
            _one_angle(ankle - place("tib_ant", 1), place("tib_ant", 2)),
        ]
        self._one_angle = torch.stack(rows, dim=1).unsqueeze(2)  # (3, 5, 1)
        self._iliopsoas = _one_angle(hip - place("iliopsoas", 1), place("iliopsoas", 3)).unsqueeze(1)  # (3, 1)
        # Segments that end on the tibia, seen from the femur: hamstrings, bifemsh, rect_fem, vasti.
        self._from_pelvis = torch.stack([hip - place("hamstrings", 0), hip - place("rect_fem", 0)], 1).unsqueeze(2)
        starts = [-place("bifemsh", 0), -place("rect_fem", 1), -place("vasti", 1), -place("vasti", 2)]
        self._from_femur = torch.stack(starts, dim=1).unsqueeze(2)  # (3, 4, 1)
        self._hamstrings = [place("hamstrings", index)[:2].unsqueeze(1) for index in (1, 2)]
        self._bifemsh = place("bifemsh", 1)[:2].unsqueeze(1)
        sides = {
            "hamstrings": [place("hamstrings", index)[2] - place("hamstrings", 0)[2] for index in (1, 2)],
            "bifemsh": [place("bifemsh", 1)[2] - place("bifemsh", 0)[2]],
            "rect_fem": [place("rect_fem", 2)[2] - place("rect_fem", index)[2] for index in (1, 0)],
            "vasti": [place("vasti", 3)[2] - place("vasti", index)[2] for index in (2, 1)],
            "gastroc": [place("gastroc", 2)[2] - place("gastroc", index)[2] for index in (1, 0)],
        }
        # Squares of the sideways offsets (5, 1), with the conditional points and without.
        self._sideways = [torch.stack([s[which if len(s) > 1 else 0] for s in sides.values()]) for which in (0, 1)]
        self._sideways = [offset.square().unsqueeze(1) for offset in self._sideways]
        self._gastroc_start = [place("gastroc", index)[:2].unsqueeze(1) for index in (1, 0)]
        self._gastroc_end = place("gastroc", 2)[:2].unsqueeze(1)
        # Constant lengths (9, 1), with the conditional points and without.
        self._fixed = [
            torch.tensor([[fixed(muscle, *_left_out(muscle, on))] for muscle in MUSCLES], dtype=torch.float64)
            for on in (True, False)
        ]
        bounds = [CONDITIONS.get(muscle, ("knee", 1.0, -1.0))[1:] for muscle in MUSCLES]
        self._low = torch.tensor([[low - _TOLERANCE] for low, _ in bounds], dtype=torch.float64)
        self._high = torch.tensor([[high + _TOLERANCE] for _, high in bounds], dtype=torch.float64)

    def __call__(self, joints: Tensor) -> PathState:
        """Return lengths and derivatives at angles (2, 3, N): of each leg the hip, the knee, the ankle."""
        hip, knee, ankle = (angle.contiguous() for angle in joints.unbind(1))
        cos, sin = joints.cos(), joints.sin()
        (cos_hip, cos_knee, cos_ankle), (sin_hip, sin_knee, sin_ankle) = cos.unbind(1), sin.unbind(1)
        values, rates = self.knee_functions(knee)
        tibia, tibia_rate = values[:2], rates[:2]
        angle = torch.stack([knee, knee, knee, hip, knee, knee, knee, knee, knee], dim=1)
        on = (angle >= self._low) & (angle <= self._high)  # (2, 9, N)
        fixed = torch.where(on, self._fixed[0], self._fixed[1])
        hamstrings_on, flexed, vasti_on, gastroc_on = on[:, 0], on[:, 4], on[:, 5], on[:, 6]

        # Segments of one angle.
        one_cos = torch.stack([cos_hip, cos_hip, cos_hip, cos_ankle, cos_ankle], dim=1)
        one_sin = torch.stack([sin_hip, sin_hip, sin_hip, sin_ankle, sin_ankle], dim=1)
        square = self._one_angle[0] + self._one_angle[1] * one_cos + self._one_angle[2] * one_sin
        slope = self._one_angle[2] * one_cos - self._one_angle[1] * one_sin
        straight = self._iliopsoas[0] + self._iliopsoas[1] * cos_hip + self._iliopsoas[2] * sin_hip
        square[:, 1] = torch.where(on[:, 3], square[:, 1], straight)
        slope[:, 1] = torch.where(on[:, 3], slope[:, 1], self._iliopsoas[2] * cos_hip - self._iliopsoas[1] * sin_hip)
        one = square.sqrt()
        one_rate = slope * 0.5 / one

        # Segments that end on the tibia, in the femur's frame: start + tibia + R(knee) end.
        from_x = self._from_pelvis[0] * cos_hip.unsqueeze(1) + self._from_pelvis[1] * sin_hip.unsqueeze(1)  # (2, 2, N)
        from_y = self._from_pelvis[1] * cos_hip.unsqueeze(1) - self._from_pelvis[0] * sin_hip.unsqueeze(1)
        shape = knee.shape
        start_x, start_y = (
            torch.stack(
                [
                    pelvis[:, 0],
                    femur[0].expand(shape),
                    torch.where(flexed, femur[1], pelvis[:, 1]),
                    torch.where(vasti_on, femur[3], femur[2]),
                ],
                dim=1,
            )
            for pelvis, femur in ((from_x, self._from_femur[0]), (from_y, self._from_femur[1]))
        )
        end_x, end_y = (
            torch.stack(
                [
                    torch.where(hamstrings_on, self._hamstrings[0][axis], self._hamstrings[1][axis]),
                    self._bifemsh[axis].expand(shape),
                    values[2 + axis],
                    values[4 + axis],
                ],
                dim=1,
            )
            for axis in (0, 1)
        )
        cos_k, sin_k = cos_knee.unsqueeze(1), sin_knee.unsqueeze(1)
        turned_x, turned_y = cos_k * end_x - sin_k * end_y, sin_k * end_x + cos_k * end_y
        x = start_x + tibia[0].unsqueeze(1) + turned_x
        y = start_y + tibia[1].unsqueeze(1) + turned_y
        rate_x = tibia_rate[0].unsqueeze(1) - turned_y
        rate_y = tibia_rate[1].unsqueeze(1) + turned_x
        moves_x, moves_y = (torch.stack([rates[2 + axis], rates[4 + axis]], dim=1) for axis in (0, 1))
        rate_x[:, 2:] += cos_k * moves_x - sin_k * moves_y
        rate_y[:, 2:] += sin_k * moves_x + cos_k * moves_y

        # Gastrocnemius, in the tibia's frame: R(-knee) (tibia - start) + ankle + R(ankle) end.
        gap_x = tibia[0] - torch.where(gastroc_on, self._gastroc_start[0][0], self._gastroc_start[1][0])
        gap_y = tibia[1] - torch.where(gastroc_on, self._gastroc_start[0][1], self._gastroc_start[1][1])
        back_x, back_y = cos_knee * gap_x + sin_knee * gap_y, cos_knee * gap_y - sin_knee * gap_x
        heel_x = cos_ankle * self._gastroc_end[0] - sin_ankle * self._gastroc_end[1]
        heel_y = sin_ankle * self._gastroc_end[0] + cos_ankle * self._gastroc_end[1]
        calf_x, calf_y = back_x + ANKLE[0] + heel_x, back_y + ANKLE[1] + heel_y
        calf_rate_x = back_y + cos_knee * tibia_rate[0] + sin_knee * tibia_rate[1]
        calf_rate_y = cos_knee * tibia_rate[1] - sin_knee * tibia_rate[0] - back_x

        all_x, all_y = torch.cat([x, calf_x.unsqueeze(1)], dim=1), torch.cat([y, calf_y.unsqueeze(1)], dim=1)
        sideways = torch.where(on[:, (0, 1, 4, 5, 6)], self._sideways[0], self._sideways[1])
        two = (all_x * all_x + all_y * all_y + sideways).sqrt()
        unit_x, unit_y = all_x / two, all_y / two
        knee_x = torch.cat([rate_x, calf_rate_x.unsqueeze(1)], dim=1)
        knee_y = torch.cat([rate_y, calf_rate_y.unsqueeze(1)], dim=1)
        two_rate = unit_x * knee_x + unit_y * knee_y
        by_hip_hamstrings = unit_x[:, 0] * from_y[:, 0] - unit_y[:, 0] * from_x[:, 0]
        by_hip_rectus = unit_x[:, 2] * from_y[:, 1] - unit_y[:, 2] * from_x[:, 1]
        by_ankle_gastroc = unit_y[:, 4] * heel_x - unit_x[:, 4] * heel_y

        none = torch.zeros_like(knee)
        rectus = two[:, 2] + torch.where(flexed, one[:, 2], none)
        hip_rectus = torch.where(flexed, one_rate[:, 2], by_hip_rectus)
        length = torch.stack(
            [two[:, 0], two[:, 1], one[:, 0], one[:, 1], rectus, two[:, 3], two[:, 4], one[:, 3], one[:, 4]], dim=1
        )
        by_hip = torch.stack(
            [by_hip_hamstrings, none, one_rate[:, 0], one_rate[:, 1], hip_rectus, none, none, none, none], dim=1
        )
        knee_columns = [two_rate[:, 0], two_rate[:, 1], none, none, two_rate[:, 2], two_rate[:, 3], two_rate[:, 4]]
        by_knee = torch.stack([*knee_columns, none, none], dim=1)
        by_ankle = torch.stack([none] * 6 + [by_ankle_gastroc, one_rate[:, 3], one_rate[:, 4]], dim=1)
        return PathState(length + fixed, by_hip, by_knee, by_ankle, tibia, tibia_rate)


def _in_joint_frame(bone: str, place: Point) -> Point:
    """Return a point of the path: of the calcaneus in the talus's frame, whose origin is the ankle's axis.

    Sideways, each is where it is in the pelvis's frame, since nothing moves sideways.
    """
    x, y, z = place
    if bone.startswith("pelvis"):
        return place
    if bone.startswith("calcn"):
        return (x + CALCANEUS[0], y + CALCANEUS[1], z + HIP[2] + CALCANEUS[2])
    return (x, y, z + HIP[2])


def _same_bone(muscle: str, first: int, second: int) -> bool:
    bones = [bone.rstrip("?") for bone, _ in PATHS[muscle]]
    return bones[first] == bones[second]


def _left_out(muscle: str, on: bool) -> tuple[int, ...]:
    """Return the conditional points that a path is not led over."""
    return () if on else tuple(index for index, (bone, _) in enumerate(PATHS[muscle]) if bone.endswith("?"))


def _one_angle(offset: Tensor, point: Tensor) -> Tensor:
    """Return A, B, C (3,) of |offset + R(q) point|^2 = A + B cos q + C sin q; z is sideways, and does not turn."""
    sideways = (offset[2] + point[2]) ** 2
    constant = offset[:2].square().sum() + point[:2].square().sum() + sideways
    turn = offset[1] * point[0] - offset[0] * point[1]
    return torch.stack([constant, 2.0 * (offset[:2] * point[:2]).sum(), 2.0 * turn])
