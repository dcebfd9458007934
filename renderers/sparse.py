"""The soft rasterizer for whole pictures: each stroke costs the pixels that it covers, gradients too.

The strokes are those of renderers/soft.py, by the same formulas. There a stroke has a canvas of its own; here it
touches the tiles of the picture that its paint may reach (renderers/pairs.py), and gradients are written out instead
of recorded: some forty operations on blocks that stay in the cache. Which point of the curve is nearest to a pixel, and
which is the last to cover it, is found anew only by `SparsePicture.arrange`, not in every step: at the nearest point
the distance does not change to first order, so a stroke that moved by a pixel is drawn almost as it should be.

Shapes: N strokes, M pairs of a stroke and a tile, T tiles, P pixels of a tile, H, W sides of the picture as it is drawn
here, `factor` times smaller than the picture in whose pixels strokes are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from renderers.pairs import TILE, Pairs, by_rank, find_pairs
from renderers.soft import CURVE_BIAS, STEEPNESS, choose

_BLOCK = 512  # pairs at a time
_GROUP_PIXELS = 600_000  # pixels of the pairs that one thread draws
_PIXELS = TILE * TILE
_TAIL = 4.0  # a soft edge is cut off so many widths from its middle


@dataclass
class _Group:
    """Some tiles, their pairs, and what was last drawn of them."""

    pairs: Pairs
    base: Tensor  # (M, 2) of each pair's tile's first pixel, in raster pixels
    target: Tensor  # (T, 3, P)
    weight: Tensor  # (T, 1, P)
    nearest: Tensor  # (M, P)
    last: Tensor
    cover: Tensor
    alpha: Tensor
    canvas: Tensor  # (T, 3, P)
    step: Tensor  # (M, 3, P), colour minus what lies under it
    offsets: list[int] = field(default_factory=list)

    def ranks(self) -> list[tuple[int, slice]]:
        return [(n, slice(o, o + n)) for n, o in zip(self.pairs.ranks, self.offsets, strict=True)]


class SparsePicture:
    """A picture to be painted."""

    def __init__(self, target: Tensor, factor: int = 1, edge: float = 0.7) -> None:
        self.height, self.width = target.shape[1:]
        self.factor, self.edge = factor, edge
        self.rows, self.columns = -(-self.height // TILE), -(-self.width // TILE)
        self.target = self.tiled(target)
        self.weight = self.tiled(torch.ones(1, self.height, self.width))
        centre = 2.0 * factor * torch.arange(TILE) + (factor - 0.5)
        row, column = torch.meshgrid(centre, centre, indexing="ij")
        self.row, self.column = row.reshape(1, -1), column.reshape(1, -1)
        self.steep = STEEPNESS / (2 * edge * factor)
        self.untouched = 0.0
        self.groups: list[_Group] = []

    def tiled(self, picture: Tensor) -> Tensor:
        """Return the tiles (T, c, P) of a picture (c, H, W), zeros beyond its edge."""
        channels = picture.shape[0]
        padded = picture.new_zeros(channels, self.rows * TILE, self.columns * TILE)
        padded[:, : self.height, : self.width] = picture
        parts = padded.view(channels, self.rows, TILE, self.columns, TILE)
        return parts.permute(1, 3, 0, 2, 4).reshape(self.rows * self.columns, channels, _PIXELS)

    def arrange(self, paths: Tensor, moves: float = 1.0) -> None:
        """Find anew which tiles each stroke (N, 10) touches, and which points of it count for each pixel."""
        scale = 1 / (2 * self.factor)
        time = torch.linspace(0, 1, 6)
        outline = torch.stack([_curve(paths[:, 3 * a : 3 * a + 3], time) for a in (0, 1)], dim=2)
        reach = (paths[:, 6:8].amax(dim=1) + _TAIL * 2 * self.edge * self.factor / STEEPNESS) * scale + moves
        stroke, tile = find_pairs(outline * scale, reach, self.height, self.width)
        number = max(1, -(-len(stroke) * _PIXELS // _GROUP_PIXELS))
        self.groups = [self._group(pairs, paths) for pairs in by_rank(stroke, tile, number)]
        touched = torch.cat([group.pairs.tiles for group in self.groups])
        error = (self.weight * self.target.square()).sum(dim=(1, 2))
        self.untouched = float(error.sum() - error[touched].sum())

    def _group(self, pairs: Pairs, paths: Tensor) -> _Group:
        number, tiles = len(pairs.stroke), len(pairs.tiles)
        base = torch.stack([torch.div(pairs.tile, self.columns, rounding_mode="floor"), pairs.tile % self.columns], 1)
        base = base * float(2 * self.factor * TILE)
        maps = [torch.empty(number, _PIXELS) for _ in range(4)]
        offsets = torch.tensor([0, *pairs.ranks]).cumsum(0)[:-1].tolist()
        group = _Group(
            pairs, base, self.target[pairs.tiles], self.weight[pairs.tiles], *maps,
            torch.empty(tiles, 3, _PIXELS), torch.empty(number, 3, _PIXELS), offsets,
        )
        for begin in range(0, number, _BLOCK):
            part = slice(begin, begin + _BLOCK)
            here = self._local(group, paths, part)
            points = torch.stack([here[:, :3], here[:, 3:6]], dim=2)
            nearest, last = choose(points, here[:, 6:8], self.row, self.column, 6)
            group.nearest[part], group.last[part] = nearest, last
        return group

    def _local(self, group: _Group, paths: Tensor, part: slice) -> Tensor:
        here = paths[group.pairs.stroke[part]]
        here[:, :3] -= group.base[part, :1]
        here[:, 3:6] -= group.base[part, 1:]
        return here

    # -- drawing --------------------------------------------------------------------------------------------

    def cover(self, group: _Group, paths: Tensor) -> None:
        for begin in range(0, len(group.pairs.stroke), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            here = self._local(group, paths, part)
            time = group.nearest[part]
            distance, _, _ = self._distance(here, time)
            cover = torch.mul(time, (here[:, 7:8] - here[:, 6:7]), out=group.cover[part])
            cover.add_(here[:, 6:7] + CURVE_BIAS[1]).sub_(distance).mul_(self.steep).sigmoid_()
            opacity = distance
            torch.mul(group.last[part], here[:, 9:10] - here[:, 8:9], out=opacity).add_(here[:, 8:9])
            torch.mul(cover, opacity, out=group.alpha[part])

    def _distance(self, here: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        away = []
        for axis, centre in ((0, self.row), (3, self.column)):
            first, middle, last = (here[:, axis + i : axis + i + 1] for i in range(3))
            place = time * (last - 2 * middle + first)
            place.add_(2 * (middle - first)).mul_(time).add_(first + CURVE_BIAS[0])
            away.append(torch.sub(centre, place, out=place))
        distance = away[0] * away[0]
        distance.addcmul_(away[1], away[1]).add_(1e-6).sqrt_()
        return distance, away[0], away[1]

    def composite(self, group: _Group, colours: Tensor) -> None:
        """Paint the pairs over black, keeping each step."""
        canvas = group.canvas.zero_()
        colour = colours[group.pairs.stroke].unsqueeze(2)
        for number, part in group.ranks():
            step = torch.sub(colour[part], canvas[:number], out=group.step[part])
            canvas[:number].addcmul_(group.alpha[part].unsqueeze(1), step)

    def composite_back(self, group: _Group, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradients of opacity (M, P) and colour (M, 3); `gradient` (T, 3, P) is used up, and so are the steps."""
        by_alpha = torch.empty_like(group.alpha)
        by_colour = torch.empty(len(group.alpha), 3)
        for number, part in reversed(group.ranks()):
            above = gradient[:number]
            step = group.step[part].mul_(above)
            torch.sum(step, dim=1, out=by_alpha[part])
            shown = torch.mul(above, group.alpha[part].unsqueeze(1), out=step)
            torch.sum(shown, dim=2, out=by_colour[part])
            above.sub_(shown)
        return by_alpha, by_colour

    def cover_back(self, group: _Group, paths: Tensor, by_alpha: Tensor) -> Tensor:
        """Return gradients (M, 10) of the paths' numbers."""
        found = torch.empty(len(by_alpha), 10)
        for begin in range(0, len(by_alpha), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            here, time, last = self._local(group, paths, part), group.nearest[part], group.last[part]
            distance, row, column = self._distance(here, time)
            cover, change = group.cover[part], by_alpha[part]
            change.mul_(cover)
            opacity = last * (here[:, 9:10] - here[:, 8:9])
            opacity.add_(here[:, 8:9])
            by_last = (change * last).sum(dim=1)
            out = found[part]
            out[:, 9] = by_last
            torch.sub(change.sum(dim=1), by_last, out=out[:, 8])
            change.mul_(opacity)
            change.addcmul_(change, cover, value=-1.0)
            later = torch.mul(change, time, out=opacity).sum(dim=1)
            out[:, 7] = later
            torch.sub(change.sum(dim=1), later, out=out[:, 6])
            change.div_(distance)
            for axis, away in ((0, row), (3, column)):
                away.mul_(change)
                zeroth = away.sum(dim=1)
                first = away.mul_(time).sum(dim=1)
                second = away.mul_(time).sum(dim=1)
                out[:, axis] = zeroth - 2 * first + second
                out[:, axis + 1] = 2 * (first - second)
                out[:, axis + 2] = second
            out[:, :8] *= self.steep
        return found

    def error(self, paths: Tensor, colours: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return the squared error, and its gradients: of paths (N, 10) and colours (N, 3)."""
        by_paths, by_colours = torch.zeros_like(paths), torch.zeros_like(colours)
        results: list = [None] * len(self.groups)

        def work(index: int) -> Tensor:
            group = self.groups[index]
            self.cover(group, paths)
            self.composite(group, colours)
            gradient = (group.canvas - group.target).mul_(group.weight)
            error = gradient.square().sum()
            by_alpha, by_colour = self.composite_back(group, gradient.mul_(2))
            results[index] = (self.cover_back(group, paths, by_alpha), by_colour)
            return error

        from rlsuite.running.threads import in_threads
        errors = in_threads(work, len(self.groups))
        for group, (path, colour) in zip(self.groups, results, strict=True):
            by_paths.index_add_(0, group.pairs.stroke, path)
            by_colours.index_add_(0, group.pairs.stroke, colour)
        return float(sum(errors)) + self.untouched, by_paths, by_colours

    def picture(self) -> Tensor:
        """Return what was last drawn (3, H, W)."""
        tiles = torch.zeros(self.rows * self.columns, 3, _PIXELS)
        for group in self.groups:
            tiles[group.pairs.tiles] = group.canvas
        whole = tiles.view(self.rows, self.columns, 3, TILE, TILE).permute(2, 0, 3, 1, 4)
        return whole.reshape(3, self.rows * TILE, self.columns * TILE)[:, : self.height, : self.width]


def _curve(points: Tensor, time: Tensor) -> Tensor:
    first, middle, last = points[:, :1], points[:, 1:2], points[:, 2:3]
    return first + time * (2 * (middle - first) + time * (last - 2 * middle + first))
