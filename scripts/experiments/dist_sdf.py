"""DIST (arXiv:1911.13225), small: signed distance functions rendered, and shapes and poses found through the renderer.

Drawing: sphere, box and capsule at random poses against MuJoCo's depth and silhouettes of the same geoms, 100 steps.
Queries: what each trick saves of 50 steps, of rays that meet the bounding sphere, and how the mask compares with that
of 400 plain steps. Shapes: a decoder learns unions of a box and a capsule; codes of others are fitted to one view's
depth, a tenth of its pixels kept: with the silhouette, without it, and as DeepSDF does, without rendering (f is to be
+-0.01 that far from the seen points along their true normals, which it is given); Chamfer distances to the true
surfaces. The same again with the unions' distances in closed form for a decoder, their eight numbers for a code: what
is then left is the fit's own. Poses: a known body, quaternion and shift off by normal noise of 0.1 in each of seven
numbers.

The bars are our own, set before the first run; the paper's are of ShapeNet at other sizes. The closed form came after
that run, to see whether the decoder was the limit; its bars are the decoder's. There the fit without rendering at first
had the truncation that learned distances need, DeepSDF's prior and the other fits' rate; now it has no truncation, and
a prior and a rate chosen for it on six other shapes, as theirs were.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from renderers.sdf.camera import pinhole, turn_of
from renderers.sdf.fitting import PoseFitConfig, ShapeFitConfig, fit_pose
from renderers.sdf.losses import LossWeights, Target
from renderers.sdf.march import MarchConfig
from renderers.sdf.renderer import SDFRenderer
from renderers.sdf.shapes import Primitive
from rlsuite.errors import require, require_finite
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.running.seeding import derive_seed
from scripts.experiments.dist_sdf_bodies import (
    BODIES,
    DISTANCE,
    FIELD_OF_VIEW,
    UNION_NUMBERS,
    draw,
    eye_poses,
    posed_body,
    union_of,
)
from scripts.experiments.dist_sdf_shapes import FITTED, PointFitConfig, fitted, learned_decoder, point_fits

PLAIN = MarchConfig(scales=(1,), coarse_steps=(), relaxation=1.0)
TRICKS = {
    "naive": replace(PLAIN, dynamic=False),
    "dynamic": PLAIN,
    "aggressive": replace(PLAIN, relaxation=1.5),
    "coarse to fine": MarchConfig(),
}


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        size: pixels a side.
        views: of each body that is drawn.
        learned: shapes that the decoder learns from.
        samples: points of each.
        learning_steps: of the decoder, 4,096 points each.
        shapes: others that are fitted, of each seed.
        shape_steps: of Adam.
        kept: share of the depth's pixels.
        point_priors: tried for the fit without rendering of exact distances, on other shapes.
        point_rates: likewise, of Adam.
        poses: of each seed.
        pose_steps: of Adam.
        depth_bar: largest error of depth, in radii of the bounding sphere, off the edges, at most.
        drawn_bar: intersection over union with MuJoCo's silhouettes, at least.
        order_bar: queries with each trick over those without it, the largest, at most.
        queries_bar: queries with all tricks over 50 steps of every ray, at most.
        mask_bar: intersection over union with the silhouette of 400 steps, all tricks, at least.
        shape_bar: share by which the mean Chamfer distance is lower with mask and depth, at least.
        rotation_bar: median error in degrees after the fit, at most.
        start_bar: the same as a share of that before, at most.
    """

    seeds: int = 3
    size: int = 64
    views: int = 6
    learned: int = 200
    samples: int = 3000
    learning_steps: int = 3000
    shapes: int = 5
    shape_steps: int = 150
    kept: float = 0.1
    point_priors: tuple[float, ...] = (1e-4, 1e-3, 1 / 256)
    point_rates: tuple[float, ...] = (1e-2, 3e-2)
    poses: int = 5
    pose_steps: int = 300
    depth_bar: float = 2e-3
    drawn_bar: float = 0.98
    order_bar: float = 0.999
    queries_bar: float = 0.15
    mask_bar: float = 0.99
    shape_bar: float = 0.2
    rotation_bar: float = 2.0
    start_bar: float = 0.25

    def __post_init__(self) -> None:
        for name in ("seeds", "views", "learned", "shapes", "shape_steps", "poses", "pose_steps", "learning_steps"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.size >= 8, f"size={self.size}: use 8 or more")
        require(self.samples >= 10, f"samples={self.samples}: use 10 or more")
        require(0.0 < self.kept <= 1.0, f"kept={self.kept}: use more than 0, and at most 1")
        for name in ("point_priors", "point_rates"):
            require(bool(getattr(self, name)), f"{name}=[]: name one or more")
            for value in getattr(self, name):
                require_finite(name, value, above=0.0)


