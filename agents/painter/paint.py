"""Painting a picture of any size with a trained painter: coarse tiles first, then finer ones where the error is.

The paper paints the whole picture first and then a grid of d x d tiles, with the same number of bundles on each
(arXiv:1903.04411, section 4.4, `divided_plan`). `make_plan` has more levels, each with tiles of half the side or less,
set off by half a tile from the last so that no seam stays, and paints only the tiles with the largest errors: strokes
go where they help. Tiles of a level do not overlap; all of them are painted as one batch. After each level its
strokes can be refined, see refine.py.

Shapes: m tiles, k strokes a bundle, H, W sides of the picture, S side of the painter's canvas.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from agents.painter.refine import RefineConfig, refine
from agents.painter.weights import PolicyPainter
from envs.painting import paint
from renderers.stroke_list import Layer, StrokeList, cut, draw_layer
from renderers.strokes import STROKE_SIZE

BUNDLES = 4  # on a tile: the episodes that the shipped painter learned from
PARTS = (1, 3, 9, 18, 32)  # of the longer side, a tile's side on each level
SHARES = (0.0, 0.05, 0.25, 0.5)  # of the strokes left, on each level; those that come after take all


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of a plan.

    Attributes:
        side: of its tiles, in the picture's pixels.
        tiles: painted, of those with the largest errors.
        bundles: of strokes on each tile.
        offset: of the grid's first tile, (row, column), zero or negative.
    """

    side: int
    tiles: int
    bundles: int
    offset: tuple[int, int]


def grid(height: int, width: int, side: int, offset: tuple[int, int]) -> Tensor:
    """Return the corners (m, 2) of the tiles that cover a picture, the first at `offset`."""
    rows = torch.arange(offset[0], height, side)
    columns = torch.arange(offset[1], width, side)
    return torch.cartesian_prod(rows, columns)


def make_plan(height: int, width: int, strokes: int, bundle: int, smallest: int) -> list[Level]:
    """Divide `strokes` among levels; the shares were chosen by trial on pictures that no figure is quoted for.

    Args:
        height: H.
        width: W.
        strokes: at most, on the whole picture.
        bundle: k.
        smallest: side of the finest tiles, in pixels.

    Returns:
        Levels from coarse to fine; where the finest tiles are all painted, they are painted again.
    """
    levels: list[Level] = []
    left, longer = strokes, max(height, width)
    bundles = min(BUNDLES, strokes // bundle)
    each = bundle * bundles  # strokes on a tile
    shares = iter(SHARES)
    parts = iter(PARTS)
    part = next(parts)
    while left >= each:
        side = max(min(smallest, longer), longer // part)
        offset = (0, 0) if len(levels) % 2 == 0 else (-(side // 2), -(side // 2))
        tiles = min(len(grid(height, width, side, offset)), max(1, int(next(shares, 1.0) * left) // each))
        levels.append(Level(side=side, tiles=tiles, bundles=bundles, offset=offset))
        left -= tiles * each
        part = next(parts, part)
    return levels


def divided_plan(height: int, width: int, strokes: int, bundle: int, divide: int) -> list[Level]:
    """Return the paper's plan: bundles on the whole picture, then as many on each of the divide x divide tiles."""
    longer = max(height, width)
    side = -(-longer // divide)
    tiles = len(grid(height, width, side, (0, 0))) if divide > 1 else 0
    bundles = max(1, strokes // (bundle * (1 + tiles)))
    whole = Level(side=longer, tiles=1, bundles=bundles, offset=(0, 0))
    return [whole] if tiles == 0 else [whole, Level(side=side, tiles=tiles, bundles=bundles, offset=(0, 0))]


def paint_picture(
    picture: Tensor,
    painter: PolicyPainter,
    levels: list[Level],
    *,
    brush: str = "bezier",
    refinement: RefineConfig | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    opaque: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
    deadline: float | None = None,
) -> StrokeList:
    """Paint a picture.

    Args:
        picture: (3, H, W) in [0, 1].
        painter: the trained agent.
        levels: from coarse to fine.
        brush: the painter's.
        refinement: improve each level's strokes by gradient; None leaves them as the painter chose.
        limits: smallest and largest radius, as shares of the largest there is.
        opaque: strokes have opacity 1.
        report: called with the strokes done and those of the whole plan.
        deadline: of time.perf_counter(), after which nothing is refined further.

    Returns:
        The strokes.
    """
    height, width = picture.shape[1:]
    painting = StrokeList(height, width, brush)
    canvas = torch.zeros_like(picture)
    per_bundle = painter.action_size // STROKE_SIZE
    total = sum(level.tiles * level.bundles * per_bundle for level in levels)
    weights = torch.tensor([float(level.tiles * level.bundles) for level in levels])
    for index, level in enumerate(levels):
        places = worst_tiles(picture, canvas, level)
        targets, before = (resized(cut(whole, places, level.side), painter.size) for whole in (picture, canvas))
        strokes = policy_strokes(painter, before, targets, level.bundles, limits, opaque)
        if refinement is not None:
            share = float(weights[index] / weights[index:].sum())
            now = time.perf_counter()
            until = None if deadline is None else now + share * max(0.0, deadline - now)
            weight = tile_weights(places, level.side, height, width, painter.size)
            strokes = refine(strokes, before, targets, weight, refinement, brush, limits, opaque=opaque, until=until)
        painting.layers.append(Layer(level.side, places, strokes))
        draw_layer(canvas, painting.layers[-1], 1.0, brush)
        report(len(painting), total)
    return painting


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


@torch.no_grad()
def policy_strokes(
    painter: PolicyPainter, canvas: Tensor, target: Tensor, bundles: int, limits: tuple[float, float], opaque: bool
) -> Tensor:
    """Return strokes (m, bundles * k, 13) that the painter paints on canvases (m, 3, S, S) towards targets."""
    actions = []
    for step in range(bundles):
        observation = torch.cat(
            [
                (canvas * 255).to(torch.uint8).flatten(1),
                torch.full((len(canvas), 1), step * painter.episode_length // bundles, dtype=torch.uint8),
                (target * 255).round().to(torch.uint8).flatten(1),
            ],
            dim=1,
        )
        strokes = painter.act(observation, False).unflatten(1, (-1, STROKE_SIZE))
        strokes = constrained(strokes, limits, opaque=opaque)
        canvas = paint(canvas, strokes.flatten(1), painter.renderer)
        actions.append(strokes)
    return torch.cat(actions, dim=1)


def constrained(strokes: Tensor, limits: tuple[float, float], *, opaque: bool) -> Tensor:
    """Return strokes (..., 13) in [0, 1], their radii within limits, their opacity 1 if asked for."""
    strokes = strokes.clamp(0.0, 1.0)
    radii = strokes[..., 6:8].clamp(*limits)
    opacity = torch.ones_like(strokes[..., 8:10]) if opaque else strokes[..., 8:10]
    return torch.cat([strokes[..., :6], radii, opacity, strokes[..., 10:]], dim=-1)
