"""Shapes of the DIST experiment: the decoder that learns them, DeepSDF's fit to points, and how surfaces compare.

Shapes: n shapes, M points, Z numbers of a code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from renderers.sdf.camera import pinhole
from renderers.sdf.decoder import Decoder, DecoderConfig, LearningConfig, learn_shapes
from renderers.sdf.fitting import ShapeFitConfig
from renderers.sdf.march import MarchConfig
from renderers.sdf.renderer import SDFRenderer
from renderers.sdf.shapes import SDF
from rlsuite.fit import FitConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.dist_sdf_bodies import DISTANCE, FIELD_OF_VIEW, random_unions, samples

NEAR = 0.01  # of the points that are fitted without rendering from the seen ones


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


def fit_points(sdf: SDF, code: Tensor, points: Tensor, normals: Tensor, row: Tensor, config: ShapeFitConfig) -> Tensor:
    """Fit codes (n, Z) as DeepSDF does: f is +-NEAR that far out of and into the seen points; its prior is 1e-4."""
    code = code.clone().requires_grad_()
    where = torch.cat([points + NEAR * normals, points - NEAR * normals])
    wanted = torch.cat([torch.full((len(points),), NEAR), torch.full((len(points),), -NEAR)])
    of = torch.cat([row, row])
    each = 1.0 / torch.bincount(of, minlength=len(code)).clamp_min(1)[of]
    optimizer = torch.optim.Adam([code], lr=config.learning_rate)
    for _ in range(config.steps):
        errors = (sdf(where, code[of]).clamp(-0.1, 0.1) - wanted).abs()
        loss = (each * errors).sum() + 1e-4 * code.square().sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=[code])
        optimizer.step()
    return code.detach()


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
