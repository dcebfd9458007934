"""Where a body is, as the info of the tasks names it.

Shapes: n environments.
"""

from __future__ import annotations

from torch import Tensor

from envs.simulation.base import Fields
from envs.task import norm


def ground_position(fields: Fields) -> dict[str, Tensor]:
    """Return x and y of the root, (n,) each."""
    position = fields.field("qpos")
    return {"x_position": position[:, 0], "y_position": position[:, 1]}


def ground_distance(fields: Fields) -> dict[str, Tensor]:
    """Return how far over the ground the root is from the origin, (n,)."""
    return {"distance_from_origin": norm(fields.field("qpos")[:, :2])}


def rise(fields: Fields, column: int) -> dict[str, Tensor]:
    """Return the root's height, `column` of the positions, over that of the model's own pose, (n,)."""
    return {"z_distance_from_origin": fields.field("qpos")[:, column] - fields.facts.initial_qpos[column]}
