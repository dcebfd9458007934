"""Positions that fit normals (Nehab et al. 2005, "Efficiently combining positions and normals").

Minimized is ``mu sum |P - P0|^2 + (1 - mu) sum over edges (n_i . (P_j - P_i))^2 + (n_j . (P_j - P_i))^2``: vertices
stay near where they were measured, and edges lie in their ends' tangent planes. It is a sparse least-squares problem,
solved by conjugate gradients. mu = 0.1 is our choice.

Shapes: V vertices, E edges.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from envs.perception.stereo.surface import Mesh


def refine(mesh: Mesh, normals: Tensor, weight: Tensor | None = None, mu: float = 0.1, rounds: int = 60) -> Mesh:
    """Return the mesh with its vertices moved to fit normals.

    Args:
        mesh: as it was found.
        normals: (V, 3), unit length.
        weight: (V,), how much each normal counts; None for 1.
        mu: how much the old positions do.
        rounds: of conjugate gradients.
    """
    edges = mesh.edges()
    counts = torch.ones(len(normals)) if weight is None else weight
    ends = torch.cat([edges, edges.flip(1)])  # each edge in the plane of both its ends
    plane = normals[ends[:, 0]] * counts[ends[:, 0]].sqrt().unsqueeze(1)

    def apply(moved: Tensor) -> Tensor:
        out_of_plane = (plane * (moved[ends[:, 1]] - moved[ends[:, 0]])).sum(dim=1, keepdim=True) * plane
        total = torch.zeros_like(moved)
        total.index_add_(0, ends[:, 1], out_of_plane).index_add_(0, ends[:, 0], -out_of_plane)
        return mu * moved + (1.0 - mu) * total

    return Mesh(conjugate_gradients(apply, mu * mesh.vertices, mesh.vertices, rounds), mesh.faces)


def conjugate_gradients(apply: Callable[[Tensor], Tensor], wanted: Tensor, start: Tensor, rounds: int) -> Tensor:
    """Return x with apply(x) = wanted, nearly; `apply` is linear, symmetric and positive."""
    found = start.double()

    def product(value: Tensor) -> Tensor:
        return apply(value.float()).double()

    residual = wanted.double() - product(found)
    direction, square = residual.clone(), residual.square().sum()
    for _ in range(rounds):
        image = product(direction)
        share = square / (direction * image).sum().clamp_min(1e-30)
        found, residual = found + share * direction, residual - share * image
        before, square = square, residual.square().sum()
        direction = residual + square / before.clamp_min(1e-30) * direction
    return found.float()
