"""Reflectance that varies over a surface: a few basis materials as tables, mixed at each vertex (arXiv:2001.06659).

``rho(p) = sum over b of w_pb rho_b(theta_h, theta_d)``, with an isotropic material's half and difference angles.
Observations become a matrix of vertices and bins of angles with many entries missing; it is factored by alternating
constrained least squares, as Lawrence et al. (2006) do: weights are not negative and sum to one, tables are not
negative, smooth, and do not grow with theta_h. There are 90 bins of theta_h, finer near the highlight (their roots are
evenly spaced), and 8 of theta_d; a basis material has a table for each color, all mixed by the same weights. In each of
30 rounds both sides take a few projected gradient steps. Materials begin where k-means finds them by mean color and by
how far the highlight is above the median, and their tables at their vertices' mean color: steps are as long as the bin
seen most allows, so bins that are seldom seen stay near where they begin. Numbers of bins and rounds are ours.

Shapes: P vertices, n observations, T = 90 and D = 8 bins, B basis materials.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

HALF, DIFFERENCE = 90, 8
ROUNDS, STEPS, SMOOTH = 30, 8, 0.02


class Reflectance(NamedTuple):
    """Mixed materials.

    Attributes:
        weights: (P, B), rows that sum to one.
        tables: (B, T, D, 3).
    """

    weights: Tensor
    tables: Tensor

    def __call__(self, vertex: Tensor, half: Tensor, difference: Tensor) -> Tensor:
        """Return reflectances (n, 3) of vertices (n,) int64 at angles (n,) in radians, interpolated between bins."""
        row, column = bins(half, difference)
        found = torch.zeros(len(vertex), 3)
        for down in (0, 1):
            for right in (0, 1):
                at = (row.floor().long() + down).clamp_max(HALF - 1)
                beside = (column.floor().long() + right).clamp_max(DIFFERENCE - 1)
                share = (row.frac() if down else 1 - row.frac()) * (column.frac() if right else 1 - column.frac())
                table = self.tables[:, at, beside]  # (B, n, 3)
                found += share.unsqueeze(1) * torch.einsum("nb,bnc->nc", self.weights[vertex], table)
        return found


def bins(half: Tensor, difference: Tensor) -> tuple[Tensor, Tensor]:
    """Return which bins angles (n,) lie in, as numbers between bins' middles: (n,) in [0, T - 1] and in [0, D - 1]."""
    row = (half / (0.5 * math.pi)).clamp(0.0, 1.0).sqrt() * HALF - 0.5
    column = (difference / (0.5 * math.pi)).clamp(0.0, 1.0) * DIFFERENCE - 0.5
    return row.clamp(0.0, HALF - 1.0), column.clamp(0.0, DIFFERENCE - 1.0)


def half_angles(normals: Tensor, lights: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
    """Return the angles (n,) between normal and half vector, and between half vector and light, in radians."""
    half = functional.normalize(lights + views, dim=-1)
    cosines = (normals * half).sum(dim=-1), (lights * half).sum(dim=-1)
    theta_h, theta_d = (cosine.clamp(-1.0, 1.0).acos() for cosine in cosines)
    return theta_h, theta_d


def fit_reflectance(
    vertex: Tensor,
    half: Tensor,
    difference: Tensor,
    observed: Tensor,
    weight: Tensor,
    count: int,
    basis: int,
    seed: int,
) -> Reflectance:
    """Fit basis materials and weights.

    Args:
        vertex: (n,) int64, whose observation it is.
        half: (n,), theta_h in radians.
        difference: (n,), theta_d.
        observed: (n, 3), radiance over irradiance and n.l.
        weight: (n,), how much each counts, such as n.l.
        count: P.
        basis: B.
        seed: of k-means' beginning.
    """
    cells = HALF * DIFFERENCE
    row, column = bins(half, difference)
    index = vertex * cells + row.round().long() * DIFFERENCE + column.round().long()
    mass = torch.zeros(count * cells).index_add_(0, index, weight)
    total = torch.zeros(count * cells, 3).index_add_(0, index, observed * weight.unsqueeze(1))
    values = (total / mass.clamp_min(1e-9).unsqueeze(1)).view(count, cells, 3)
    mass = mass.view(count, cells)
    weights = functional.one_hot(_clusters(values, mass, basis, seed), basis).float()
    tables = _mean_colors(values, mass, weights).view(basis, 1, 1, 3).repeat(1, HALF, DIFFERENCE, 1)
    for _ in range(ROUNDS):
        tables = _fit_tables(values, mass, weights, tables)
        weights = _fit_weights(values, mass, weights, tables.view(basis, cells, 3))
    return Reflectance(weights, tables)


def _clusters(values: Tensor, mass: Tensor, basis: int, seed: int) -> Tensor:
    """Return a material (P,) for each vertex, by k-means over mean color and the highlight over the median."""
    share = mass.unsqueeze(2)
    mean = (values * share).sum(dim=1) / share.sum(dim=1).clamp_min(1e-9)
    grey = torch.where(mass > 0, values.mean(dim=2), torch.nan)
    peak = grey.nan_to_num(0.0).amax(dim=1) / grey.nanmedian(dim=1).values.nan_to_num(1.0).clamp_min(1e-3)
    features = torch.cat([mean / mean.std(dim=0).mean().clamp_min(1e-6), peak.log1p().unsqueeze(1)], dim=1)
    stream = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(features), (1,), generator=stream))]
    for _ in range(basis - 1):  # each next one is farthest from those there are
        chosen.append(int(torch.cdist(features, features[chosen]).amin(dim=1).argmax()))
    centers = features[chosen]
    for _ in range(10):
        nearest = torch.cdist(features, centers).argmin(dim=1)
        centers = torch.stack(
            [
                features[nearest == one].mean(dim=0) if bool((nearest == one).any()) else centers[one]
                for one in range(basis)
            ]
        )
    return nearest


