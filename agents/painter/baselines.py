"""What a painter must beat: strokes at random, and greedy search.

Both propose strokes for tiles as a trained painter does (agents/painter/paint.py), so that they paint with the same
plan; random strokes are a start for gradient search.

Shapes: m tiles, n strokes a tile, c candidates, S side of a tile.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agents.painter.paint import Level, Proposal, grid
from renderers.bezier import draw_exact
from renderers.strokes import SHAPE_SIZE, STROKE_SIZE, composite

_CHUNK = 400  # candidates drawn at a time


def even_plan(height: int, width: int, strokes: int, each: int = 20) -> list[Level]:
    """Return one level of tiles that cover the picture, at most `each` strokes on every one: no tile is preferred."""
    each = min(each, strokes)
    side = max(1, math.isqrt(height * width * each // strokes))
    while len(grid(height, width, side, (0, 0))) * each > strokes:
        side += 1
    return [Level(side=side, tiles=len(grid(height, width, side, (0, 0))), strokes=each, offset=(0, 0))]


def random_strokes(seed: int, *, coloured: bool = True) -> Proposal:
    """Return a proposal of uniformly random strokes; coloured: each of the target's colour at its middle."""
    generator = torch.Generator().manual_seed(seed)

    def propose(canvas: Tensor, target: Tensor, strokes: int) -> Tensor:
        size = target.shape[-1]
        drawn = torch.rand(len(target), strokes, STROKE_SIZE, generator=generator)
        if not coloured:
            return drawn
        place = (drawn[..., [0, 1]] + drawn[..., [4, 5]]) / 2 * (size - 1)
        row, column = place.round().long().unbind(-1)
        tile = torch.arange(len(target)).unsqueeze(1)
        drawn[..., SHAPE_SIZE:] = target[tile, :, row, column]
        return drawn

    return propose


def greedy_strokes(seed: int, candidates: int, brush: str = "bezier") -> Proposal:
    """Return a proposal that adds, one by one, the best of c random strokes, each in its best colour.

    A stroke's best colour is the one with the smallest squared error, channel by channel: the sum over pixels of
    A (T - C (1 - A)) divided by that of A^2, clipped to [0, 1].
    """
    generator = torch.Generator().manual_seed(seed)

    def best(canvas: Tensor, target: Tensor) -> Tensor:
        size = target.shape[-1]
        shape = torch.rand(len(target), candidates, SHAPE_SIZE, generator=generator)
        alpha = draw_exact(shape, size, brush=brush).unsqueeze(2)  # (m, c, 1, S, S)
        under = canvas.unsqueeze(1) * (1.0 - alpha)
        missing = target.unsqueeze(1) - under
        colour = (alpha * missing).sum(dim=(3, 4)) / alpha.square().sum(dim=(3, 4)).clamp_min(1e-6)
        colour = colour.clamp_(0.0, 1.0)
        error = (missing - alpha * colour[..., None, None]).square().sum(dim=(2, 3, 4))
        pick, tile = error.argmin(dim=1), torch.arange(len(target))
        return torch.cat([shape[tile, pick], colour[tile, pick]], dim=1)

    def propose(canvas: Tensor, target: Tensor, strokes: int) -> Tensor:
        chosen, canvas, each = [], canvas.clone(), max(1, _CHUNK // candidates)
        for _ in range(strokes):
            parts = [best(canvas[i : i + each], target[i : i + each]) for i in range(0, len(target), each)]
            stroke = torch.cat(parts)
            alpha = draw_exact(stroke[:, None, :SHAPE_SIZE], target.shape[-1], brush=brush)
            canvas = composite(canvas, alpha, stroke[:, None, SHAPE_SIZE:])
            chosen.append(stroke)
        return torch.stack(chosen, dim=1)

    return propose
