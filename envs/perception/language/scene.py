"""The things that a scene holds by what people call them: those of the simulation's model, and landmarks.

A body is called by a name that holds a color and a shape ("red_cube", "ball-blue-2"), or, where it moves freely, by the
color and the kind of its first geom. So a new model needs no code. Landmarks are places with names that the physics
does not know, such as what a detector has found; they lie anew in each episode.

Shapes: N environments, K things.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from envs.perception.language.grammar import Thing
from envs.perception.language.lexicons import COLORS, SHAPES
from rlsuite.data.counters import uniform
from rlsuite.errors import UserError, printable

_RGB = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.7, 0.1),
    "blue": (0.1, 0.2, 0.9),
    "yellow": (0.9, 0.9, 0.1),
    "black": (0.1, 0.1, 0.1),
    "white": (0.95, 0.95, 0.95),
    "orange": (1.0, 0.55, 0.1),
    "purple": (0.55, 0.1, 0.65),
}
_KINDS = {"mjGEOM_BOX": "cube", "mjGEOM_SPHERE": "ball", "mjGEOM_CYLINDER": "cylinder", "mjGEOM_ELLIPSOID": "ball"}


def bodies_of(model: Any) -> dict[Thing, int]:
    """Return the things of a MuJoCo model and their bodies; of two that are called alike the first."""
    import mujoco  # only here: names alone need no simulation

    found: dict[Thing, int] = {}
    for body in range(1, model.nbody):
        first, count = int(model.body_geomadr[body]), int(model.body_geomnum[body])
        names = [model.body(body).name, *(model.geom(geom).name for geom in range(first, first + count))]
        thing = next((thing for name in names if (thing := named(name)) is not None), None)
        joint = int(model.body_jntadr[body])
        free = joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE  # pyright: ignore
        if thing is None and free and count:
            shape = _KINDS.get(mujoco.mjtGeom(int(model.geom_type[first])).name)  # pyright: ignore
            material = int(model.geom_matid[first])
            rgba = model.mat_rgba[material] if material >= 0 else model.geom_rgba[first]
            thing = Thing(nearest_color(rgba[:3].tolist()), shape) if shape else None
        if thing is not None:
            found.setdefault(thing, body)
    return found


def named(name: str) -> Thing | None:
    """Return the thing whose color and shape are words of a name, None if there are none."""
    words = re.split(r"[^a-z]+", name.lower())
    color = next((word for word in words if word in COLORS), None)
    shape = next((word for word in words if word in SHAPES), None)
    return Thing(color, shape) if color and shape else None


def nearest_color(rgb: Sequence[float]) -> str:
    """Return what a color (3 numbers in [0, 1]) is called."""
    return min(COLORS, key=lambda name: sum((a - b) ** 2 for a, b in zip(rgb, _RGB[name], strict=True)))


def landmark(name: str) -> Thing:
    """Return a landmark by its name, such as "red cube".

    Raises:
        UserError: if it has no color and shape of the grammar.
    """
    thing = named(name)
    if thing is None:
        raise UserError(
            f"landmarks={printable(name)}: use a color ({', '.join(COLORS)}) and a shape ({', '.join(SHAPES)})"
        )
    return thing


def landmark_places(seed: int, episode: Tensor, count: int, spread: Sequence[float]) -> Tensor:
    """Return where landmarks lie around a middle: (N, K, 3) float64, uniform within plus or minus `spread` (3,) metres.

    A function of the seed, the environment's number and its episode (N,), so that episodes can be begun in any order.
    """
    rows = torch.arange(len(episode), device=episode.device)
    draws = uniform(seed, episode.to(torch.int64) * len(episode) + rows, 3 * count).double().view(-1, count, 3)
    return (2.0 * draws - 1.0) * torch.tensor(spread, dtype=torch.float64, device=draws.device)
