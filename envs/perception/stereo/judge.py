"""How far a surface is from the true one: distances between points on both, in the units they come in.

A mesh's points are drawn uniformly over its area; Chamfer here is the mean of the two mean nearest distances, as later
papers on DiLiGenT-MV score (10,000 points of each mesh); others double it, or square distances.

Shapes: P and Q points, V vertices.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.perception.stereo.surface import Mesh
from rlsuite.metrics.normals import angles


def points_on(mesh: Mesh, count: int, seed: int) -> Tensor:
    """Return points (P, 3), uniform over a mesh's area."""
    corners = mesh.vertices[mesh.faces]
    across = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    stream = torch.Generator().manual_seed(seed)
    face = torch.multinomial(across.norm(dim=1), count, replacement=True, generator=stream)
    share = torch.rand(count, 2, generator=stream)
    root = share[:, :1].sqrt()
    weights = torch.cat([1.0 - root, root * (1.0 - share[:, 1:]), root * share[:, 1:]], dim=1)
    return (weights.unsqueeze(2) * corners[face]).sum(dim=1)


def nearest_distances(points: Tensor, others: Tensor) -> Tensor:
    """Return for each of points (P, 3) how far the nearest of others (Q, 3) is (P,)."""
    return torch.cat([torch.cdist(part, others).amin(dim=1) for part in points.split(1024)])


def nearest_vertices(points: Tensor, mesh: Mesh) -> Tensor:
    """Return which vertex of a mesh is nearest to each of points (P, 3): (P,) int64."""
    return torch.cat([torch.cdist(part, mesh.vertices).argmin(dim=1) for part in points.split(1024)])


def plane_distances(points: Tensor, mesh: Mesh) -> Tensor:
    """Return how far points (P, 3) are from the tangent plane at a dense mesh's nearest vertex: (P,)."""
    place = nearest_vertices(points, mesh)
    return ((points - mesh.vertices[place]) * mesh.normals()[place]).sum(dim=1).abs()


def score(mesh: Mesh, truth: Mesh, normals: Tensor, count: int = 10000, seed: int = 0) -> dict[str, float]:
    """Return distances of a mesh to the true one, and the error of its vertices' normals (V, 3).

    Returns:
        "to surface" (mean distance of its points to the plane through the nearest true vertex, which no sampling
        coarsens), "accuracy" (mean distance of its points to points of the true surface), "completeness" (the other
        way), "chamfer" (their mean), in the meshes' units; "degrees" (mean angle to the nearest true vertex's normal).
    """
    ours, theirs = points_on(mesh, count, seed), points_on(truth, count, seed + 1)
    accuracy, completeness = (float(nearest_distances(*pair).mean()) for pair in ((ours, theirs), (theirs, ours)))
    place = nearest_vertices(mesh.vertices, truth)
    return {
        "to surface": float(plane_distances(ours, truth).mean()),
        "accuracy": accuracy,
        "completeness": completeness,
        "chamfer": 0.5 * (accuracy + completeness),
        "degrees": float(angles(normals, truth.normals()[place]).mean()),
    }
