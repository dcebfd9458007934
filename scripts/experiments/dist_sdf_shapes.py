"""Shapes of the DIST experiment: the decoder that learns them, fits to a view, DeepSDF's too, and how surfaces compare.

Shapes: n shapes, M points, Z numbers of a code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from renderers.sdf.camera import pinhole, turn_of
from renderers.sdf.decoder import Decoder, DecoderConfig, LearningConfig, learn_shapes
from renderers.sdf.fitting import ShapeFitConfig, fit_shape
from renderers.sdf.losses import Target
from renderers.sdf.march import MarchConfig
from renderers.sdf.renderer import Rendering, SDFRenderer
from renderers.sdf.shapes import SDF
from rlsuite.fit import FitConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.dist_sdf_bodies import DISTANCE, FIELD_OF_VIEW, Each, random_unions, samples

FITTED = ("mask and depth", "depth alone", "without rendering")
NEAR = 0.01  # of the points that are fitted without rendering from the seen ones
TRIED = 6  # shapes on which numbers are chosen


@dataclass(frozen=True, kw_only=True)
class PointFitConfig:
    """How codes are fitted without rendering; prior and truncation are DeepSDF's.

    Attributes:
        steps: of Adam.
        learning_rate: of Adam.
        prior: weight of a code's squared numbers.
        truncation: f is clamped to this and its negative; where it is beyond, on the wrong side, there is no gradient.
    """

    steps: int
    learning_rate: float
    prior: float = 1e-4
    truncation: float = 0.1


class Views(NamedTuple):
    """Unions as one camera each sees them, n of them."""

    truth: Each
    number: Tensor  # (n, 1), which is the code for `truth`
    rotation: Tensor  # (n, 3, 3)
    shift: Tensor  # (n, 3)
    seen: Rendering
    shown: Tensor  # (n, H, W), pixels whose depth is kept
    depth: Tensor  # (n, H, W), 0 where it is not
    start: Tensor  # (n, Z), codes before any fit


def learned_decoder(folder: Path, learned: int, count: int, steps: int) -> tuple[Decoder, float]:
    """Return a decoder of 4 layers of 64 units and codes of 8, and its mean error on what it learned from."""
    generator = torch.Generator().manual_seed(derive_seed(0, "learned"))
    pairs = [samples(one, count, generator) for one in random_unions(learned, generator)]
    points, distances = (torch.stack(part) for part in zip(*pairs, strict=True))
    schedule = ScheduleConfig(kind="cosine")
    fit = FitConfig(
        steps=steps,
        batch_size=4096,
        order="random",
        optimizer=OptimizerConfig(learning_rate=3e-3),
        schedule=schedule,
    )
    decoder = Decoder(DecoderConfig(code=8, width=64, layers=4, dropout=0.0), derive_seed(0, "decoder"))
    learning = LearningConfig(fit=fit, code_rate=1e-2)
    codes = learn_shapes(decoder, points, distances, learning, seed=derive_seed(0, "learning"), run_dir=folder / "fit")
    with torch.no_grad():
        code = codes.repeat_interleave(count, 0)
        error = (decoder(points.flatten(0, 1), code).clamp(-0.1, 0.1) - distances.flatten().clamp(-0.1, 0.1)).abs()
    return decoder, float(error.mean())


def seen_points(
    points: Tensor, normal: Tensor, shown: Tensor, rotation: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return seen points and their normals (M, 3) in objects' axes, and of which object each is (M,)."""
    row = torch.nonzero(shown)[:, 0]
    turn = rotation[row].mT
    places = (turn @ (points[shown] - shift[row]).unsqueeze(-1)).squeeze(-1)
    return places, (turn @ normal.movedim(1, -1)[shown].unsqueeze(-1)).squeeze(-1), row


def fit_points(sdf: SDF, code: Tensor, points: Tensor, normals: Tensor, row: Tensor, config: PointFitConfig) -> Tensor:
    """Fit codes (n, Z) as DeepSDF does: f is +-NEAR that far out of and into the seen points."""
    code = code.clone().requires_grad_()
    where = torch.cat([points + NEAR * normals, points - NEAR * normals])
    wanted = torch.cat([torch.full((len(points),), NEAR), torch.full((len(points),), -NEAR)])
    of = torch.cat([row, row])
    each = 1.0 / torch.bincount(of, minlength=len(code)).clamp_min(1)[of]
    optimizer = torch.optim.Adam([code], lr=config.learning_rate)
    for _ in range(config.steps):
        errors = (sdf(where, code[of]).clamp(-config.truncation, config.truncation) - wanted).abs()
        loss = (each * errors).sum() + config.prior * code.square().sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=[code])
        optimizer.step()
    return code.detach()


