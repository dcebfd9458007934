"""The soft rasterizer for whole pictures: each stroke costs the pixels that it covers, gradients too.

The strokes are those of renderers/soft.py, by the same formulas. There a stroke has a canvas of its own; here it
touches the tiles of the picture that its paint may reach (renderers/pairs.py), and gradients are written out instead
of recorded: some forty operations on blocks that stay in the cache. Which point of the curve is nearest to a pixel, and
which is the last to cover it, is found anew only by `SparsePicture.arrange`, not in every step: at the nearest point
the distance does not change to first order, so a stroke that moved by a pixel is drawn almost as it should be.

Shapes: N strokes, M pairs of a stroke and a tile, T tiles, P pixels of a tile, G entries of a stroke's geometry
(renderers/geometry.py), H, W sides of the picture as it is drawn here, `factor` times smaller than the picture in
whose pixels strokes are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from renderers.geometry import TRIANGLE
from renderers.nearest import curve_at, nearest_and_last
from renderers.pairs import TILE, Pairs, by_rank, find_pairs
from renderers.soft import STEEPNESS
from rlsuite.running.threads import in_threads

Part = slice | Tensor
Colour = tuple[float, float, float]  # red, green, blue in [0, 1]
BLACK: Colour = (0.0, 0.0, 0.0)

_BLOCK = 512  # pairs at a time
_GROUP_PIXELS = 600_000  # of the pairs that one thread draws
_PIXELS = TILE * TILE
_TAIL = 4.0  # a soft edge is cut off so many widths from its middle


@dataclass
class Group:
    """Some tiles, their pairs, and what was last drawn of them.

    Attributes:
        pairs: M of them.
        curves: blocks of the pairs whose stroke is a curve.
        triangles: blocks of those whose stroke is a triangle.
        base: (M, 2), row and column of each pair's tile, in pixels of the raster.
        nearest: (M, P), see renderers/nearest.py; of a triangle, which side's line is nearest.
        last: (M, P).
        cover: (M, P), before opacity.
        alpha: (M, P), opacity.
        step: (M, 3, P), the stroke's colour minus what lies under it.
        canvas: (T, 3, P).
    """

    pairs: Pairs
    curves: Sequence[Part]
    triangles: Sequence[Part]
    base: Tensor
    nearest: Tensor
    last: Tensor
    cover: Tensor
    alpha: Tensor
    step: Tensor
    canvas: Tensor


class SparsePicture:
    """A picture to be painted, and the strokes that were last drawn.

    Args:
        target: (3, H, W).
        factor: how many times smaller it is than the picture in whose pixels strokes are exact.
        edge: width of the strokes' soft edges, in its own pixels.
        ground: the colour that is painted on.
        importance: (1, H, W), what a pixel's squared error counts; None where all count alike.
    """

    def __init__(
        self,
        target: Tensor,
        factor: int = 1,
        edge: float = 0.5,
        ground: Colour = BLACK,
        importance: Tensor | None = None,
    ) -> None:
        self.height, self.width = target.shape[1:]
        self.factor, self.edge = factor, edge
        self.rows, self.columns = -(-self.height // TILE), -(-self.width // TILE)
        self.ground, self.even = torch.tensor(ground).view(3, 1), importance is None
        seen = torch.ones(1, self.height, self.width) if importance is None else importance.sqrt()
        self.target, self.weight = self.tiled(target), self.tiled(seen)  # the root of what errors count: 0 beyond
        centre = 2.0 * factor * torch.arange(TILE) + (factor - 0.5)
        row, column = torch.meshgrid(centre, centre, indexing="ij")
        self.row, self.column = row.reshape(1, -1), column.reshape(1, -1)
        self.steep = STEEPNESS / (2 * edge * factor)
        self.groups: list[Group] = []
        self.untouched = 0.0

    def tiled(self, picture: Tensor) -> Tensor:
        """Return the tiles (T, c, P) of a picture (c, H, W), zeros beyond its edge."""
        channels = picture.shape[0]
        padded = picture.new_zeros(channels, self.rows * TILE, self.columns * TILE)
        padded[:, : self.height, : self.width] = picture
        parts = padded.view(channels, self.rows, TILE, self.columns, TILE)
        return parts.permute(1, 3, 0, 2, 4).reshape(self.rows * self.columns, channels, _PIXELS)

    def untiled(self, tiles: Tensor) -> Tensor:
        """Return the picture (3, H, W) whose tiles (T, 3, P) are given."""
        whole = tiles.view(self.rows, self.columns, 3, TILE, TILE).permute(2, 0, 3, 1, 4)
        return whole.reshape(3, self.rows * TILE, self.columns * TILE)[:, : self.height, : self.width]

    # -- which pairs there are --------------------------------------------------------------------------------

    def arrange(self, geometry: Tensor, kinds: Tensor, moves: float = 1.0) -> None:
        """Find anew which tiles strokes (N, G) touch, and which of their points count for each pixel.

        Args:
            geometry: (N, G).
            kinds: (N,), brushes.
            moves: by how many pixels strokes may move before the next time.
        """
        stroke, tile = self.pairs_of(geometry, kinds, moves)
        number = max(1, -(-len(stroke) * _PIXELS // _GROUP_PIXELS))
        dealt = by_rank(stroke, tile, number)
        made: list[Group | None] = [None] * len(dealt)

        def work(index: int) -> Tensor:
            made[index] = self._group(dealt[index], geometry, kinds)
            return geometry

        in_threads(work, len(dealt))
        self.groups = [group for group in made if group is not None]
        error = (self.weight * (self.target - self.ground)).square().sum(dim=(1, 2))
        self.untouched = float(error.sum() - error[torch.cat([group.pairs.tiles for group in self.groups])].sum())

    def pairs_of(self, geometry: Tensor, kinds: Tensor, moves: float = 1.0) -> tuple[Tensor, Tensor]:
        """Return the strokes and tiles (M,) of all pairs; arguments as those of `arrange`."""
        scale = 1 / (2 * self.factor)
        time = torch.linspace(0, 1, 6).expand(len(geometry), -1)
        outline = torch.stack([curve_at(geometry[:, begin : begin + 3], time) for begin in (0, 3)], dim=2)
        edge = _TAIL * 2 * self.edge * self.factor / STEEPNESS
        reach = geometry[:, 6:8].amax(dim=1) + edge
        triangle = kinds == TRIANGLE
        if bool(triangle.any()):  # the lines from the middle to the corners; the rest lies within its inscribed reach
            corners = torch.stack([geometry[:, 0:3], geometry[:, 3:6]], dim=2)
            middle = corners.mean(dim=1, keepdim=True)
            star = torch.cat([corners[:, :1], middle, corners[:, 1:2], middle, corners[:, 2:], middle], dim=1)
            outline = torch.where(triangle[:, None, None], star, outline)
            sides = (corners - corners.roll(1, dims=1)).square().sum(dim=2).sqrt().amax(dim=1)
            reach = torch.where(triangle, 0.3 * sides + edge, reach)
        return find_pairs(outline * scale, reach * scale + moves, self.height, self.width)

    def _group(self, pairs: Pairs, geometry: Tensor, kinds: Tensor) -> Group:
        number, tiles = len(pairs.stroke), len(pairs.tiles)
        base = torch.stack([torch.div(pairs.tile, self.columns, rounding_mode="floor"), pairs.tile % self.columns], 1)
        base = base * float(2 * self.factor * TILE)
        triangle = (kinds == TRIANGLE)[pairs.stroke]
        if bool(triangle.any()):
            curves, triangles = (list(which.nonzero().squeeze(1).split(_BLOCK)) for which in (~triangle, triangle))
        else:
            curves, triangles = [slice(i, min(number, i + _BLOCK)) for i in range(0, number, _BLOCK)], []
        nearest, last, cover, alpha = (torch.empty(number, _PIXELS) for _ in range(4))
        step, canvas = torch.empty(number, 3, _PIXELS), torch.empty(tiles, 3, _PIXELS)
        group = Group(pairs, curves, triangles, base, nearest, last, cover, alpha, step, canvas)
        for part in curves:
            here = self._local(group, geometry, part)
            found = nearest_and_last(here[:, :3], here[:, 3:6], here[:, 6:8], self.row, self.column)
            group.nearest[part], group.last[part] = found
        return group

    def _local(self, group: Group, geometry: Tensor, part: Part) -> Tensor:
        """Return the geometry (b, G) of a block's strokes, as seen from their tiles."""
        here, base = geometry[group.pairs.stroke[part]], group.base[part]
        here[:, :3] -= base[:, :1]
        here[:, 3:6] -= base[:, 1:]
        for plane in range(10, here.shape[1], 3):
            here[:, plane + 2] += (here[:, plane : plane + 2] * base).sum(dim=1)
        return here

    # -- one step ---------------------------------------------------------------------------------------------

    def error(self, geometry: Tensor, colours: Tensor) -> tuple[float, Tensor, Tensor]:
        """Return the squared error of what strokes paint, and its gradients of geometry (N, G) and colours (N, 3)."""
        found: list[tuple[Tensor, Tensor]] = [(geometry, colours)] * len(self.groups)

        def work(index: int) -> Tensor:
            group = self.groups[index]
            self.cover(group, geometry)
            composite(group, colours, self.ground)
            gradient = self.missing(group)
            error = gradient.square().sum()
            if not self.even:
                gradient.mul_(self.weight[group.pairs.tiles])
            by_alpha, by_colour = composite_back(group, gradient.mul_(2.0))
            found[index] = self.cover_back(group, geometry, by_alpha), by_colour
            return error

        errors = in_threads(work, len(self.groups))
        by_geometry, by_colours = torch.zeros_like(geometry), torch.zeros_like(colours)
        for group, (shape, colour) in zip(self.groups, found, strict=True):
            by_geometry.index_add_(0, group.pairs.stroke, shape)
            by_colours.index_add_(0, group.pairs.stroke, colour)
        return float(sum(errors)) + self.untouched, by_geometry, by_colours

    def missing(self, group: Group) -> Tensor:
        """Return (T, 3, P), what was drawn minus what it should be, times the root of what that counts."""
        return (group.canvas - self.target[group.pairs.tiles]).mul_(self.weight[group.pairs.tiles])

    def draw(self, geometry: Tensor, colours: Tensor) -> None:
        """Draw strokes, without gradients."""

        def work(index: int) -> Tensor:
            self.cover(self.groups[index], geometry)
            composite(self.groups[index], colours, self.ground)
            return colours

        in_threads(work, len(self.groups))

    def picture(self) -> Tensor:
        """Return what was last drawn (3, H, W)."""
        tiles = self.ground.expand_as(self.target).clone()
        for group in self.groups:
            tiles[group.pairs.tiles] = group.canvas
        return self.untiled(tiles)

    def worth(self, number: int) -> Tensor:
        """Return by how much the squared error would rise (N,) without each of the N strokes last drawn."""
        found = torch.zeros(number)
        for group in self.groups:
            missing, shown = self.missing(group), self.weight[group.pairs.tiles]
            each = torch.empty(len(group.alpha))
            for tiles, part in reversed(ranks(group)):
                alpha = group.alpha[part].unsqueeze(1)
                change = group.step[part] * (alpha * shown[:tiles])  # what the stroke adds
                each[part] = (change * (change - 2 * missing[:tiles])).sum(dim=(1, 2))
                shown[:tiles] *= 1.0 - alpha
            found.index_add_(0, group.pairs.stroke, each)
        return found

    def cover(self, group: Group, geometry: Tensor) -> None:
        """Draw every pair's opacity."""
        for part in group.curves:
            here, time = self._local(group, geometry, part), group.nearest[part]
            distance, _, _ = self._distance(here, time)
            cover = (time * (here[:, 7:8] - here[:, 6:7])).add_(here[:, 6:7]).sub_(distance)
            cover.mul_(self.steep).sigmoid_()
            opacity = torch.mul(group.last[part], here[:, 9:10] - here[:, 8:9], out=distance).add_(here[:, 8:9])
            group.cover[part] = cover
            group.alpha[part] = opacity.mul_(cover)
        for part in group.triangles:
            here = self._local(group, geometry, part)
            sides = [self.row * here[:, p : p + 1] + self.column * here[:, p + 1 : p + 2] + here[:, p + 2 : p + 3]
                     for p in (10, 13, 16)]  # fmt: skip
            inside, which = torch.stack(sides).min(dim=0)
            cover = inside.mul_(self.steep).sigmoid_()
            group.nearest[part], group.cover[part], group.alpha[part] = which.float(), cover, cover * here[:, 8:9]

    def _distance(self, here: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return distances (b, P) of pixels from the curve's points at given times, and their rows and columns."""
        row = torch.sub(self.row, curve_at(here[:, :3], time))
        column = torch.sub(self.column, curve_at(here[:, 3:6], time))
        return (row * row).addcmul_(column, column).add_(1e-6).sqrt_(), row, column

    def cover_back(self, group: Group, geometry: Tensor, by_alpha: Tensor) -> Tensor:
        """Return gradients (M, G) of geometry, given those (M, P) of opacity."""
        found = by_alpha.new_zeros(len(by_alpha), geometry.shape[1])
        for part in group.curves:
            here, time, last = self._local(group, geometry, part), group.nearest[part], group.last[part]
            distance, row, column = self._distance(here, time)
            cover = group.cover[part]
            change = by_alpha[part] * cover
            at_end = (change * last).sum(dim=1)
            opacities = change.sum(dim=1) - at_end, at_end
            change.mul_((last * (here[:, 9:10] - here[:, 8:9])).add_(here[:, 8:9]))
            change.addcmul_(change, cover, value=-1.0)  # of radius minus distance, but for the steepness
            at_end = (change * time).sum(dim=1)
            radii = change.sum(dim=1) - at_end, at_end
            change.div_(distance)
            places = []
            for away in (row, column):
                powers = [away.mul_(change).sum(dim=1), away.mul_(time).sum(dim=1), away.mul_(time).sum(dim=1)]
                places += [powers[0] - 2 * powers[1] + powers[2], 2 * (powers[1] - powers[2]), powers[2]]
            found[part, :8] = torch.stack([*places, *radii], dim=1).mul_(self.steep)
            found[part, 8:10] = torch.stack(opacities, dim=1)
        for part in group.triangles:
            here, base, cover = self._local(group, geometry, part), group.base[part], group.cover[part]
            change = by_alpha[part] * cover
            found[part, 8] = change.sum(dim=1)
            change.mul_(here[:, 8:9]).addcmul_(change, cover, value=-1.0).mul_(self.steep)
            for side in range(3):
                mine = change * (group.nearest[part] == side)
                whole = mine.sum(dim=1)
                found[part, 10 + 3 * side] = (mine * self.row).sum(dim=1) + whole * base[:, 0]
                found[part, 11 + 3 * side] = (mine * self.column).sum(dim=1) + whole * base[:, 1]
                found[part, 12 + 3 * side] = whole
        return found


def ranks(group: Group) -> list[tuple[int, slice]]:
    """Return, rank by rank, how many of the group's tiles have such a pair, and where those pairs are."""
    found, begin = [], 0
    for tiles in group.pairs.ranks:
        found.append((tiles, slice(begin, begin + tiles)))
        begin += tiles
    return found


def composite(group: Group, colours: Tensor, ground: Tensor) -> None:
    """Paint the pairs in their order over a ground (3, 1): C <- C + A (colour - C)."""
    canvas, colour = group.canvas.copy_(ground), colours[group.pairs.stroke].unsqueeze(2)
    for tiles, part in ranks(group):
        step = torch.sub(colour[part], canvas[:tiles], out=group.step[part])
        canvas[:tiles].addcmul_(group.alpha[part].unsqueeze(1), step)


def composite_back(group: Group, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return gradients of opacity (M, P) and colour (M, 3); the steps, and `gradient` (T, 3, P), are used up."""
    by_alpha, by_colour = torch.empty_like(group.alpha), gradient.new_empty(len(group.alpha), 3)
    for tiles, part in reversed(ranks(group)):
        above = gradient[:tiles]
        step = group.step[part].mul_(above)
        torch.sum(step, dim=1, out=by_alpha[part])
        shown = torch.mul(above, group.alpha[part].unsqueeze(1), out=step)
        torch.sum(shown, dim=2, out=by_colour[part])
        above.sub_(shown)
    return by_alpha, by_colour
