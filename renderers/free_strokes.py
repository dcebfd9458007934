"""A painting whose strokes may lie anywhere in the picture, drawn again at any size by the exact rasterizer.

Strokes are painted one after the other, on black unless said. Their numbers are shares of a square whose side is the
picture's longer one and whose first corner is the picture's; what lies beyond the picture is not seen.

Shapes: N strokes, H, W sides of the picture in its own pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from renderers.boxes import draw_boxes, finer_at, paint_boxes
from renderers.sparse import BLACK, Colour
from renderers.stroke_list import Layer
from renderers.strokes import SHAPE_SIZE

MIXED = "mixed"
_TOGETHER = 256  # strokes whose boxes are kept at a time


@dataclass
class FreeStrokes:
    """A painting.

    Attributes:
        height: H.
        width: W.
        strokes: (N, 13), see renderers/strokes.py.
        kinds: (N,) int64, each stroke's brush, its number in renderers.strokes.BRUSHES.
        brush: that of all strokes, or "mixed".
        about: how it was made; any JSON.
        ground: the colour that is painted on; red, green and blue in [0, 1].
    """

    height: int
    width: int
    strokes: Tensor
    kinds: Tensor
    brush: str = "bezier"
    about: dict[str, Any] = field(default_factory=dict)
    ground: Colour = BLACK

    def __len__(self) -> int:
        """Return the number of strokes."""
        return len(self.strokes)

    @property
    def layers(self) -> list[Layer]:
        """All strokes as one layer with one tile, which holds the picture."""
        return [Layer(max(self.height, self.width), torch.zeros(1, 2, dtype=torch.int64), self.strokes.unsqueeze(0))]

    def draw(self, scale: float = 1.0) -> Tensor:
        """Return the picture (3, H', W') in [0, 1], drawn by the exact rasterizer at `scale` times its size."""
        canvas = self._empty(scale)
        for begin in range(0, len(self), _TOGETHER):
            self._paint(canvas, slice(begin, begin + _TOGETHER), scale)
        return canvas

    def frames(self, number: int, scale: float = 1.0) -> Iterator[Tensor]:
        """Yield about `number` pictures of the painting as it grows, the last one finished."""
        canvas, each = self._empty(scale), max(1, -(-len(self) // max(1, number)))
        for begin in range(0, max(1, len(self)), each):
            self._paint(canvas, slice(begin, begin + each), scale)
            yield canvas

    def _empty(self, scale: float) -> Tensor:
        size = round(self.height * scale), round(self.width * scale)
        return torch.tensor(self.ground).view(3, 1, 1).expand(3, *size).clone()

    def _paint(self, canvas: Tensor, part: slice, scale: float) -> None:
        side = round(max(self.height, self.width) * scale)
        boxes = draw_boxes(self.strokes[part, :SHAPE_SIZE], self.kinds[part], side)
        paint_boxes(canvas, boxes, self.strokes[part, SHAPE_SIZE:])


def free_drawing_bytes(side: int) -> int:
    """Return about how much memory drawing takes at most, its longer side having so many pixels.

    Each thread may hold a stroke as large as the picture on its raster, a byte for each power of two of its circles'
    widths and two floats a pixel; and the opacity maps of strokes that are painted together.
    """
    raster = (2 * finer_at(side) * side) ** 2
    return torch.get_num_threads() * raster * (12 + side.bit_length()) + 100 * side * side
