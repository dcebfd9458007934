"""Rotations in batches: quaternions (w, x, y, z), matrices, Euler angles in Gymnasium-Robotics' convention.

All functions take and return tensors with any leading axes, in the dtype they are given.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch import Tensor

_NEARLY_ZERO = 4.0 * torch.finfo(torch.float64).eps


def multiply(first: Tensor, second: Tensor) -> Tensor:
    """Return the Hamilton product of quaternions (..., 4): rotate by `second`, then by `first`."""
    w0, x0, y0, z0 = first.unbind(-1)
    w1, x1, y1, z1 = second.unbind(-1)
    return torch.stack(
        [
            w0 * w1 - x0 * x1 - y0 * y1 - z0 * z1,
            w0 * x1 + x0 * w1 + y0 * z1 - z0 * y1,
            w0 * y1 + y0 * w1 + z0 * x1 - x0 * z1,
            w0 * z1 + z0 * w1 + x0 * y1 - y0 * x1,
        ],
        dim=-1,
    )


def conjugate(quaternion: Tensor) -> Tensor:
    """Return the inverse rotation of unit quaternions (..., 4)."""
    return torch.cat([quaternion[..., :1], -quaternion[..., 1:]], dim=-1)


def about_axis(angle: Tensor, axis: Tensor) -> Tensor:
    """Return unit quaternions (..., 4) that turn by angles (...) in radians about axes (..., 3) of any length."""
    axis = axis / axis.square().sum(-1, keepdim=True).sqrt()
    half = angle.unsqueeze(-1) / 2
    return torch.cat([half.cos(), half.sin() * axis], dim=-1)


def to_matrix(quaternion: Tensor) -> Tensor:
    """Return rotation matrices (..., 3, 3) of quaternions (..., 4) of any length but zero."""
    w, x, y, z = quaternion.unbind(-1)
    s = 2.0 / quaternion.square().sum(-1)
    rows = [
        1.0 - s * (y * y + z * z),
        s * (x * y - w * z),
        s * (x * z + w * y),
        s * (x * y + w * z),
        1.0 - s * (x * x + z * z),
        s * (y * z - w * x),
        s * (x * z - w * y),
        s * (y * z + w * x),
        1.0 - s * (x * x + y * y),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def matrix_to_euler(matrix: Tensor) -> Tensor:
    """Return Euler angles (..., 3) in radians of rotation matrices (..., 3, 3)."""
    cosine = (matrix[..., 2, 2].square() + matrix[..., 1, 2].square()).sqrt()
    regular = cosine > _NEARLY_ZERO
    about_x = torch.where(regular, -torch.atan2(matrix[..., 1, 2], matrix[..., 2, 2]), 0.0)
    about_y = -torch.atan2(-matrix[..., 0, 2], cosine)
    about_z = -torch.where(
        regular,
        torch.atan2(matrix[..., 0, 1], matrix[..., 0, 0]),
        torch.atan2(-matrix[..., 1, 0], matrix[..., 1, 1]),
    )
    return torch.stack([about_x, about_y, about_z], dim=-1)


def to_euler(quaternion: Tensor) -> Tensor:
    """Return Euler angles (..., 3) of quaternions (..., 4)."""
    return matrix_to_euler(to_matrix(quaternion))


def from_euler(euler: Tensor) -> Tensor:
    """Return unit quaternions (..., 4) of Euler angles (..., 3)."""
    i, j, k = euler[..., 2] / 2, -euler[..., 1] / 2, euler[..., 0] / 2
    cc, cs, sc, ss = i.cos() * k.cos(), i.cos() * k.sin(), i.sin() * k.cos(), i.sin() * k.sin()
    return torch.stack(
        [
            j.cos() * cc + j.sin() * ss,
            j.cos() * cs - j.sin() * sc,
            -(j.cos() * ss + j.sin() * cc),
            j.cos() * sc - j.sin() * cs,
        ],
        dim=-1,
    )


@functools.cache
def parallel_quaternions() -> Tensor:
    """Return the 24 rotations that leave a cube's edges along the axes, (24, 4) float64."""
    quarter = [0.0, math.pi / 2, -math.pi / 2, math.pi]
    found: list[Tensor] = []
    for angles in itertools.product(quarter, repeat=3):
        quaternion = from_euler(torch.tensor(angles, dtype=torch.float64))
        # A quaternion and its negative are one rotation.
        if all(abs(float(quaternion @ other)) < 0.99 for other in found):
            found.append(quaternion)
    return torch.stack(found)
