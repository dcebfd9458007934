"""Bodies of the DIST experiment: three that MuJoCo draws, too, unions that a decoder learns, one whose pose is found.

Shapes: n views or shapes, M points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from envs.cameras import Cameras
from envs.simulation.base import Fields
from envs.task import Task
from renderers.sdf.camera import from_mujoco, turn_of
from renderers.sdf.shapes import SDF, Primitive, Union, box, capsule
from rlsuite.config.camera import CameraConfig

FIELD_OF_VIEW, DISTANCE = 40.0, 3.2
BODIES: dict[str, tuple[float, ...]] = {"sphere": (0.8,), "box": (0.6, 0.5, 0.4), "capsule": (0.3, 0.5)}
# Of random unions: half lengths of the box, radius and half length of the capsule, its place; how many numbers each.
_UNIONS = ((0.15, 0.4, 3), (0.12, 0.25, 1), (0.15, 0.4, 1), (-0.25, 0.25, 3))
UNION_NUMBERS = sum(number for _, _, number in _UNIONS)
_BODY = '<body name="{0}"><freejoint/><geom name="{0}" type="{0}" size="{1}" mass="1"/></body>'


@dataclass(frozen=True)
class Drawn(Task):
    """A scene of free bodies that is only looked at."""

    name: ClassVar[str] = "Drawn"
    max_episode_steps: ClassVar[int] = 1

    def observation(self, fields: Fields) -> Tensor:
        """Return the positions."""
        return fields.field("qpos")


def draw(name: str, quaternion: Tensor, place: Tensor, size: int, folder: Path) -> tuple[Tensor, Tensor]:
    """Return MuJoCo's depth (n, size, size) of one of BODIES at poses in the world, and where it is seen."""
    bodies = "".join(_BODY.format(kind, " ".join(map(str, sizes))) for kind, sizes in BODIES.items())
    eye = f'<camera name="eye" pos="0 0 {DISTANCE}" fovy="{FIELD_OF_VIEW}"/>'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bodies.xml").write_text(f"<mujoco><worldbody>{eye}{bodies}</worldbody></mujoco>")
    task = Drawn(xml_file=str((folder / "bodies.xml").resolve()))
    cameras = Cameras(task, CameraConfig(size=size, view="eye"), fields=("depth", "ids"))
    qpos = torch.zeros(len(place), 7 * len(BODIES), dtype=torch.float64)
    for number, kind in enumerate(BODIES):
        far = torch.tensor([0.0, 0.0, 100.0 + 10.0 * number], dtype=torch.float64)  # behind the camera
        qpos[:, 7 * number : 7 * number + 3] = place.double() if kind == name else far
        qpos[:, 7 * number + 3 : 7 * number + 7] = quaternion.double()
    seen = cameras.frames(qpos)
    return seen["depth"].squeeze(1), seen["ids"].squeeze(1) == list(BODIES).index(name)


def eye_poses(quaternion: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Return poses (R, T) of bodies for the camera of `draw`."""
    rotation, shift = from_mujoco(torch.tensor([[0.0, 0.0, DISTANCE]]), torch.eye(3).unsqueeze(0))
    return rotation @ turn_of(quaternion), (rotation @ place.unsqueeze(-1)).squeeze(-1) + shift


def random_unions(count: int, generator: torch.Generator) -> list[Union]:
    """Return unions of a box and an upright capsule beside its middle, eight numbers each, in the unit sphere."""
    halves, radius, length, place = (
        low + (high - low) * torch.rand(count, number, generator=generator) for low, high, number in _UNIONS
    )
    capsules = torch.cat([radius, length], 1)
    return [
        Union([Primitive("box", halves[i]), Primitive("capsule", capsules[i], place=place[i])]) for i in range(count)
    ]


def union_of(points: Tensor, code: Tensor) -> Tensor:
    """Return signed distances (M,) of such unions; codes (M, 8) are their numbers, -1 and 1 their ranges' ends.

    No size is below 0.02, whatever its code.
    """
    middle = torch.cat([torch.full((number,), (low + high) / 2) for low, high, number in _UNIONS])
    half = torch.cat([torch.full((number,), (high - low) / 2) for low, high, number in _UNIONS])
    values = middle + half * code
    sizes, place = values[:, :5].clamp_min(0.02), values[:, 5:]
    return torch.minimum(box(points, sizes[:, :3]), capsule(points - place, sizes[:, 3:]))


class Each:
    """Several shapes as one function: a code is the number of the shape."""

    def __init__(self, shapes: list[Union]) -> None:
        self.shapes = shapes

    def __call__(self, points: Tensor, code: Tensor) -> Tensor:
        """Return signed distances (M,)."""
        found = torch.zeros_like(points[:, 0])
        for number, shape in enumerate(self.shapes):
            here = torch.nonzero(code[:, 0] == number).squeeze(1)
            found = found.index_copy(0, here, shape(points[here], code[here]))
        return found


def samples(sdf: SDF, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return points (count, 3) of the unit sphere, four in five near the surface, and signed distances there."""
    points = torch.randn(count, 3, generator=generator)
    radius = torch.rand(count, 1, generator=generator) ** (1 / 3)
    points = points / points.norm(dim=1, keepdim=True) * radius
    near, code = points[: 4 * count // 5], torch.zeros(count, 0)
    for _ in range(3):
        near = near.detach().requires_grad_()
        f = sdf(near, code)
        (slope,) = torch.autograd.grad(f.sum(), near)
        near = near - f.unsqueeze(1) * slope
    spread = torch.where(torch.arange(len(near)) % 2 == 0, 0.05, 0.015).unsqueeze(1)
    near = near.detach() + spread * torch.randn(near.shape, generator=generator)
    points = torch.cat([near, points[len(near) :]])
    return points, sdf(points, code)


def posed_body() -> Union:
    """Return a body that looks different from everywhere: two boxes and a capsule."""
    return Union(
        [
            Primitive("box", [0.55, 0.15, 0.15], torch.tensor([0.0, -0.3, 0.0])),
            Primitive("box", [0.15, 0.35, 0.2], torch.tensor([-0.35, 0.2, 0.1])),
            Primitive("capsule", [0.12, 0.3], torch.tensor([0.35, -0.1, 0.2])),
        ]
    )