DEBUG = Numbers(
    seeds=1,
    size=16,
    views=1,
    learned=2,
    samples=50,
    learning_steps=2,
    shapes=1,
    shape_steps=2,
    poses=1,
    pose_steps=2,
    point_rates=(1e-2,),
)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Draw, count, fit, and test the claims."""
    seeds = tuple(range(numbers.seeds))

    def of(*names: str) -> dict[str, Any]:
        return {name: getattr(numbers, name) for name in ("size", *names)}

    drawn = jobs.grid(draw_bodies, arms=("drawn",), seeds=seeds, **of("views"))["drawn"]
    poses = jobs.grid(find_poses, arms=("poses",), seeds=seeds, **of("poses", "pose_steps"))["poses"]
    shape_names = ("learned", "samples", "learning_steps", "shapes", "shape_steps", "kept")
    (shapes,) = jobs.grid(find_shapes, arms=("shapes",), seeds=(0,), groups=numbers.seeds, **of(*shape_names))["shapes"]
    (exact,) = jobs.grid(
        find_exact_shapes,
        arms=("exact",),
        seeds=(0,),
        groups=numbers.seeds,
        **of("shapes", "shape_steps", "kept", "point_priors", "point_rates"),
    )["exact"]
    for name in TRICKS:
        shown = ", ".join(f"{one['tricks'][name]['queries']:.1f} ({one['tricks'][name]['iou']:.4f})" for one in drawn)
        print(f"{name:18} queries a ray (mask's IoU with 400 steps): {shown}", flush=True)
    for kind, those in (("decoder", shapes), ("exact", exact)):
        for name in FITTED:
            shown = ", ".join(f"{one:.2f}" for one in those[name])
            print(f"{name:18} Chamfer distance x 1000, {kind}: {shown}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(drawn, shapes, exact, poses, numbers),
        figures={"drawn": list(drawn), "shapes": shapes, "exact shapes": exact, "poses": list(poses)},
        full_scale="python scripts/reproduce.py paper=dist_sdf seeds=5 shapes=10 learning_steps=20000 poses=20",
    )


def claims(
    drawn: tuple[dict[str, Any], ...],
    shapes: dict[str, Any],
    exact: dict[str, Any],
    poses: tuple[dict[str, float], ...],
    numbers: Numbers,
) -> tuple[Claim, ...]:
    """Return the claims for drawings, Chamfer distances by a decoder and by exact ones, and fitted poses, by seed."""

    def most(one: dict[str, Any]) -> float:
        queries = [one["tricks"][name]["queries"] for name in TRICKS]
        return max(after / before for before, after in pairwise(queries))

    def lower(those: dict[str, Any], other: str) -> tuple[float, ...]:
        return tuple(1.0 - ours / its for ours, its in zip(those[FITTED[0]], those[other], strict=True))

    last = [(one["tricks"]["coarse to fine"], one["tricks"]["naive"]) for one in drawn]
    return (
        Claim(
            statement="largest difference from MuJoCo's depth off the edges, in radii",
            margin=numbers.depth_bar,
            figures=tuple(one["depth"] for one in drawn),
            at_least=False,
        ),
        Claim(
            statement="intersection over union with MuJoCo's silhouettes",
            margin=numbers.drawn_bar,
            figures=tuple(one["iou"] for one in drawn),
        ),
        Claim(
            statement="queries with each trick over those without it, the largest",
            margin=numbers.order_bar,
            figures=tuple(most(one) for one in drawn),
            at_least=False,
        ),
        Claim(
            statement="queries with all tricks over those of every ray's 50 steps",
            margin=numbers.queries_bar,
            figures=tuple(all_of["queries"] / none["queries"] for all_of, none in last),
            at_least=False,
        ),
        Claim(
            statement="intersection over union of the mask with all tricks and that of 400 steps",
            margin=numbers.mask_bar,
            figures=tuple(all_of["iou"] for all_of, _ in last),
        ),
        *(
            Claim(
                statement=f"Chamfer distance of {kind}: mask and depth lower than {other}, as a share",
                margin=numbers.shape_bar,
                figures=lower(those, other),
            )
            for kind, those in (("fitted shapes", shapes), ("shapes fitted by exact distances", exact))
            for other in FITTED[1:]
        ),
        Claim(
            statement="median error of fitted rotations in degrees",
            margin=numbers.rotation_bar,
            figures=tuple(one["after"] for one in poses),
            at_least=False,
        ),
        Claim(
            statement="the same over what it was before",
            margin=numbers.start_bar,
            figures=tuple(one["after"] / one["before"] for one in poses),
            at_least=False,
        ),
    )


# -- drawing ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def draw_bodies(arm: str, seed: int, folder: Path, *, size: int, views: int) -> dict[str, Any]:
    """Return "depth" and "iou" against MuJoCo, and by trick "queries" of a ray and "iou" with 400 steps."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(derive_seed(seed, "poses"))
    camera, code = pinhole(size, FIELD_OF_VIEW), torch.zeros(views, 0)
    worst, overlaps, tricks = 0.0, [], {name: {"queries": 0.0, "iou": 0.0} for name in TRICKS}
    for name, sizes in BODIES.items():
        body = Primitive(name, sizes)
        quaternion = functional.normalize(torch.randn(views, 4, generator=generator), dim=1)
        place = 0.1 * torch.randn(views, 3, generator=generator)
        pose = eye_poses(quaternion, place)
        depth, mask = draw(name, quaternion, place, size, folder)
        ours = SDFRenderer(body, camera, MarchConfig(steps=100), normals="none").render(code, *pose)
        overlaps.append(overlap(ours.mask, mask))
        inner = -functional.max_pool2d(-(ours.mask & mask).float(), 3, 1, 1) > 0
        worst = max(worst, float((ours.depth - depth).abs()[inner].max()))
        reference = SDFRenderer(body, camera, replace(PLAIN, steps=400), normals="none").render(code, *pose)
        for trick, config in TRICKS.items():
            found = SDFRenderer(body, camera, config, normals="none").render(code, *pose)
            tricks[trick]["queries"] += found.queries / found.rays / len(BODIES)
            tricks[trick]["iou"] += overlap(found.mask, reference.mask) / len(BODIES)
    return {"depth": worst, "iou": sum(overlaps) / len(overlaps), "tricks": tricks}


