"""What a task's cameras see, with the boxes of some of its bodies, to learn detection from.

Shapes: N environments, S side of a picture.
"""

from __future__ import annotations

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false
from collections.abc import Sequence
from typing import Any

import torch

import envs
from envs.perception.detection.ids import boxes_of_ids
from envs.perception.fields import FIELDS
from rlsuite.action_space import ActionLimits
from rlsuite.config.camera import CameraConfig
from rlsuite.data.arrays import Arrays
from rlsuite.errors import near_matches, require

HELD = 4  # steps for which a random action is held: otherwise bodies only tremble


def camera_scenes(
    env_id: str, bodies: Sequence[str], size: int, count: int, seed: int, *, num_envs: int = 8, least: int = 4
) -> Arrays:
    """Return "picture" (count, 3, S, S) uint8, "boxes", "classes" and "ignored" of frames of random episodes.

    Args:
        env_id: one of the suite's tasks of simulated bodies.
        bodies: names of the model's; the place of each is its class. What hangs on it, such as a hand on an arm, is not
            a part of it.
        size: S.
        count: frames.
        seed: of episodes and actions.
        num_envs: N.
        least: pixels of a body that is there.

    Raises:
        UserError: if the task cannot be drawn, or has no such body.
    """
    env = envs.make_vector(env_id, num_envs, flat=True, camera=CameraConfig(size=size, sees=("rgb", "ids"), stack=1))
    try:
        objects = [geometries(env.cameras.model, name) for name in bodies]
        actions, generator = ActionLimits(env.single_action_space), torch.Generator().manual_seed(seed)
        seen, _ = env.reset(seed=seed)
        frames = [seen.cpu()]
        action = actions.uniform(num_envs, generator)
        for step in range(HELD * (-(-count // num_envs) - 1)):
            if step % HELD == 0:
                action = actions.uniform(num_envs, generator)
            seen = env.step(action)[0]
            if step % HELD == HELD - 1:
                frames.append(seen.cpu())
    finally:
        env.close()
    every = torch.cat(frames)[:count]
    return Arrays({"picture": every[:, :3], **boxes_of_ids(FIELDS["ids"].from_bytes(every[:, 3:]), objects, least)})


def geometries(model: Any, body: str) -> list[int]:
    """Return the geometries of a model's body; UserError if there is no such body, or it has none."""
    names = {model.body(number).name: number for number in range(model.nbody)}
    require(body in names, f"{body}: the model has no such body{near_matches(body, names)}")
    found = [number for number in range(model.ngeom) if model.geom_bodyid[number] == names[body]]
    require(bool(found), f"{body}: this body shows nothing; name another")
    return found
