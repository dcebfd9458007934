"""A painting as strokes in tiles, drawn again at any size by the exact rasterizer.

Strokes lie in layers, painted one after the other. Within a layer each stroke belongs to a square tile and is clipped
to it; a layer's tiles do not overlap, so that all of them are painted at once, each in its strokes' order.

Shapes: L layers, m tiles of a layer, n strokes of each of its tiles, H, W sides of the picture in its own pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from renderers.bezier import draw_exact
from renderers.glyph import ink
from renderers.strokes import GLYPH, SHAPE_SIZE, composite

_CHUNK_PIXELS = 2**22  # of opacity maps of several tiles drawn at a time
_TILE_PIXELS = 2**23  # and of one tile's; a tile with more is painted some strokes after the others


@dataclass
class Layer:
    """Strokes painted side by side.

    Attributes:
        side: of its tiles, in the picture's pixels.
        places: (m, 2) int64: row and column of each tile's corner; a tile may reach over the picture's edge.
        strokes: (m, n, 13), see renderers/strokes.py; places are shares of the tile.
    """

    side: int
    places: Tensor
    strokes: Tensor


@dataclass
class StrokeList:
    """A painting.

    Attributes:
        height: H.
        width: W.
        brush: one of renderers.strokes.RASTERIZED.
        layers: in the order of painting, on black; strokes of glyphs on white, black whatever their colour.
        about: how it was made; any JSON.
    """

    height: int
    width: int
    brush: str = "bezier"
    layers: list[Layer] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of strokes."""
        return sum(layer.strokes.shape[0] * layer.strokes.shape[1] for layer in self.layers)

    def draw(self, scale: float = 1.0) -> Tensor:
        """Return the picture (3, H', W') in [0, 1], drawn by the exact rasterizer at `scale` times its size."""
        canvas = self._ground(scale)
        for layer in self.layers:
            draw_layer(canvas, layer, scale, self.brush)
        return canvas

    def frames(self, number: int, scale: float = 1.0) -> Iterator[Tensor]:
        """Yield about `number` pictures of the painting as it grows, the last one finished."""
        canvas = self._ground(scale)
        step = max(1, len(self) // max(1, number))
        due = 0
        for layer in self.layers:
            tiles, strokes = layer.strokes.shape[:2]
            for stroke in range(strokes):
                # One stroke of every tile at a time; where tiles are many, a few tiles at a time.
                for first in range(0, tiles, step):
                    part = slice(first, first + step)
                    some = Layer(layer.side, layer.places[part], layer.strokes[part, stroke : stroke + 1])
                    draw_layer(canvas, some, scale, self.brush)
                    due += len(some.places)
                    if due >= step:
                        due = 0
                        yield canvas
        yield canvas

    def _ground(self, scale: float) -> Tensor:
        shade = 1.0 if self.brush == GLYPH else 0.0
        return torch.full((3, round(self.height * scale), round(self.width * scale)), shade)


def draw_layer(canvas: Tensor, layer: Layer, scale: float, brush: str) -> None:
    """Paint a layer over a canvas (3, H', W') in place, by the exact rasterizer."""
    corners = torch.round(layer.places * scale).long()
    ends = torch.round((layer.places + layer.side) * scale).long()
    side = int((ends - corners).max())
    each = max(1, _CHUNK_PIXELS // (side * side * layer.strokes.shape[1]))
    for first in range(0, len(corners), each):
        part = slice(first, first + each)
        tiles = cut(canvas, corners[part], side)
        for strokes in layer.strokes[part].split(max(1, _TILE_PIXELS // (side * side)), dim=1):
            alpha = draw_exact(strokes[..., :SHAPE_SIZE], side, brush=brush)
            if brush == GLYPH:
                tiles = ink(tiles.flatten(0, 1).unsqueeze(1), alpha.repeat_interleave(3, dim=0)).view(tiles.shape)
            else:
                tiles = composite(tiles, alpha, strokes[..., SHAPE_SIZE:])
        paste(canvas, tiles, corners[part], ends[part])


def drawing_bytes(side: int) -> int:
    """Return about how much memory drawing a painting takes, measured: its longer side has so many pixels."""
    together = min(torch.get_num_threads(), max(1, _TILE_PIXELS // (side * side)))
    return (80 + 60 * together) * side * side + 16 * _TILE_PIXELS


def cut(picture: Tensor, corners: Tensor, side: int) -> Tensor:
    """Return tiles (m, 3, side, side) of a picture (3, H, W) at corners (m, 2); beyond the edge it goes on as there."""
    height, width = picture.shape[1:]
    offset = torch.arange(side)
    rows = (corners[:, :1] + offset).clamp_(0, height - 1)
    columns = (corners[:, 1:] + offset).clamp_(0, width - 1)
    return picture[:, rows[:, :, None], columns[:, None, :]].transpose(0, 1)


def paste(picture: Tensor, tiles: Tensor, corners: Tensor, ends: Tensor) -> None:
    """Put tiles (m, 3, side, side) into a picture (3, H, W) in place, each up to its end and the picture's edge."""
    height, width = picture.shape[1:]
    offset = torch.arange(tiles.shape[-1])
    rows, columns = corners[:, :1] + offset, corners[:, 1:] + offset
    row_kept = (rows >= 0) & (rows < torch.minimum(ends[:, :1], torch.tensor(height)))
    column_kept = (columns >= 0) & (columns < torch.minimum(ends[:, 1:], torch.tensor(width)))
    kept = row_kept[:, :, None] & column_kept[:, None, :]
    place = (rows[:, :, None] * width + columns[:, None, :])[kept]
    picture.view(3, -1)[:, place] = tiles.transpose(0, 1)[:, kept]
