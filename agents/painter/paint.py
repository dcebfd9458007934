"""Painting a picture of any size with a trained painter: coarse tiles first, then finer ones where the error is.

The paper paints the whole picture first and then a grid of tiles, with the same number of bundles on each
(arXiv:1903.04411, section 4.4, `divided_plan`). `make_plan` has more levels, each with tiles of half the side or less,
set off by half a tile from the last so that no seam stays, and paints only the tiles with the largest errors: strokes
go where they help. Tiles of a level do not overlap; all of them are painted as one batch. After each level its
strokes can be refined, see refine.py.

Shapes: m tiles, n strokes a tile, H, W sides of the picture, S side of the canvas a tile is painted on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from agents.painter.refine import NO_LIMITS, Limits, RefineConfig, refine
from agents.painter.weights import PolicyPainter
from renderers.soft import draw_soft
from renderers.stroke_list import Layer, StrokeList, cut, draw_layer
from renderers.strokes import SHAPE_SIZE, STROKE_SIZE, composite
from rlsuite.errors import require

Proposal = Callable[[Tensor, Tensor, int], Tensor]

COVERING = 0.5  # share of the strokes, at most, for the tiles that cover the whole picture; finer ones have the rest


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of a plan.

    Attributes:
        side: of its tiles, in the picture's pixels.
        tiles: painted, of those with the largest errors.
        strokes: on each tile.
        offset: of the grid's first tile, (row, column), zero or negative.
    """

    side: int
    tiles: int
    strokes: int
    offset: tuple[int, int]


def grid(height: int, width: int, side: int, offset: tuple[int, int]) -> Tensor:
    """Return the corners (m, 2) of the tiles that cover a picture, the first at `offset`."""
    rows = torch.arange(offset[0], height, side)
    columns = torch.arange(offset[1], width, side)
    return torch.cartesian_prod(rows, columns)


