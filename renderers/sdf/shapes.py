"""Signed distances of plain bodies, in closed form: negative inside, in the units of the points.

A signed distance function (SDF), here as everywhere in this folder, is a callable of points (M, 3) and a code (M, Z)
for each that gives (M,). Bodies of fixed size ignore the code; a `Primitive` without sizes takes its code for them, so
that sizes can be fitted as any other shape. Sizes are MuJoCo's: radii and half lengths, the long axis being z.

Shapes: M points, Z numbers of a code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rlsuite.errors import require_choice

SDF = Callable[[Tensor, Tensor], Tensor]


def sphere(points: Tensor, sizes: Tensor) -> Tensor:
    """Return distances to spheres of sizes (..., 1): radius."""
    return _length(points) - sizes[..., 0]


def box(points: Tensor, sizes: Tensor) -> Tensor:
    """Return distances to boxes of sizes (..., 3): half lengths."""
    beyond = points.abs() - sizes
    return _length(beyond.clamp_min(0.0)) + beyond.amax(-1).clamp_max(0.0)


def capsule(points: Tensor, sizes: Tensor) -> Tensor:
    """Return distances to capsules of sizes (..., 2): radius, and half length of the axis."""
    along = points[..., 2]
    beyond = along - torch.maximum(torch.minimum(along, sizes[..., 1]), -sizes[..., 1])
    return _length(torch.stack([points[..., 0], points[..., 1], beyond], -1)) - sizes[..., 0]


def cylinder(points: Tensor, sizes: Tensor) -> Tensor:
    """Return distances to cylinders of sizes (..., 2): radius and half length."""
    beyond = torch.stack([_length(points[..., :2]), points[..., 2].abs()], -1) - sizes
    return _length(beyond.clamp_min(0.0)) + beyond.amax(-1).clamp_max(0.0)


def ellipsoid(points: Tensor, sizes: Tensor) -> Tensor:
    """Return about the distances to ellipsoids of sizes (..., 3): radii. To first order exact near the surface."""
    scaled = _length(points / sizes)
    return scaled * (scaled - 1.0) / _length(points / sizes.square())


KINDS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]] = {
    "sphere": (sphere, 1),
    "box": (box, 3),
    "capsule": (capsule, 2),
    "cylinder": (cylinder, 2),
    "ellipsoid": (ellipsoid, 3),
}


class Primitive:
    """One body.

    Args:
        kind: one of KINDS.
        sizes: its numbers; None where a code gives them.
        place: (3,) of its center.
        turn: (3, 3) rotation from its own axes.
    """

    def __init__(
        self,
        kind: str,
        sizes: Sequence[float] | Tensor | None = None,
        place: Tensor | None = None,
        turn: Tensor | None = None,
    ) -> None:
        require_choice("shape", kind, KINDS)
        self._distance, count = KINDS[kind]
        self.sizes = None if sizes is None else torch.as_tensor(sizes, dtype=torch.float32)
        if self.sizes is not None and self.sizes.shape != (count,):
            raise ValueError(f"a {kind} has {count} sizes, not {tuple(self.sizes.shape)}")
        self.place, self.turn = place, turn

    def __call__(self, points: Tensor, code: Tensor) -> Tensor:
        """Return signed distances (M,)."""
        if self.place is not None:
            points = points - self.place.to(points)
        if self.turn is not None:
            points = points @ self.turn.to(points)
        return self._distance(points, code if self.sizes is None else self.sizes.to(points))


class Union:
    """What is inside any of several bodies; exact outside, and not farther than the truth inside."""

    def __init__(self, parts: Sequence[SDF]) -> None:
        self.parts = tuple(parts)

    def __call__(self, points: Tensor, code: Tensor) -> Tensor:
        """Return signed distances (M,)."""
        return torch.stack([part(points, code) for part in self.parts]).amin(0)


def _length(value: Tensor) -> Tensor:
    """Return Euclidean lengths whose second derivatives are finite at zero, too: normals are differentiated."""
    return (value.square().sum(-1) + 1e-20).sqrt()
