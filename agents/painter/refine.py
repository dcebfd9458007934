"""Improving strokes by gradient through the soft rasterizer, all tiles at once.

The strokes keep their order and number; Adam moves all their numbers to lower the squared error of what they paint.

Shapes: m tiles, n strokes a tile, S side of a tile as it is drawn here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from renderers.soft import draw_soft
from renderers.strokes import SHAPE_SIZE, STROKE_SIZE, composite
from rlsuite.errors import require, require_finite
from rlsuite.running.threads import in_threads


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """How strokes are refined.

    Attributes:
        steps: of Adam, on every level.
        learning_rate: of Adam, falling to a tenth at the end along a cosine.
        edge: softness of the strokes' edges in pixels, see renderers/soft.py.
    """

    steps: int = 40
    learning_rate: float = 0.03
    edge: float = 0.7

    def __post_init__(self) -> None:
        require(self.steps >= 0, f"refine_steps={self.steps}: use 0 or more")
        require_finite("refine_rate", self.learning_rate, above=0.0)


@dataclass(frozen=True)
class Limits:
    """What strokes may be.

    Attributes:
        thinnest: smallest radius, a share of the largest there is.
        thickest: largest radius.
        opaque: opacities are 1.
        palette: (k, 3), the colours there are; None for all.
    """

    thinnest: float = 0.0
    thickest: float = 1.0
    opaque: bool = False
    palette: Tensor | None = None

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the lower and upper bounds (13,) of a stroke's numbers."""
        low, high = torch.zeros(STROKE_SIZE), torch.ones(STROKE_SIZE)
        low[6:8], high[6:8] = self.thinnest, self.thickest
        if self.opaque:
            low[8:10] = 1.0
        return low, high

    def __call__(self, strokes: Tensor) -> Tensor:
        """Return strokes (..., 13) brought within the limits."""
        low, high = self.bounds()
        strokes = torch.minimum(torch.maximum(strokes, low), high)
        if self.palette is None:
            return strokes
        colours = strokes[..., SHAPE_SIZE:]
        nearest = torch.cdist(colours.reshape(-1, 3), self.palette).argmin(dim=1)
        return torch.cat([strokes[..., :SHAPE_SIZE], self.palette[nearest].view_as(colours)], dim=-1)


NO_LIMITS = Limits()
CHUNK_STROKES = 400  # drawn at a time: what is kept for their gradients stays in the cache


def refine(
    strokes: Tensor,
    canvas: Tensor,
    target: Tensor,
    weight: Tensor,
    config: RefineConfig,
    brush: str,
    limits: Limits = NO_LIMITS,
    *,
    until: float | None = None,
) -> Tensor:
    """Return better strokes; each tile by itself is never made worse.

    Args:
        strokes: (m, n, 13).
        canvas: (m, 3, S, S), what lies under them.
        target: (m, 3, S, S).
        weight: (m, 1, S, S), of the pixels' squared errors.
        config: how.
        brush: whose strokes.
        limits: of the strokes.
        until: time.perf_counter() at which to stop.

    Returns:
        (m, n, 13), each tile's best.
    """
    each = max(1, CHUNK_STROKES // strokes.shape[1])
    parts = [slice(first, first + each) for first in range(0, len(strokes), each)]
    workers, begin = max(1, min(torch.get_num_threads(), len(parts))), time.perf_counter()

    def work(number: int) -> Tensor:
        part = parts[number]
        share = min(1.0, (number // workers + 1) * workers / len(parts))
        stop = None if until is None else begin + share * (until - begin)
        return _refine(strokes[part], canvas[part], target[part], weight[part], config, brush, limits, stop)

    return torch.cat(in_threads(work, len(parts)))  # tiles are independent


def _refine(
    strokes: Tensor,
    canvas: Tensor,
    target: Tensor,
    weight: Tensor,
    config: RefineConfig,
    brush: str,
    limits: Limits,
    stop: float | None,
) -> Tensor:
    size = target.shape[-1]
    moving = strokes.clone().requires_grad_()
    optimizer = torch.optim.Adam([moving], lr=config.learning_rate, betas=(0.8, 0.95), fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, config.steps), config.learning_rate / 10)
    best, best_error = strokes.clone(), torch.full((len(strokes),), float("inf"))
    for step in range(config.steps + 1):
        alpha = draw_soft(moving[..., :SHAPE_SIZE], size, brush=brush, edge=config.edge)
        painted = composite(canvas, alpha, moving[..., SHAPE_SIZE:])
        error = (weight * (painted - target).square()).sum(dim=(1, 2, 3))
        with torch.no_grad():
            better = error < best_error
            best[better], best_error[better] = moving[better], error[better]
        if step == config.steps or (stop is not None and time.perf_counter() > stop):
            break
        optimizer.zero_grad(set_to_none=True)
        error.sum().backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            moving.copy_(limits(moving))
    return best
