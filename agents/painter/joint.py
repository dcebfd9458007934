"""All strokes of a picture together: Adam on their shapes, opacities and colours, through the sparse rasterizer.

Shapes: N strokes, H, W sides of the picture, `factor` times smaller where that is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from agents.painter.refine import NO_LIMITS, Limits
from renderers.boxes import draw_boxes, paint_boxes
from renderers.geometry import TRIANGLE, geometry_of
from renderers.sparse import BLACK, Colour, SparsePicture
from renderers.strokes import SHAPE_SIZE, STROKE_SIZE, control_points
from rlsuite.errors import require, require_finite

_MOMENTUM, _SQUARES, _EPSILON = 0.9, 0.98, 1e-8
SMALLEST_EXTENT, LARGEST_EXTENT = 8 / 512, 0.5  # of strokes, as steps are measured by it


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """How strokes are moved.

    Attributes:
        rate: of Adam; places move by this share of their stroke's extent in a step, other numbers by this.
        edge: softness of the strokes' edges in pixels.
        every: steps between searches for the points of strokes that count for each pixel.
    """

    rate: float = 0.03
    edge: float = 0.5
    every: int = 8

    def __post_init__(self) -> None:
        require_finite("rate", self.rate, above=0.0)
        require_finite("edge", self.edge, above=0.0)
        require(self.every >= 1, f"every={self.every}: use 1 or more")


class JointPainting:
    """Strokes that paint one picture, and Adam's memory of each.

    Args:
        picture: (3, H, W) in [0, 1].
        config: how.
        limits: of the strokes.
        ground: the colour that is painted on.
        importance: (1, H, W), above 0 somewhere, what a pixel's squared error counts; None where all count alike.
    """

    def __init__(
        self,
        picture: Tensor,
        config: JointConfig,
        limits: Limits = NO_LIMITS,
        ground: Colour = BLACK,
        importance: Tensor | None = None,
    ) -> None:
        self.picture, self.config, self.limits, self.ground = picture, config, limits, ground
        self._counts = None if importance is None else importance / importance.mean()
        self.side = max(picture.shape[1:])
        self.strokes, self.kinds = torch.zeros(0, STROKE_SIZE), torch.zeros(0, dtype=torch.int64)
        self.momentum, self.squares = torch.zeros(0, STROKE_SIZE), torch.zeros(0, STROKE_SIZE)
        self.ages = torch.zeros(0, 1)
        self.steps = 0
        self._pictures: dict[int, SparsePicture] = {}
        self._sparse = self._at(1)
        self._arranged = -config.every

    def _at(self, factor: int) -> SparsePicture:
        if factor not in self._pictures:
            height, width = self.picture.shape[1:]
            target, counts = self.picture, self._counts
            if factor > 1:
                size = (max(1, height // factor), max(1, width // factor))
                target = interpolate(self.picture.unsqueeze(0), size, mode="area")[0]
                counts = None if counts is None else interpolate(counts.unsqueeze(0), size, mode="area")[0]
            self._pictures[factor] = SparsePicture(target, factor, self.config.edge, self.ground, counts)
        return self._pictures[factor]

    def look(self, factor: int) -> None:
        """Draw `factor` times smaller from now on."""
        if self._sparse is not self._at(factor):
            self._sparse.groups = []  # its maps are large
            self._sparse = self._at(factor)
            self._arranged = -self.config.every

    @property
    def target(self) -> Tensor:
        """The picture (3, h, w) as it is looked at."""
        return self._sparse.untiled(self._sparse.target)

    @property
    def importance(self) -> Tensor:
        """What a pixel's squared error counts (1, h, w), as the picture is looked at."""
        return self._sparse.untiled(self._sparse.weight.expand(-1, 3, -1))[:1].square()

    # -- which strokes there are ------------------------------------------------------------------------------

    def add(self, strokes: Tensor, kinds: Tensor) -> None:
        """Put strokes (n, 13) of brushes (n,) on top."""
        self.strokes, self.kinds = torch.cat([self.strokes, strokes]), torch.cat([self.kinds, kinds])
        fresh = torch.zeros(len(strokes), STROKE_SIZE)
        self.momentum, self.squares = torch.cat([self.momentum, fresh]), torch.cat([self.squares, fresh])
        self.ages = torch.cat([self.ages, fresh[:, :1]])
        self._arranged = -self.config.every

    def keep(self, which: Tensor) -> None:
        """Keep the strokes with these numbers (n,), which rise."""
        for name in ("strokes", "kinds", "momentum", "squares", "ages"):
            setattr(self, name, getattr(self, name)[which])
        self._arranged = -self.config.every

    def worth(self) -> Tensor:
        """Return by how much the squared error would rise (N,) without each of the strokes, as they were last drawn."""
        return self._sparse.worth(len(self.strokes))

    # -- drawing and moving -----------------------------------------------------------------------------------

    def drawn(self) -> Tensor:
        """Return the soft picture (3, h, w) as it is looked at."""
        if len(self.strokes) == 0:
            return torch.tensor(self.ground).view(3, 1, 1).expand_as(self.target).clone()
        geometry = geometry_of(self.strokes[:, :SHAPE_SIZE], self.kinds, self.side)
        self._arrange(geometry)
        self._sparse.draw(geometry, self.strokes[:, SHAPE_SIZE:].contiguous())
        return self._sparse.picture()

    def exact(self) -> Tensor:
        """Return the picture (3, H, W) by the exact rasterizer."""
        canvas = torch.tensor(self.ground).view(3, 1, 1).expand_as(self.picture).clone()
        paint_boxes(
            canvas, draw_boxes(self.strokes[:, :SHAPE_SIZE], self.kinds, self.side), self.strokes[:, SHAPE_SIZE:]
        )
        return canvas

    def step(self, share: float = 1.0) -> float:
        """Move every stroke once, at a share of the rate; return the mean squared error before."""
        shape = self.strokes[:, :SHAPE_SIZE].clone().requires_grad_()
        geometry = geometry_of(shape, self.kinds, self.side)
        self._arrange(geometry.detach())
        colours = self.strokes[:, SHAPE_SIZE:].contiguous()
        error, by_geometry, by_colours = self._sparse.error(geometry.detach(), colours)
        (by_shape,) = torch.autograd.grad(geometry, shape, by_geometry)
        self._move(torch.cat([by_shape, by_colours], dim=1), share * self.config.rate)
        self.steps += 1
        return error / (3 * self._sparse.height * self._sparse.width)

    def _arrange(self, geometry: Tensor) -> None:
        if self.steps - self._arranged >= self.config.every:
            self._sparse.arrange(geometry, self.kinds)
            self._arranged = self.steps

    def _move(self, gradient: Tensor, rate: float) -> None:
        self.ages += 1
        self.momentum.lerp_(gradient, 1 - _MOMENTUM)
        self.squares.lerp_(gradient.square(), 1 - _SQUARES)
        mean = self.momentum / (1 - _MOMENTUM**self.ages)
        spread = (self.squares / (1 - _SQUARES**self.ages)).sqrt_().add_(_EPSILON)
        moved = self.strokes - rate * self._scales() * mean / spread
        self.strokes = self.limits(moved)

    def _scales(self) -> Tensor:
        """Return how far each number (N, 13) moves at rate 1: places and radii by the extent of their stroke."""
        shape, triangle = self.strokes[:, :SHAPE_SIZE], (self.kinds == TRIANGLE)[:, None]
        curved = torch.stack(control_points(shape), dim=1)
        points = torch.where(triangle[..., None], shape[:, :6].unflatten(1, (3, 2)), curved)
        long = (points.amax(dim=1) - points.amin(dim=1)).square().sum(dim=1, keepdim=True).sqrt()
        thick = torch.where(triangle, 0.0, 0.5 * shape[:, 6:8].amax(dim=1, keepdim=True))
        extent = (long + thick).clamp(SMALLEST_EXTENT, LARGEST_EXTENT)
        scales = torch.ones(len(shape), STROKE_SIZE)
        scales[:, [0, 1, 4, 5]] = extent
        scales[:, 2:4] = torch.where(triangle, extent, 1.0)
        scales[:, 6:8] = 2.0 * extent
        return scales


def painting_bytes(pixels: int) -> int:
    """Return about how much memory painting a picture of so many pixels takes: maps of its pairs of strokes and tiles.

    A pair has seven maps (renderers/sparse.py). Strokes lie about 20 deep, 40 with their edges' tiles; twice that is
    allowed for.
    """
    return 80 * pixels * 4 * 9