def fit_seen(sdf: SDF, views: Views, size: int, config: PointFitConfig) -> Tensor:
    """Fit codes (n, Z) to what was seen, without rendering."""
    points = pinhole(size, FIELD_OF_VIEW).points(views.depth)
    seen = seen_points(points, views.seen.normal, views.shown, views.rotation, views.shift)
    return fit_points(sdf, views.start, *seen, config)


def seen_unions(numbers: int, count: int, size: int, kept: float, generator: torch.Generator) -> Views:
    """Return random unions, each seen from one side; codes of so many numbers to start from are near 0."""
    truth = Each(random_unions(count, generator))
    number = torch.arange(count).unsqueeze(1).float()
    rotation = turn_of(torch.randn(count, 4, generator=generator))
    shift = torch.tensor([0.0, 0.0, DISTANCE]).expand(count, 3)
    with torch.no_grad():
        renderer = SDFRenderer(truth, pinhole(size, FIELD_OF_VIEW), MarchConfig(steps=100, keep=3))
        seen = renderer.render(number, rotation, shift)
    shown = seen.mask & (torch.rand(seen.mask.shape, generator=generator) < kept)
    depth = torch.where(shown, seen.depth, 0.0)
    start = 0.1 * torch.randn(count, numbers, generator=generator)
    return Views(truth, number, rotation, shift, seen, shown, depth, start)


def point_fits(
    sdf: SDF, numbers: int, grid: Sequence[PointFitConfig], seed: int, *, size: int, kept: float
) -> list[float]:
    """Return the mean Chamfer distance x 1000 of six shapes fitted without rendering, for each of several configs."""
    generator = torch.Generator().manual_seed(seed)
    views = seen_unions(numbers, TRIED, size, kept, generator)
    wanted = surfaces(views.truth, views.number, size, generator)
    found = []
    for config in grid:
        made = surfaces(sdf, fit_seen(sdf, views, size, config), size, generator)
        found.append(sum(1000.0 * chamfer(one, other) for one, other in zip(made, wanted, strict=True)) / TRIED)
    return found


def fitted(
    sdf: SDF,
    numbers: int,
    config: ShapeFitConfig,
    points: PointFitConfig,
    seed: int,
    *,
    size: int,
    groups: int,
    shapes: int,
    kept: float,
) -> dict[str, Any]:
    """Return the mean Chamfer distance x 1000 of fitted shapes, by arm and seed, and each shape's."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "shapes"))
    count = groups * shapes
    views = seen_unions(numbers, count, size, kept, generator)
    renderer = SDFRenderer(sdf, pinhole(size, FIELD_OF_VIEW), MarchConfig(steps=100, keep=3), normals="none")
    targets = (Target(views.depth, views.seen.mask), Target(views.depth))
    found = {
        name: fit_shape([(renderer, target)], views.start, views.rotation, views.shift, config)[0]
        for name, target in zip(FITTED, targets, strict=False)
    }
    found[FITTED[2]] = fit_seen(sdf, views, size, points)
    wanted = surfaces(views.truth, views.number, size, generator)
    figures: dict[str, Any] = {}
    for name, code in found.items():
        distances = [
            1000.0 * chamfer(one, other)
            for one, other in zip(surfaces(sdf, code, size, generator), wanted, strict=True)
        ]
        figures[name] = [sum(distances[i : i + shapes]) / shapes for i in range(0, count, shapes)]
        figures[f"each: {name}"] = distances
    return figures


@torch.no_grad()
def surfaces(sdf: Any, code: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
    """Return 2,000 points (m, 3) of each shape's surface, or fewer, as eight cameras at a cube's corners see it."""
    corners = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    forward = functional.normalize(-corners, dim=1)
    right = functional.normalize(torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0]).expand(8, 3)), dim=1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], 1)
    shift = torch.tensor([0.0, 0.0, DISTANCE]).expand(8, 3)
    renderer = SDFRenderer(sdf, pinhole(size, FIELD_OF_VIEW), MarchConfig(steps=100), normals="none")
    found = []
    for one in code:
        seen = renderer.render(one.expand(8, -1), rotation, shift)
        points = (renderer.camera.points(seen.depth) - shift[:, None, None]).flatten(1, 2) @ rotation
        points = points[seen.mask.flatten(1)]
        found.append(points[torch.randperm(len(points), generator=generator)[:2000]])
    return found


def chamfer(one: Tensor, other: Tensor) -> float:
    """Return mean squared distances to the nearest of the other's points (m, 3), both ways, added; 1 of no points."""
    if not len(one) or not len(other):
        return 1.0
    distances = torch.cdist(one, other)
    return float(distances.amin(1).square().mean() + distances.amin(0).square().mean())
