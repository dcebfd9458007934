"""Sphere tracing made cheap (DIST, section 3.2): coarse to fine, over-stepping, and unfinished rays alone.

No gradient passes here: what is kept of a march is, for each pixel, the few points where |f| was smallest.

At the coarse scales a ray goes through the middle of a block of pixels, and when a block is split each part goes on
from where the block's ray was. The official code lists a block's points among its pixels', though they lie on none of
their rays, and counts a block's hit as theirs. Here only points on a pixel's own ray make it a hit; of a ray that
misses, the point with the smallest |f| may be the block's, taken at the same distance on the pixel's own ray.

Shapes: B views, P pixels, N rays, k kept points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from renderers.sdf.camera import Pinhole
from renderers.sdf.shapes import SDF
from rlsuite.errors import require, require_choice, require_finite

FAR = 1e11  # depth of what is not hit


@dataclass(frozen=True, kw_only=True)
class MarchConfig:
    """How rays march.

    Attributes:
        steps: of each ray, those of its blocks counted.
        relaxation: how much of the signed distance a step goes, a; above 1 it crosses the surface and comes back. Use 1
            for fields that grow faster than distances do.
        tolerance: a ray ends where |f| is below, and has then hit.
        truncation: f is clamped to this and its negative in steps.
        keep: k, points of each ray with the smallest |f|; their gradients are summed in the depth's.
        scales: sides of blocks in pixels, each a multiple of the next, the last one 1.
        coarse_steps: at every scale but the last.
        dynamic: query unfinished rays alone; False (for comparison) queries all.
        split: where a part of a block starts: at the block's "raydepth" (distance) or its "depth" (along the axis).
        chunk: points queried at a time.
    """

    steps: int = 50
    relaxation: float = 1.5
    tolerance: float = 5e-5
    truncation: float = 0.1
    keep: int = 1
    scales: tuple[int, ...] = (4, 2, 1)
    coarse_steps: tuple[int, ...] = (3, 3)
    dynamic: bool = True
    split: str = "raydepth"
    chunk: int = 100_000

    def __post_init__(self) -> None:
        for name in ("keep", "chunk"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        for name in ("relaxation", "tolerance", "truncation"):
            require_finite(name, getattr(self, name), above=0.0)
        pairs = zip(self.scales, self.scales[1:], strict=False)
        good = bool(self.scales) and self.scales[-1] == 1 and all(one > two and one % two == 0 for one, two in pairs)
        require(good, f"scales={list(self.scales)}: use multiples that end with 1, such as [4,2,1] or [1]")
        good = len(self.coarse_steps) == len(self.scales) - 1 and all(steps >= 1 for steps in self.coarse_steps)
        require(good, f"coarse_steps={list(self.coarse_steps)}: use one number for each scale but the last")
        require(self.steps > sum(self.coarse_steps), f"steps={self.steps}: use more than coarse_steps together")
        require_choice("split", self.split, ("raydepth", "depth"))


class Marched(NamedTuple):
    """Where rays went.

    Attributes:
        inside: (B, P) bool, whether the ray meets the bounding sphere, ahead of the camera.
        hit: (B, P) bool.
        length: (B, P, k), distances from the camera of the points with the smallest |f|, the smallest first.
        value: (B, P, k), f there, or its size where the point is a block's; infinite where there are fewer points.
        buried: (B, P) bool, whether the first query was negative: the camera is inside, or f is no distance.
        queries: of f, in all.
    """

    inside: Tensor
    hit: Tensor
    length: Tensor
    value: Tensor
    buried: Tensor
    queries: int


def meet_sphere(center: Tensor, along: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return how rays from cameras (B, 3) along unit vectors (B, P, 3) meet the unit sphere about the origin.

    Returns:
        Distances of the rays from the origin (of those that lead away from it, the camera's), whether they meet the
        sphere, and where they enter and leave it; (B, P) each. A ray that misses enters where it passes by.
    """
    forward = -(along * center.unsqueeze(1)).sum(-1)
    outside = (center.square().sum(-1, keepdim=True) > 1.0).expand_as(forward)
    passing = center.unsqueeze(1) + forward.clamp_min(0.0).unsqueeze(-1) * along
    distance = (passing.square().sum(-1) + 1e-20).sqrt()
    nearest = center.unsqueeze(1) + forward.unsqueeze(-1) * along
    half = (1.0 - nearest.square().sum(-1)).clamp_min(0.0).sqrt()
    first = torch.where(outside, forward - half, 0.0)
    return distance, (distance <= 1.0) & ((forward > 0) | ~outside), first, forward + half