def overlap(one: Tensor, other: Tensor) -> float:
    """Return the intersection over the union of all pixels of masks."""
    return float((one & other).sum() / (one | other).sum().clamp_min(1))


# -- poses -----------------------------------------------------------------------------------------------------


def find_poses(arm: str, seed: int, folder: Path, *, size: int, poses: int, pose_steps: int) -> dict[str, float]:
    """Return median errors of rotations in degrees, and of shifts, "before" and "after" fits."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(derive_seed(seed, "found"))
    quaternion = functional.normalize(torch.randn(poses, 4, generator=generator), dim=1)
    shift = torch.tensor([0.0, 0.0, DISTANCE]) + 0.1 * torch.randn(poses, 3, generator=generator)
    renderer = SDFRenderer(posed_body(), pinhole(size, FIELD_OF_VIEW), MarchConfig(steps=100, keep=3))
    code = torch.zeros(poses, 0)
    with torch.no_grad():
        seen = renderer.render(code, turn_of(quaternion), shift)
    first = quaternion + 0.1 * torch.randn(poses, 4, generator=generator)
    near = shift + 0.1 * torch.randn(poses, 3, generator=generator)
    target = Target(seen.depth, seen.mask, seen.normal)
    turn, place, _ = fit_pose([(renderer, target)], code, first, near, PoseFitConfig(steps=pose_steps))
    return {
        "before": float(degrees(first, quaternion).median()),
        "after": float(degrees(turn, quaternion).median()),
        "shift before": float((near - shift).norm(dim=1).median()),
        "shift after": float((place - shift).norm(dim=1).median()),
    }


def degrees(one: Tensor, other: Tensor) -> Tensor:
    """Return the angles (n,) between rotations, quaternions (n, 4)."""
    return torch.rad2deg(2 * functional.cosine_similarity(one, other, dim=1).abs().clamp(max=1.0).acos())


# -- shapes ----------------------------------------------------------------------------------------------------


def find_shapes(
    arm: str,
    seed: int,
    folder: Path,
    *,
    size: int,
    groups: int,
    learned: int,
    samples: int,
    learning_steps: int,
    shapes: int,
    shape_steps: int,
    kept: float,
) -> dict[str, Any]:
    """Fit a learned decoder's codes; return as `fitted` does, and the "decoder's error"."""
    torch.set_num_threads(1)
    decoder, error = learned_decoder(folder, learned, samples, learning_steps)
    config = ShapeFitConfig(steps=shape_steps, learning_rate=1e-2, weights=LossWeights(normal=0.0))
    points = PointFitConfig(steps=shape_steps, learning_rate=config.learning_rate)
    numbers = decoder.config.code
    found = fitted(decoder, numbers, config, points, seed, size=size, groups=groups, shapes=shapes, kept=kept)
    return {"decoder's error": error, **found}


