"""Pinhole cameras as the paper has them: x right, y down, z forward; MuJoCo's look along -z with y up.

A pose (R, T) takes an object's coordinates to the camera's: x_camera = R x + T. Lengths are in units of the object's
bounding sphere.

Shapes: B views, H and W sides, P = H W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Pinhole:
    """Intrinsics, in pixels whose centers have whole coordinates.

    Attributes:
        height: H.
        width: W.
        focal: (x, y).
        center: (x, y), of the optical axis.
    """

    height: int
    width: int
    focal: tuple[float, float]
    center: tuple[float, float]

    def slopes(self, scale: int = 1, device: torch.device | str = "cpu") -> Tensor:
        """Return x and y per unit of z, (ceil(H / scale) * ceil(W / scale), 2), through the centers of square blocks.

        A block's center is at scale * i + (scale - 1) / 2.
        """
        row = torch.arange(-(-self.height // scale), device=device) * scale + (scale - 1) / 2
        column = torch.arange(-(-self.width // scale), device=device) * scale + (scale - 1) / 2
        x, y = (column - self.center[0]) / self.focal[0], (row - self.center[1]) / self.focal[1]
        return torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], -1).flatten(0, 1)

    def rays(self, scale: int = 1, device: torch.device | str = "cpu") -> Tensor:
        """Return unit vectors along rays through blocks' centers, (blocks, 3), in the camera's axes."""
        slopes = self.slopes(scale, device)
        return functional.normalize(functional.pad(slopes, (0, 1), value=1.0), dim=-1)

    def strided(self, stride: int) -> Pinhole:
        """Return the camera of every `stride`-th pixel of rows and columns, beginning with number stride // 2."""
        first = stride // 2
        height, width = (-(-(side - first) // stride) for side in (self.height, self.width))
        focal = (self.focal[0] / stride, self.focal[1] / stride)
        return Pinhole(height, width, focal, ((self.center[0] - first) / stride, (self.center[1] - first) / stride))

    def points(self, depth: Tensor) -> Tensor:
        """Return what depths (B, H, W) show in the camera's axes, (B, H, W, 3)."""
        slopes = self.slopes(device=depth.device).view(self.height, self.width, 2)
        return functional.pad(slopes, (0, 1), value=1.0) * depth.unsqueeze(-1)


def pinhole(size: int, field_of_view: float) -> Pinhole:
    """Return a square camera of a vertical field of view in degrees, as MuJoCo's `fovy`."""
    focal = 0.5 * size / math.tan(math.radians(field_of_view) / 2)
    return Pinhole(size, size, (focal, focal), ((size - 1) / 2, (size - 1) / 2))


def turn_of(quaternion: Tensor) -> Tensor:
    """Return rotation matrices (..., 3, 3) of quaternions (..., 4), w first, of any length."""
    w, x, y, z = functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def times(first: Tensor, second: Tensor) -> Tensor:
    """Return the product (..., 4) of quaternions: the second rotation, then the first."""
    (w, u), (s, v) = (first[..., :1], first[..., 1:]), (second[..., :1], second[..., 1:])
    real = w * s - (u * v).sum(-1, keepdim=True)
    return torch.cat([real, w * v + s * u + torch.linalg.cross(u, v)], -1)


def inverse(quaternion: Tensor) -> Tensor:
    """Return the opposite rotations (..., 4) of unit quaternions."""
    return quaternion * quaternion.new_tensor([1.0, -1.0, -1.0, -1.0])


def quaternion_of(turn: Tensor) -> Tensor:
    """Return unit quaternions (..., 4), w first, of rotation matrices (..., 3, 3); the larger of w or -w's.

    Each of the four ways to compute it (Shepperd 1978) is exact where its pivot is not small; the largest is taken.
    """
    m = {(i, j): turn[..., i, j] for i in range(3) for j in range(3)}
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    sums, differences = {}, {}
    for i, j in ((0, 1), (0, 2), (1, 2)):
        sums[i, j], differences[i, j] = m[j, i] + m[i, j], m[j, i] - m[i, j]
    x, y, z = differences[1, 2], -differences[0, 2], differences[0, 1]
    candidates = torch.stack(
        [
            torch.stack([1 + trace, x, y, z], -1),
            torch.stack([x, 1 + 2 * m[0, 0] - trace, sums[0, 1], sums[0, 2]], -1),
            torch.stack([y, sums[0, 1], 1 + 2 * m[1, 1] - trace, sums[1, 2]], -1),
            torch.stack([z, sums[0, 2], sums[1, 2], 1 + 2 * m[2, 2] - trace], -1),
        ],
        -2,
    )
    pivots = candidates.diagonal(dim1=-2, dim2=-1)
    best = pivots.argmax(-1)[..., None, None].expand(*pivots.shape[:-1], 1, 4)
    found = functional.normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    return torch.where(found[..., :1] < 0, -found, found)


def from_mujoco(place: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Return (R, T) from the world to a camera at place (B, 3), turned by (B, 3, 3) from its axes to the world's."""
    rotation = turn.mT * turn.new_tensor([1.0, -1.0, -1.0])[:, None]
    return rotation, -(rotation @ place.unsqueeze(-1)).squeeze(-1)


def normals_of_depth(depth: Tensor, mask: Tensor, camera: Pinhole) -> tuple[Tensor, Tensor]:
    """Return normals toward the camera (B, 3, H, W), by central differences, and where they are known (B, H, W)."""
    points = camera.points(torch.where(mask, depth, 0.0)).movedim(-1, 1)
    wide, high = points[..., 1:-1, 2:] - points[..., 1:-1, :-2], points[..., 2:, 1:-1] - points[..., :-2, 1:-1]
    normal = functional.normalize(torch.linalg.cross(high, wide, dim=1), dim=1)
    inner = mask[:, 1:-1, 1:-1] & mask[:, 1:-1, 2:] & mask[:, 1:-1, :-2] & mask[:, 2:, 1:-1] & mask[:, :-2, 1:-1]
    known = functional.pad(inner, (1, 1, 1, 1))
    return functional.pad(normal, (1, 1, 1, 1)) * known.unsqueeze(1), known