@torch.no_grad()
def march(sdf: SDF, code: Tensor, camera: Pinhole, rotation: Tensor, shift: Tensor, config: MarchConfig) -> Marched:
    """March a ray for every pixel.

    Args:
        sdf: the object, in its unit sphere.
        code: (B, Z).
        camera: of all views.
        rotation: (B, 3, 3), R.
        shift: (B, 3), T.
        config: how.
    """
    center = -(shift.unsqueeze(1) @ rotation).squeeze(1)
    rays = [camera.rays(scale, center.device) for scale in config.scales]
    sides = [(-(-camera.height // scale), -(-camera.width // scale)) for scale in config.scales]
    views, along = len(center), [block @ rotation for block in rays]
    masks = [meet_sphere(center, along[-1])[1].view(views, *sides[-1])]
    for larger, smaller in list(zip(config.scales, config.scales[1:], strict=False))[::-1]:
        ratio = larger // smaller
        masks.insert(0, functional.max_pool2d(masks[0].float(), ratio, ratio, ceil_mode=True) > 0)
    steps = (*config.coarse_steps, config.steps - sum(config.coarse_steps))
    length = meet_sphere(center, along[0])[2].view(views, *sides[0])
    queries, found = 0, None
    nearest, passed = torch.full_like(length, math.inf), length  # smallest |f| at coarser scales, and where
    for level, scale in enumerate(config.scales):
        _, _, _, last = meet_sphere(center, along[level])
        ray = torch.nonzero(masks[level].flatten()).squeeze(1)
        row, lines = ray // rays[level].shape[0], along[level].flatten(0, 1)[ray]
        found = _advance(
            sdf, code, center, row, lines, length.flatten()[ray], last.flatten()[ray], steps[level], config
        )
        queries += found.queries
        length = length.flatten().index_copy(0, ray, found.length).view(views, *sides[level])
        if scale != 1:
            better = found.value[:, 0].abs() < nearest.flatten()[ray]
            own = (found.value[better, 0].abs(), found.where[better, 0])
            nearest, passed = (
                old.flatten().index_copy(0, ray[better], new) for old, new in zip((nearest, passed), own, strict=True)
            )
            coarse, fine = rays[level][:, 2].view(sides[level]), rays[level + 1][:, 2].view(sides[level + 1])
            ratio = scale // config.scales[level + 1]
            nearest = _split(nearest.view_as(length), ratio, fine.shape)
            if config.split == "depth":
                length, passed = length * coarse, passed.view_as(length) * coarse
            length, passed = (_split(value.view_as(masks[level]), ratio, fine.shape) for value in (length, passed))
            if config.split == "depth":
                length, passed = length / fine, passed / fine
    assert found is not None
    hit = (found.value[:, 0].abs() <= config.tolerance) & (found.length < last.flatten()[ray])
    if len(config.scales) == 1:
        hit &= found.began > config.tolerance
    before = nearest.flatten()[ray]
    before = torch.where(~hit & (before < found.value[:, 0].abs()), before, math.inf)
    found.where[:, 0] = torch.where(before.isfinite(), passed.flatten()[ray], found.where[:, 0])
    found.value[:, 0] = torch.where(before.isfinite(), before, found.value[:, 0])
    shape = (views, camera.height * camera.width)
    kept = (math.prod(shape), config.keep)
    return Marched(
        masks[-1].view(shape),
        torch.zeros(kept[0], dtype=torch.bool, device=ray.device).index_copy(0, ray, hit).view(shape),
        found.where.new_zeros(kept).index_copy(0, ray, found.where).view(*shape, -1),
        found.value.new_full(kept, math.inf).index_copy(0, ray, found.value).view(*shape, -1),
        torch.zeros(kept[0], dtype=torch.bool, device=ray.device).index_copy(0, ray, found.began < 0).view(shape),
        queries,
    )


def _split(blocks: Tensor, ratio: int, shape: Sequence[int]) -> Tensor:
    """Return what every part (B, height, width) of blocks has of its block."""
    height, width = shape
    return blocks.repeat_interleave(ratio, 1).repeat_interleave(ratio, 2)[:, :height, :width]


class _Advanced(NamedTuple):
    length: Tensor  # (N,), where the rays are
    where: Tensor  # (N, k), where they were queried with the smallest |f|
    value: Tensor  # (N, k), f there
    began: Tensor  # (N,), the first f
    queries: int


def _advance(
    sdf: SDF,
    code: Tensor,
    center: Tensor,
    row: Tensor,
    along: Tensor,
    length: Tensor,
    last: Tensor,
    steps: int,
    config: MarchConfig,
) -> _Advanced:
    """March N rays of views row (N,), along (N, 3), from length (N,) up to last (N,)."""
    length, began = length.clone(), torch.full_like(length, math.inf)
    where = length.unsqueeze(1).repeat(1, config.keep)
    value = torch.full_like(where, math.inf)
    alive = torch.nonzero(length < last).squeeze(1) if config.dynamic else torch.arange(len(row), device=row.device)
    queries = 0
    for step in range(steps):
        if not len(alive):
            break
        here, of = length[alive], row[alive]
        f = query(sdf, center[of] + here.unsqueeze(1) * along[alive], code[of], config.chunk)
        queries += len(alive)
        if step == 0:
            began[alive] = f
        values = torch.cat([value[alive], f.unsqueeze(1)], 1)
        order = values.abs().topk(config.keep, 1, largest=False).indices  # sorted: the smallest first
        value[alive] = values.gather(1, order)
        where[alive] = torch.cat([where[alive], here.unsqueeze(1)], 1).gather(1, order)
        there = here + config.relaxation * f.clamp(-config.truncation, config.truncation)
        length[alive] = there
        if config.dynamic:
            alive = alive[(f.abs() >= config.tolerance) & (there < last[alive])]
    return _Advanced(length, where, value, began, queries)


def query(sdf: SDF, points: Tensor, code: Tensor, chunk: int) -> Tensor:
    """Return f (M,) at points (M, 3) with codes (M, Z), `chunk` of them at a time."""
    if len(points) <= chunk:
        return sdf(points, code)
    return torch.cat([sdf(*part) for part in zip(points.split(chunk), code.split(chunk), strict=True)])
