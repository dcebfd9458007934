"""Which strokes touch which tiles of a picture: what lets a soft drawing cost what its strokes cover.

The picture is cut into small square tiles. A pair is a stroke and a tile that its paint may reach; for each tile the
pairs keep the order of the strokes. Pairs are stored by rank: first the lowest stroke of every tile, then the second
lowest of every tile that has one, and so on, tiles with many strokes first. So the tiles that have an r-th stroke are
always the first n_r ones, and painting the r-th stroke of all of them is one operation on slices, without gathers.

Shapes: N strokes, T tiles, M pairs, in pixels of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 8
_SAMPLES = 6  # of a curve, joined by straight lines


@dataclass
class Pairs:
    """The pairs of some tiles, by rank.

    Attributes:
        stroke: (M,) int64.
        tile: (M,) int64, the tile's number in the picture, row by row.
        tiles: (T,) int64, numbers of the tiles that any stroke touches, those with most strokes first.
        ranks: n_r, how many tiles have an r-th stroke; they sum to M.
    """

    stroke: Tensor
    tile: Tensor
    tiles: Tensor
    ranks: list[int]


def find_pairs(outline: Tensor, reach: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the strokes and tiles (M,) of all pairs, in the order of the strokes.

    Args:
        outline: (N, n, 2), points whose joining lines every stroke follows: row, column in pixels.
        reach: (N,), how far from them paint may lie.
        height: of the picture.
        width: of the picture.
    """
    rows, columns = -(-height // TILE), -(-width // TILE)
    low = ((outline.amin(dim=1) - reach[:, None]) / TILE).floor().long()
    high = ((outline.amax(dim=1) + reach[:, None]) / TILE).floor().long()
    last = torch.tensor([rows - 1, columns - 1])
    low, high = low.clamp_min(0), torch.minimum(high, last)
    extent = (high - low + 1).clamp_min(0)
    number = extent[:, 0] * extent[:, 1]
    stroke = torch.repeat_interleave(number)
    place = torch.arange(len(stroke)) - (number.cumsum(0) - number)[stroke]
    across = extent[stroke, 1]
    row = low[stroke, 0] + torch.div(place, across, rounding_mode="floor")
    column = low[stroke, 1] + place % across
    kept = _near(outline, reach, stroke, row, column)
    return stroke[kept], (row * columns + column)[kept]


def _near(outline: Tensor, reach: Tensor, stroke: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Say (M,) of which pairs a point of the tile may lie within reach of the outline."""
    centre = torch.stack([row, column], dim=1) * TILE + TILE / 2
    nearest = torch.full((len(stroke),), float("inf"))
    begin, end = outline[:, :-1], outline[:, 1:]
    along = end - begin
    length = along.square().sum(dim=2).clamp_min(1e-6)
    for part in range(begin.shape[1]):
        away = centre - begin[stroke, part]
        step = along[stroke, part]
        time = ((away * step).sum(dim=1) / length[stroke, part]).clamp_(0.0, 1.0)
        torch.minimum(nearest, (away - time[:, None] * step).square_().sum(dim=1), out=nearest)
    return nearest.sqrt_() <= reach[stroke] + TILE * 0.7072


def by_rank(stroke: Tensor, tile: Tensor, groups: int) -> list[Pairs]:
    """Return pairs (M,), given in the order of the strokes, dealt out to groups of tiles with about equal work."""
    tile, order = tile.sort(stable=True)
    stroke = stroke[order]
    tiles, inverse, count = torch.unique_consecutive(tile, return_inverse=True, return_counts=True)
    rank = torch.arange(len(tile)) - (count.cumsum(0) - count)[inverse]
    count, busiest = count.sort(descending=True, stable=True)
    place = torch.empty_like(busiest)
    place[busiest] = torch.arange(len(busiest))
    place = place[inverse]
    found = []
    for group in range(groups):
        mine = place % groups == group
        key = rank[mine] * len(tiles) + place[mine]
        chosen = mine.nonzero().squeeze(1)[key.argsort(stable=True)]
        ranks = torch.bincount(rank[chosen]).tolist() if len(chosen) else []
        found.append(Pairs(stroke[chosen], tile[chosen], tiles[busiest[group::groups]], ranks))
    return found
