"""The scanner: photographs in, a mesh with normals and reflectance out (Li et al. 2020, arXiv:2001.06659).

Azimuths from symmetry, contours of equal depth, a few known points spread along them, normals from azimuths of several
views, a surface, positions refined by normals, reflectance: each step is a module of this folder. Once there is a
shape, the lights' distances are known better, and azimuths are found anew (`passes`).

The steps are the paper's as its abstract and the conference version (Zhou, Wu and Tan 2013) say them; constants are our
own.

Shapes: M views, K lights, H and W sides, V vertices, P points.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.stereo.azimuth import azimuths, trusted_samples
from envs.perception.stereo.azimuth_normals import azimuth_normals, splat_visible
from envs.perception.stereo.capture import Capture, nearest
from envs.perception.stereo.contours import tangents
from envs.perception.stereo.hull import hull_distances
from envs.perception.stereo.propagate import as_points, propagate
from envs.perception.stereo.refine import refine
from envs.perception.stereo.reflectance import Reflectance, fit_reflectance, half_angles
from envs.perception.stereo.surface import Mesh, poisson


class Scan(NamedTuple):
    """What is known of an object.

    Attributes:
        mesh: its surface.
        normals: (V, 3), from azimuths where they tell them, else the mesh's.
        visible: (M, V) bool, which camera sees which vertex.
        spread: share of the masks' pixels whose distance was found.
    """

    mesh: Mesh
    normals: Tensor
    visible: Tensor
    spread: float


def scan(capture: Capture, seeds: Tensor, passes: int = 2, cells: int = 64, rounds: int = 2) -> Scan:
    """Return an object's shape.

    Args:
        capture: the photographs.
        seeds: (P, 3), a few points of the surface: of structure from motion, by hand, or `hull.frontier`.
        passes: how often azimuths are found, each with the shape found before.
        cells: of the surface's grid, a side.
        rounds: of refinement.
    """
    enter, _ = hull_distances(capture)
    rough, found = filled(enter, capture), None
    for _ in range(passes):
        views = [azimuths(capture, view, rough[view]) for view in range(capture.views)]
        leaning, sure = [one[0] for one in views], [one[1] for one in views]
        directions = [tangents(capture, lean) for lean in leaning]
        distances = propagate(capture, directions, sure, seeds, enter)
        points, view = as_points(capture, distances)
        toward = functional.normalize(capture.centers()[view] - points, dim=1)
        normals, good = azimuth_normals(capture, leaning, sure, points, splat_visible(capture, points, toward))
        mesh = poisson(points[good], normals[good], cells)
        for _ in range(rounds):
            around = mesh.normals()
            visible = splat_visible(capture, mesh.vertices, around)
            normals, good = azimuth_normals(capture, leaning, sure, mesh.vertices, visible)
            good &= (normals * around).sum(dim=1) > 0.5
            normals = torch.where(good.unsqueeze(1), normals, around)
            mesh = refine(mesh, normals, torch.where(good, 1.0, 0.1))
        share = float(distances.isfinite().sum() / capture.masks.sum())
        found = Scan(mesh, normals, splat_visible(capture, mesh.vertices, mesh.normals()), share)
        rough = filled(distances, capture)
    assert found is not None
    return found


def filled(distances: Tensor, capture: Capture) -> Tensor:
    """Return distances (M, H, W) with those of a view that are not known at the mean of those that are."""
    middle = capture.middle()
    away = (capture.centers() - middle).norm(dim=1).view(-1, 1, 1)
    mean = distances.nanmean(dim=(1, 2), keepdim=True)
    mean = torch.where(mean.isfinite(), mean, away)
    return torch.where(distances.isfinite(), distances, mean)


class Observations(NamedTuple):
    """What vertices look like.

    Attributes:
        vertex: (n,) int64.
        light: (n,) int64, which.
        half: (n,), theta_h in radians.
        difference: (n,), theta_d.
        facing: (n,), n.l.
        irradiance: (n,).
        radiance: (n, 3).
    """

    vertex: Tensor
    light: Tensor
    half: Tensor
    difference: Tensor
    facing: Tensor
    irradiance: Tensor
    radiance: Tensor


def observe(capture: Capture, points: Tensor, normals: Tensor, visible: Tensor) -> Observations:
    """Return all that cameras saw of points (V, 3) neither in shadow, nor saturated, nor at a grazing angle."""
    found = []
    for view in range(capture.views):
        vertex = visible[view].nonzero().flatten()
        pixels, _ = capture.project(view, points[vertex])
        here, facing = capture.seen(view, points[vertex]), normals[vertex] @ capture.rotations[view].T
        toward, irradiance = capture.toward(view, here)
        eye = functional.normalize(-here, dim=1).unsqueeze(1).expand_as(toward)
        surface = facing.unsqueeze(1).expand_as(toward)
        raw = pixel_values(capture, view, pixels)
        cosine = (surface * toward).sum(dim=2)
        lit = trusted_samples(raw, raw.mean(dim=2) / irradiance, capture.white) & (cosine > 0.2)
        half, difference = half_angles(surface, toward, eye)
        row, light = lit.nonzero(as_tuple=True)
        half, difference, cosine, irradiance = (part[row, light] for part in (half, difference, cosine, irradiance))
        found.append(Observations(vertex[row], light, half, difference, cosine, irradiance, raw[row, light]))
    return Observations._make(torch.cat(parts) for parts in zip(*found, strict=True))


def pixel_values(capture: Capture, view: int, at: Tensor) -> Tensor:
    """Return what the nearest pixels hold (P, K, 3): a highlight between two pixels is neither's."""
    place, _ = nearest(at, capture.masks.shape[1:])
    return capture.images[view].flatten(1, 2)[:, place].transpose(0, 1)


def fit_brdf(seen: Observations, count: int, basis: int = 3, seed: int = 0) -> Reflectance:
    """Return the reflectance of a surface of `count` vertices."""
    observed = seen.radiance / (seen.irradiance * seen.facing).unsqueeze(1)
    weight = (seen.irradiance * seen.facing).square()  # the noise is the pixels'
    return fit_reflectance(seen.vertex, seen.half, seen.difference, observed, weight, count, basis, seed)


def shown(seen: Observations, reflectance: Reflectance) -> Tensor:
    """Return what a reflectance says of observations: radiance (n, 3)."""
    found = reflectance(seen.vertex, seen.half, seen.difference)
    return found * (seen.irradiance * seen.facing).unsqueeze(1)