def plan_for(painter: PolicyPainter, height: int, width: int, strokes: int, smallest: int = 0) -> list[Level]:
    """Return `make_plan` with as many strokes a tile as in the episodes that the painter learned from.

    Args:
        painter: whose plan.
        height: H.
        width: W.
        strokes: at most, on the whole picture.
        smallest: side of the finest tiles, in pixels; 0 for half the side of the painter's canvas.
    """
    return make_plan(height, width, strokes, smallest or max(1, painter.size // 2), painter.strokes)


def make_plan(height: int, width: int, strokes: int, smallest: int, each: int) -> list[Level]:
    """Divide `strokes` among levels: the whole picture, tiles that cover it, and ever finer ones where the error is.

    The shares were chosen by trial on pictures that no figure is quoted for.

    Args:
        height: H.
        width: W.
        strokes: at most, on the whole picture.
        smallest: side of the finest tiles, in pixels; no larger than the picture.
        each: strokes a tile; no more than there are.

    Returns:
        Levels from coarse to fine; where the finest tiles are all painted, they are painted again.
    """
    longer, each = max(height, width), min(each, strokes)
    smallest = min(smallest, longer)  # or finer levels would be coarser than the first
    levels = [Level(side=longer, tiles=1, strokes=each, offset=(0, 0))]
    left = strokes - each
    side = max(smallest, math.isqrt(max(1, height * width * each // max(1, left))))
    while left >= each:
        offset = (0, 0) if len(levels) % 2 == 0 else (-(side // 2), -(side // 2))
        number = len(grid(height, width, side, offset))
        if len(levels) == 1 and number * each > COVERING * left and side < longer:
            side += 1
            continue
        tiles = min(number, left // each)
        levels.append(Level(side=side, tiles=tiles, strokes=each, offset=offset))
        left -= tiles * each
        side = max(smallest, side // 2)
    return levels


def divided_plan(height: int, width: int, strokes: int, divide: int) -> list[Level]:
    """Return the paper's plan: strokes on the whole picture, then as many on each tile of a grid.

    Tiles are squares of a divide-th of the longer side: divide x divide on a square picture, fewer on others, which the
    paper squeezes to squares. It also averages 3 x 3 pixels along the seams; a list of strokes cannot hold a smoothing.
    """
    longer = max(height, width)
    side = -(-longer // divide)
    tiles = len(grid(height, width, side, (0, 0))) if divide > 1 else 0
    each = strokes // (1 + tiles)
    require(each >= 1, f"strokes={strokes}: divide={divide} has {tiles} tiles; use {1 + tiles} strokes or more")
    whole = Level(side=longer, tiles=1, strokes=each, offset=(0, 0))
    return [whole] if tiles == 0 else [whole, Level(side=side, tiles=tiles, strokes=each, offset=(0, 0))]


def paint_picture(
    picture: Tensor,
    propose: Proposal,
    levels: list[Level],
    *,
    size: int,
    brush: str = "bezier",
    refinement: RefineConfig | None = None,
    limits: Limits = NO_LIMITS,
    report: Callable[[int, int], None] = lambda done, total: None,
    deadline: float | None = None,
) -> StrokeList:
    """Paint a picture.

    Args:
        picture: (3, H, W) in [0, 1].
        propose: maps canvases and targets (m, 3, S, S) and a number n to strokes (m, n, 13); see `policy`.
        levels: from coarse to fine.
        size: S.
        brush: the strokes'.
        refinement: improve each level's strokes by gradient; None leaves them as they were proposed.
        limits: of the strokes.
        report: called with the strokes done and those of the whole plan.
        deadline: of time.perf_counter(), after which nothing is refined further.

    Returns:
        The strokes.
    """
    height, width = picture.shape[1:]
    painting = StrokeList(height, width, brush)
    canvas = torch.zeros_like(picture)
    total = sum(level.tiles * level.strokes for level in levels)
    done = 0
    for level in levels:
        places = worst_tiles(picture, canvas, level)
        targets, before = (resized(cut(whole, places, level.side), size) for whole in (picture, canvas))
        strokes = limits(propose(before, targets, level.strokes))
        if refinement is not None:
            share = level.tiles * level.strokes / (total - done)
            now = time.perf_counter()
            until = None if deadline is None else now + share * max(0.0, deadline - now)
            weight = tile_weights(places, level.side, height, width, size)
            strokes = refine(strokes, before, targets, weight, refinement, brush, limits, until=until)
        painting.layers.append(Layer(level.side, places, strokes))
        draw_layer(canvas, painting.layers[-1], 1.0, brush)
        done = len(painting)
        report(done, total)
    return painting


def policy(painter: PolicyPainter, brush: str | None = None, limits: Limits = NO_LIMITS) -> Proposal:
    """Return what a trained painter proposes: bundle after bundle, each painted before the next is chosen.

    Args:
        painter: who proposes.
        brush: what its strokes are painted with, and so seen; None for its own.
        limits: of the strokes' radii, kept before they are seen.

    Opaque strokes are seen with the opacities that the painter gave them. Seen opaque they end worse: refined, 18.3,
    19.2 and 21.0 dB instead of 20.1, 21.3 and 23.5 (three self-made scenes of 256 pixels, 1,500 strokes, 20 steps).
    """
    brush = painter.brush if brush is None else brush
    seen_brush, seen_limits = ("bezier" if brush == "opaque" else brush), replace(limits, opaque=False)

    @torch.no_grad()
    def propose(canvas: Tensor, target: Tensor, strokes: int) -> Tensor:
        bundle = painter.action_size // STROKE_SIZE
        bundles, proposed = -(-strokes // bundle), []
        for step in range(bundles):
            done = torch.full((len(canvas), 1), step * painter.episode_length // bundles, dtype=torch.uint8)
            seen, wanted = ((part * 255).round().to(torch.uint8).flatten(1) for part in (canvas, target))
            action = painter.act(torch.cat([seen, done, wanted], dim=1))
            proposed.append(seen_limits(action.unflatten(1, (-1, STROKE_SIZE))))
            alpha = draw_soft(proposed[-1][..., :SHAPE_SIZE], painter.size, brush=seen_brush)
            canvas = composite(canvas, alpha, proposed[-1][..., SHAPE_SIZE:])
        return torch.cat(proposed, dim=1)[:, :strokes]

    return propose


def worst_tiles(picture: Tensor, canvas: Tensor, level: Level) -> Tensor:
    """Return the corners (m, 2) of the level's tiles with the largest squared errors."""
    corners = grid(picture.shape[1], picture.shape[2], level.side, level.offset)
    if len(corners) <= level.tiles:
        return corners
    error = (picture - canvas).square().sum(dim=0)
    # Sums over rectangles from the integral image: tiles may reach over the edge, where there is no error.
    integral = torch.nn.functional.pad(error.double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    top, left = corners[:, 0].clamp_min(0), corners[:, 1].clamp_min(0)
    bottom = (corners[:, 0] + level.side).clamp_max(error.shape[0])
    right = (corners[:, 1] + level.side).clamp_max(error.shape[1])
    sums = integral[bottom, right] - integral[top, right] - integral[bottom, left] + integral[top, left]
    return corners[sums.argsort(descending=True, stable=True)[: level.tiles]]


def tile_weights(places: Tensor, side: int, height: int, width: int, size: int) -> Tensor:
    """Return which pixels (m, 1, size, size) of resized tiles lie on the picture: 1, and 0 beyond its edge."""
    place = (torch.arange(size) + 0.5) * (side / size)
    rows, columns = places[:, :1] + place, places[:, 1:] + place
    inside_rows, inside_columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    return (inside_rows[:, None, :, None] & inside_columns[:, None, None, :]).float()


def resized(tiles: Tensor, side: int) -> Tensor:
    """Return tiles (m, 3, side, side), reduced by averaging or enlarged bilinearly."""
    if tiles.shape[-1] == side:
        return tiles
    if tiles.shape[-1] > side:
        return interpolate(tiles, (side, side), mode="bilinear", antialias=True, align_corners=False)
    return interpolate(tiles, (side, side), mode="bilinear", align_corners=False)