def _mean_colors(values: Tensor, mass: Tensor, weights: Tensor) -> Tensor:
    """Return each material's mean reflectance (B, 3); of all vertices for a material that none was seen of."""
    seen = torch.einsum("pb,pmk->bk", weights, mass.unsqueeze(2) * values)
    share = (weights.T @ mass).sum(dim=1, keepdim=True)
    every = seen.sum(dim=0) / share.sum().clamp_min(1e-9)
    return torch.where(share > 0, seen / share.clamp_min(1e-9), every)


def _fit_tables(values: Tensor, mass: Tensor, weights: Tensor, tables: Tensor) -> Tensor:
    """Take projected gradient steps on the tables, written as sums of what is lost from one theta_h to the next.

    Sums of numbers that are not negative, from the last bin up, are neither negative nor growing.
    """
    basis, cells = len(tables), values.shape[1]
    pairs = (weights.unsqueeze(2) * weights.unsqueeze(1)).flatten(1)
    gram = (mass.T @ pairs).view(cells, basis, basis)
    pull = torch.einsum("pb,pmk->mbk", weights, mass.unsqueeze(2) * values)
    scale = float(mass.sum()) / cells
    losses = tables - functional.pad(tables[:, 1:], (0, 0, 0, 0, 0, 1))

    def upward(value: Tensor) -> Tensor:
        return value.flip(1).cumsum(dim=1).flip(1)

    def slope(table: Tensor) -> Tensor:
        flat = table.view(basis, cells, 3)
        found = (torch.einsum("mbc,cmk->bmk", gram, flat) - pull.transpose(0, 1)) / scale
        return (found.view_as(table) + SMOOTH * _roughness(table)).cumsum(dim=1)

    # rows that sum to one bound the Hessian of the tables; the sums' own norm is that of a triangle of ones
    bound = (float(torch.linalg.matrix_norm(gram, 2).max()) / scale + 16.0 * SMOOTH) * (2.0 * HALF / math.pi) ** 2
    ahead, momentum = losses, 1.0
    for _ in range(STEPS):
        after = (ahead - slope(upward(ahead)) / bound).clamp_min(0.0)
        further = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * momentum**2))
        ahead, losses, momentum = after + (momentum - 1.0) / further * (after - losses), after, further
    return upward(losses)


def _roughness(table: Tensor) -> Tensor:
    """Return half the gradient of the squared steps between neighbouring bins, both ways."""
    found = torch.zeros_like(table)
    for axis in (1, 2):
        step = table.diff(dim=axis)
        shape = list(table.shape)
        shape[axis] = 1
        edge = torch.zeros(shape)
        found = found + torch.cat([edge, step], dim=axis) - torch.cat([step, edge], dim=axis)
    return found


def _fit_weights(values: Tensor, mass: Tensor, weights: Tensor, tables: Tensor) -> Tensor:
    """Take projected gradient steps on the weights; tables (B, cells, 3)."""
    gram = (mass @ torch.einsum("bmk,cmk->mbc", tables, tables).flatten(1)).unflatten(1, (len(tables), len(tables)))
    pull = (mass.unsqueeze(2) * values).flatten(1) @ tables.flatten(1).T
    bound = gram.diagonal(dim1=1, dim2=2).sum(dim=1).clamp_min(1e-9)[:, None]
    for _ in range(STEPS):
        slope = (gram @ weights.unsqueeze(2)).squeeze(2) - pull
        weights = onto_simplex(weights - slope / bound)
    return weights


def onto_simplex(values: Tensor) -> Tensor:
    """Return the nearest rows (P, B) that are not negative and sum to one (Duchi et al. 2008)."""
    order = values.sort(dim=1, descending=True).values
    excess = order.cumsum(dim=1) - 1.0
    number = torch.arange(1, values.shape[1] + 1)
    last = (order * number > excess).sum(dim=1, keepdim=True)
    return (values - excess.gather(1, last - 1) / last).clamp_min(0.0)
