"""Balls in the runner's way, and the strength of its psoas muscles: what an episode's difficulty draws.

The balls lie still and touch the four spheres of the feet, without friction. They are mocap bodies, of which every
simulation has its own radii.

Shapes: n environments of a call; B balls.
"""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import torch
from torch import Tensor

from envs.constants import constant
from envs.random import EnvironmentRandom

MOST = 20  # balls; more are not drawn
_NEAR = 3  # drawn between 1 and 5 m; further ones follow at distances of their own
_SMALLEST, _SPREAD = 0.05, 0.05  # m: a radius is the first plus an exponential number of that mean
_LEAST = 2.0**-53  # of 1 - u, which float32 may round to zero
_NONE = (100.0, 0.0, 0.0)  # what is seen where no ball is ahead
# 14 times stiffer than the ground, as the original's balls are at a radius of 0.1 m.
_SOLREF = (0.008, 1.0)


def ball_count(difficulty: int, max_obstacles: int) -> int:
    """Return B, the balls of every episode."""
    return 0 if difficulty == 0 else min(max_obstacles, MOST)


def add_balls(count: int) -> Callable[[Any], None]:
    """Return what adds balls to a model's mujoco.MjSpec."""

    def edit(spec: Any) -> None:
        for index in range(count):
            body = spec.worldbody.add_body(name=f"ball{index}", mocap=True, pos=(-10.0 - index, 0.0, -1.0))
            body.add_geom(
                name=f"ball{index}",
                type=mujoco.mjtGeom.mjGEOM_SPHERE,
                size=(0.1, 0.0, 0.0),
                contype=2,
                conaffinity=1,
                condim=1,
                priority=1,
                solref=_SOLREF,
                rgba=(0.55, 0.35, 0.6, 1.0),
            )

    return edit


def draw_balls(random: EnvironmentRandom, env_ids: Tensor, count: int) -> Tensor:
    """Return balls (n, B, 3), x, y and radius, sorted by x (osim-rl 1.5, generate_env)."""
    near = min(_NEAR, count)

    def radii(number: int) -> Tensor:
        rest = (1.0 - random.uniform(env_ids, number)).clamp_(min=_LEAST)
        return _SMALLEST - _SPREAD * torch.log(rest)

    x = random.uniform(env_ids, near, 1.0, 5.0)
    height = random.uniform(env_ids, near, -0.25, 0.25)
    radius = radii(near)
    if count > near:
        further = count - near
        gaps = random.uniform(env_ids, further, 2.0, 4.0)
        x = torch.cat([x, 5.0 + gaps.cumsum(dim=1)], dim=1)
        height = torch.cat([height, random.uniform(env_ids, further, -0.05, 0.25)], dim=1)
        radius = torch.cat([radius, radii(further)], dim=1)
    balls = torch.stack([x, height * radius, radius], dim=2)
    order = x.argsort(dim=1, stable=True)
    return balls.gather(1, order.unsqueeze(2).expand_as(balls))


def draw_strength(random: EnvironmentRandom, env_ids: Tensor) -> Tensor:
    """Return the strengths (n, 2) of the psoas muscles, right and left."""
    return (1.0 - 0.1 * random.normal(env_ids, 2)).clamp_(min=0.5)


def next_ball(balls: Tensor, pelvis_x: Tensor) -> Tensor:
    """Return the first ball (n, 3) of (n, B, 3) that does not lie wholly behind the pelvis (n,).

    Its x is the distance to the pelvis, and may be negative by its radius; where there is none, (100, 0, 0).
    """
    none = constant(_NONE, balls).expand(len(pelvis_x), 3)
    if balls.shape[1] == 0:
        return none.clone()
    ahead = balls[:, :, 0] + balls[:, :, 2] >= pelvis_x.unsqueeze(1)
    first = ahead.to(torch.uint8).argmax(dim=1)  # the first of those that are ahead
    chosen = balls.gather(1, first.view(-1, 1, 1).expand(-1, 1, 3)).squeeze(1)
    chosen = torch.cat([chosen[:, :1] - pelvis_x.unsqueeze(1), chosen[:, 1:]], dim=1)
    return torch.where(ahead.any(dim=1, keepdim=True), chosen, none)