def find_exact_shapes(
    arm: str,
    seed: int,
    folder: Path,
    *,
    size: int,
    groups: int,
    shapes: int,
    shape_steps: int,
    kept: float,
    point_priors: tuple[float, ...],
    point_rates: tuple[float, ...],
) -> dict[str, Any]:
    """Fit the eight numbers of the same unions in closed form.

    Distances that are known everywhere need no truncation: without rendering there is none. Prior and rate of that fit
    are those that do best on other shapes than are judged, of all pairs of the two lists.

    Returns:
        What `fitted` does, and "choice": for each pair its prior, its rate, and the mean Chamfer distance x 1000.
    """
    torch.set_num_threads(1)
    weights = LossWeights(normal=0.0, prior=UNION_NUMBERS / 256)  # of a squared number as much as of the paper's 256
    config = ShapeFitConfig(steps=shape_steps, learning_rate=3e-2, weights=weights)
    grid = [
        PointFitConfig(steps=shape_steps, learning_rate=rate, prior=prior, truncation=math.inf)
        for prior in point_priors
        for rate in point_rates
    ]
    tried = point_fits(union_of, UNION_NUMBERS, grid, derive_seed(seed, "choice"), size=size, kept=kept)
    best = grid[tried.index(min(tried))]
    found = fitted(union_of, UNION_NUMBERS, config, best, seed, size=size, groups=groups, shapes=shapes, kept=kept)
    found["choice"] = [[one.prior, one.learning_rate, far] for one, far in zip(grid, tried, strict=True)]
    return found
