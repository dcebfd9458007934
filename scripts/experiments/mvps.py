"""Multi-view photometric stereo (arXiv:2001.06659), small: scans that highlights do not bend.

Bumpy ellipsoids (even seeds) and blobs of two lobes (odd ones), dull, glossy, or of both in stripes, are photographed
by a ray caster: 12 views of 64 x 64 pixels, 36 lights on two rings near the camera, attached and cast shadows, noise.
Azimuths come from symmetry; normals from azimuths of all views that see a point, beside the average of each view's
Lambertian least squares over the same samples, those neither in shadow nor saturated; the mesh from 40 known points,
beside the visual hull; reflectance of two basis materials from 31 lights, and judged on the 5 others.

Claims (the worst seed, where a bar is for every seed): on glossy and striped bodies normals from azimuths have at most
half the error of the averaged least squares; the median azimuth error is small; it stays below that of least squares
with a third of the lights gone; along contours of 40 pixels the distance hardly changes; the mesh is near the true
surface, and nearer by half than the visual hull; stripes' reflectance predicts the lights held out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.stereo.azimuth import azimuths, trusted_samples
from envs.perception.stereo.azimuth_normals import azimuth_normals
from envs.perception.stereo.bodies import MATERIALS, Body, CaptureConfig, photograph
from envs.perception.stereo.capture import Capture, nearest, sample
from envs.perception.stereo.contours import tangents, trace_contours
from envs.perception.stereo.hull import hull_distances
from envs.perception.stereo.judge import score
from envs.perception.stereo.propagate import as_points
from envs.perception.stereo.scan import Observations, filled, fit_brdf, observe, pixel_values, scan, shown
from envs.perception.stereo.surface import Mesh, hull_mesh, marching_cubes
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.metrics.normals import angles
from rlsuite.running.seeding import derive_seed

SHINY = ("glossy", "stripes")
CONTOUR, EVERY, BETWEEN = 20.0, 37, 3  # pixels to each side; one pixel in so many begins one; views between
HELD = (3, 14, 20, 27, 33)  # lights that reflectance is judged on


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        size: pixels a side.
        views: around the body.
        known: points that are known to begin with.
        passes: how often azimuths are found, each with the shape found before.
        cells: of the surface's grid, a side.
        normals_bar: error of normals from azimuths over that of the averaged least squares, the worst, at most.
        azimuth_bar: median error in degrees, the worst, at most.
        missing_bar: the same over that of least squares with a third of the lights gone, on the mean, at most.
        contour_bar: median change of the distance along contours in % of the object's size, the worst, at most.
        mesh_bar: mean distance to the true surface in % of its box's diagonal, the worst, at most.
        hull_bar: the same over that of the visual hull, on the mean, at most.
        reflectance_bar: relative root mean square error in % on lights held out, stripes, the worst, at most.
    """

    seeds: int = 3
    size: int = 64
    views: int = 12
    known: int = 40
    passes: int = 2
    cells: int = 64
    normals_bar: float = 0.5
    azimuth_bar: float = 3.0
    missing_bar: float = 1.0
    contour_bar: float = 1.0
    mesh_bar: float = 1.5
    hull_bar: float = 0.5
    reflectance_bar: float = 15.0

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("size", 16), ("views", 4), ("known", 1), ("passes", 1), ("cells", 16)):
            require(getattr(self, name) >= least, f"{name}={getattr(self, name)}: use {least} or more")


DEBUG = Numbers(seeds=1, size=24, views=10, passes=1, cells=24)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Scan, measure, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    inputs = {name: getattr(numbers, name) for name in ("size", "views", "known", "passes", "cells")}
    found = jobs.grid(measure, arms=MATERIALS, seeds=seeds, **inputs)
    for arm, results in found.items():
        for one in results:
            print(f"{arm:8} " + ", ".join(f"{name} {value:.2f}" for name, value in one.items()), flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={arm: list(results) for arm, results in found.items()},
        full_scale="python scripts/reproduce.py paper=mvps size=256 views=20 cells=192",
    )


def claims(found: Mapping[str, Any], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for figures by material and seed."""
    shiny = [one for name in SHINY for one in found[name]]
    every = [one for results in found.values() for one in results]

    def below(statement: str, bar: float, *figures: float) -> Claim:
        return Claim(statement=statement, margin=bar, figures=figures, at_least=False)

    return (
        below(
            "error of normals from azimuths over that of averaged least squares, shiny bodies, the worst",
            numbers.normals_bar,
            max(one["normals"] / one["least squares"] for one in shiny),
        ),
        below("median azimuth error in degrees, the worst", numbers.azimuth_bar, max(one["azimuth"] for one in every)),
        below(
            "median azimuth error over that of least squares, a third of the lights gone, shiny bodies",
            numbers.missing_bar,
            *(one["azimuth, a third gone"] / one["least squares, a third gone"] for one in shiny),
        ),
        below(
            "median change of distance along contours in % of the size, the worst",
            numbers.contour_bar,
            max(one["contours"] for one in every),
        ),
        below(
            "distance of the mesh to the true surface in % of the diagonal, the worst",
            numbers.mesh_bar,
            max(one["mesh"] for one in every),
        ),
        below(
            "distance of the mesh to the true surface over that of the visual hull",
            numbers.hull_bar,
            *(one["mesh"] / one["hull"] for one in every),
        ),
        below(
            "relative error in % of stripes' reflectance on lights held out, the worst",
            numbers.reflectance_bar,
            max(one["reflectance"] for one in found["stripes"]),
        ),
    )


def measure(
    arm: str, seed: int, folder: Path, size: int, views: int, known: int, passes: int, cells: int
) -> dict[str, float]:
    """Return figures of one body: errors in degrees, distances in % of the true box's diagonal, reflectance in %.

    Args:
        arm: the material.
        seed: of the body and the noise.
        folder: unused.
        size: see Numbers; likewise those that follow.
        views: see there.
        known: see there.
        passes: see there.
        cells: see there.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    body = Body("lobes" if seed % 2 else "ellipsoid", derive_seed(seed, "body"))
    capture, truth = photograph(body, arm, CaptureConfig(size=size, views=views), derive_seed(seed, "noise"))
    enter, _ = hull_distances(capture)
    rough = filled(enter, capture)
    fields = [azimuths(capture, view, rough[view]) for view in range(views)]
    leaning, sure = [one[0] for one in fields], [one[1] for one in fields]
    found = {"azimuth": median([azimuth_error(capture, body, truth, view, leaning[view]) for view in range(views)])}
    found |= third_gone(capture, body, truth, rough)
    found |= normals_at_true_points(capture, body, truth, leaning, sure)
    found["contours"] = contour_change(capture, truth, leaning, sure)
    stream = torch.Generator().manual_seed(derive_seed(seed, "known"))
    points, _ = as_points(capture, truth)
    seeds = points[torch.randperm(len(points), generator=stream)[:known]]
    scanned = scan(capture, seeds, passes, cells)
    surface = true_mesh(body, cells)
    diagonal = float((surface.vertices.amax(dim=0) - surface.vertices.amin(dim=0)).norm())
    judged = score(scanned.mesh, surface, scanned.normals, 4000)
    hull = hull_mesh(capture, cells)
    found |= {
        "mesh": 100.0 * judged["to surface"] / diagonal,
        "mesh, chamfer": 100.0 * judged["chamfer"] / diagonal,
        "mesh, degrees": judged["degrees"],
        "hull": 100.0 * score(hull, surface, hull.normals(), 4000)["to surface"] / diagonal,
        "spread": 100.0 * scanned.spread,
        "vertices": float(len(scanned.mesh.vertices)),
    }
    seen = observe(capture, scanned.mesh.vertices, scanned.normals, scanned.visible)
    held = torch.isin(seen.light, torch.tensor(HELD))
    learned, tested = (Observations._make(part[which] for part in seen) for which in (~held, held))
    fitted = fit_brdf(learned, len(scanned.mesh.vertices), basis=2, seed=seed)
    apart = (shown(tested, fitted) - tested.radiance).square().mean().sqrt()
    found["reflectance"] = 100.0 * float(apart / tested.radiance.square().mean().sqrt())
    return found


def median(parts: list[Tensor]) -> float:
    """Return the median of all numbers."""
    return float(torch.cat(parts).median())


def true_mesh(body: Body, cells: int) -> Mesh:
    """Return a body's surface, on a grid half as fine again as that of the scanned one."""
    number = 3 * cells // 2
    at, step = torch.linspace(-1.6, 1.6, number), 3.2 / (number - 1)
    field = body(torch.stack(torch.meshgrid(at, at, at, indexing="ij"), dim=-1))
    return marching_cubes(field, 0.0, torch.full((3,), -1.6 - 0.5 * step), step)


def azimuth_error(capture: Capture, body: Body, truth: Tensor, view: int, leaning: Tensor) -> Tensor:
    """Return the angles (P,) between where normals lean to and where `leaning` (H, W, 3) says, in degrees."""
    pixels, mask = capture.pixels(view), capture.masks[view]
    normals = body.normals(capture.lift(view, pixels, truth[view][mask])) @ capture.rotations[view].T
    return angles(across(normals, capture.rays(pixels)), across(leaning[mask], capture.rays(pixels)))


def across(vectors: Tensor, rays: Tensor) -> Tensor:
    """Return vectors (P, 3) without what of them lies along rays (P, 3)."""
    return vectors - (vectors * rays).sum(dim=1, keepdim=True) * rays


def third_gone(capture: Capture, body: Body, truth: Tensor, rough: Tensor) -> dict[str, float]:
    """Return median azimuth errors of two views, by symmetry and by least squares, with a third of each ring gone."""
    turn = torch.atan2(capture.lights[0, :, 1], capture.lights[0, :, 0]) % (2.0 * math.pi)
    kept = (turn > 2.0 * math.pi / 3.0 - 1e-3).nonzero().flatten()
    ours, theirs = [], []
    for view in (0, capture.views // 2):
        ours.append(azimuth_error(capture, body, truth, view, azimuths(capture, view, rough[view], kept)[0]))
        pixels, mask = capture.pixels(view), capture.masks[view]
        slopes = least_squares_at(capture, view, pixels, capture.rays(pixels) * rough[view][mask].unsqueeze(1), kept)
        fitted = torch.zeros(*mask.shape, 3)
        fitted[mask] = slopes
        theirs.append(azimuth_error(capture, body, truth, view, fitted))
    return {"azimuth, a third gone": median(ours), "least squares, a third gone": median(theirs)}


def least_squares_at(capture: Capture, view: int, pixels: Tensor, here: Tensor, lights: Tensor) -> Tensor:
    """Return Lambertian normals (P, 3) in the camera's axes of points `here` (P, 3) in them, seen at pixels (P, 2).

    As for symmetry, samples in shadow or saturated do not count.
    """
    toward, irradiance = (part[:, lights] for part in capture.toward(view, here))
    raw = pixel_values(capture, view, pixels)[:, lights]
    grey = raw.mean(dim=2) / irradiance
    counts = trusted_samples(raw, grey, capture.white).unsqueeze(2).float()
    return functional.normalize((torch.linalg.pinv(toward * counts) @ (grey.unsqueeze(2) * counts)).squeeze(2), dim=1)


def normals_at_true_points(
    capture: Capture, body: Body, truth: Tensor, leaning: list[Tensor], sure: list[Tensor], count: int = 3000
) -> dict[str, float]:
    """Return mean errors of normals from azimuths and from averaged least squares, at points of the true surface."""
    points, _ = as_points(capture, truth)
    points = points[torch.linspace(0, len(points) - 1, count).long()]
    normals = body.normals(points)
    visible = torch.zeros(capture.views, len(points), dtype=torch.bool)
    total, every = torch.zeros_like(points), torch.arange(capture.lights.shape[1])
    for view, center in enumerate(capture.centers()):
        pixels, distances = capture.project(view, points)
        place, within = nearest(pixels, truth.shape[1:])
        facing = (normals * functional.normalize(center - points, dim=1)).sum(dim=1) > 0.15
        visible[view] = within & facing & ((truth[view].flatten()[place] - distances).abs() < 0.05)
        seen = visible[view]
        slopes = least_squares_at(capture, view, pixels[seen], capture.seen(view, points[seen]), every)
        total[seen] += slopes @ capture.rotations[view]
    found, good = azimuth_normals(capture, leaning, sure, points, visible)
    return {
        "normals": float(angles(found, normals)[good].mean()),
        "least squares": float(angles(total, normals)[good].mean()),
        "told": 100.0 * float(good.float().mean()),
    }


def contour_change(capture: Capture, truth: Tensor, leaning: list[Tensor], sure: list[Tensor]) -> float:
    """Return the median, over contours, of the mean change of the true distance along them, in % of the size."""
    found = []
    for view in range(0, capture.views, BETWEEN):
        starts = capture.pixels(view)[::EVERY]
        places, _, valid = trace_contours(tangents(capture, leaning[view]), sure[view], starts, CONTOUR)
        known = truth[view].isfinite()
        level = torch.where(known, truth[view], truth[view].nanmean()).unsqueeze(-1)
        along = sample(level, places.view(-1, 2)).view(valid.shape)
        inside = valid & (sample(known.float().unsqueeze(-1), places.view(-1, 2)).view(valid.shape) > 0.999)
        change = (along - along[:, [along.shape[1] // 2]]).abs()
        long = inside.sum(dim=1) > 10
        found.append(torch.where(inside, change, torch.nan)[long].nanmean(dim=1))
    return 100.0 * float(torch.cat(found).nanmedian()) / capture.size()
