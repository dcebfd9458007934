"""Scenes to learn detection from: coloured discs, bars and triangles on a textured ground among things of other kinds.

Everything is drawn by formula with soft edges, so that boxes are known exactly, however small. An object of which less
than half is seen is marked as ignored: nobody should be judged by it.

Shapes: B examples, M objects, H and W sides of a picture; boxes (x1, y1, x2, y2) in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.data.counters import uniform_float32
from rlsuite.data.source import Source
from rlsuite.errors import require
from rlsuite.metrics.boxes import area

KINDS = ("disc", "bar", "triangle")
_OTHERS = ("ring", "cross", "stripe")  # things that are no objects
_DRAWS = 12  # random numbers of a thing
_OCTAVES = (3, 7, 15)
_COLOURS = ((0.85, 0.2, 0.15), (0.2, 0.7, 0.25), (0.2, 0.3, 0.9))  # of the kinds of objects
_CORNERS = ((0.0, -1.0), (0.9, 0.8), (-0.9, 0.8))  # of a triangle
LEAST_SEEN = 0.5


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """What scenes hold.

    Attributes:
        height: H.
        width: W.
        fewest: objects.
        most: M.
        smallest: side of the square that is as large as an object's box, in pixels.
        largest: likewise; sizes in between have logarithms drawn evenly.
        clutter: things of other kinds.
        noise: of each pixel, as a share of white.
        alike: how much objects of one kind have its colour, red, green or blue, in common; at 0 any has any colour.
    """

    height: int = 96
    width: int = 96
    fewest: int = 1
    most: int = 6
    smallest: float = 10.0
    largest: float = 36.0
    clutter: int = 6
    noise: float = 0.04
    alike: float = 0.8

    def __post_init__(self) -> None:
        require(min(self.height, self.width) >= 8, f"height={self.height}, width={self.width}: use 8 or more")
        require(0 <= self.fewest <= self.most and self.most >= 1, f"fewest={self.fewest}, most={self.most}: use some")
        side = min(self.height, self.width) / 2
        require(
            0 < self.smallest <= self.largest <= side,
            f"smallest={self.smallest}, largest={self.largest}: use up to {side:g}, half of the picture",
        )
        require(self.clutter >= 0, f"clutter={self.clutter}: use 0 or more")
        for name in ("noise", "alike"):
            require(0 <= getattr(self, name) <= 1, f"{name}={getattr(self, name)}: use a share of 1")


class Things(NamedTuple):
    """Things of scenes: kind (B, N), middle (B, N, 2), half (B, N, 2) before turning, angle (B, N), boxes (B, N, 4)."""

    kind: Tensor
    middle: Tensor
    half: Tensor
    angle: Tensor
    boxes: Tensor


class Scenes:
    """A source of "picture" (B, 3, H, W) uint8, "boxes" (B, M, 4), "classes" (B, M) and "ignored" (B, M) bool.

    Example i is always the same. Objects that are not there have class -1 and an empty box.

    Args:
        config: see SceneConfig.
        count: how many examples.
        seed: of all that is drawn.
    """

    def __init__(self, config: SceneConfig, count: int = 1 << 40, seed: int = 0) -> None:
        self.config, self.count, self.seed = config, count, seed
        self.window = math.ceil(1.5 * config.largest) + 3  # a box is twice as long as wide, at most

    def __len__(self) -> int:
        return self.count

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        config = self.config
        ground = 3 * sum(side * side for side in _OCTAVES)
        number = config.most + config.clutter
        draws = uniform_float32(self.seed, index, 1 + ground + number * _DRAWS + 3 * config.height * config.width)
        things = draws[:, 1 + ground : 1 + ground + number * _DRAWS].view(len(index), number, _DRAWS)
        objects, others = things[:, : config.most], things[:, config.most :]
        count = config.fewest + (draws[:, :1] * (config.most - config.fewest + 1)).long()
        there = torch.arange(config.most) < count
        placed, clutter = self._placed(objects, 0), self._placed(others, len(KINDS))
        covers, patterns = self._drawn(placed, objects)
        covers = covers * there[..., None]
        under, over = self._drawn(clutter, others)
        # Things of other kinds lie below some objects and above others: every second one is drawn last.
        parts = [(clutter, others, under, over, place) for place in range(0, config.clutter, 2)]
        parts += [(placed, objects, covers, patterns, place) for place in range(config.most)]
        parts += [(clutter, others, under, over, place) for place in range(1, config.clutter, 2)]
        colours = torch.tensor(_COLOURS)
        canvas = functional.pad(self._ground(draws[:, 1 : 1 + ground]), (self.window,) * 4).flatten(2)
        for things, drawn, cover, pattern, place in parts:
            where = self._where(things, place).unsqueeze(1).expand(-1, 3, -1)
            colour = drawn[:, place, 7:10]
            if things is placed:
                colour = torch.lerp(colour, colours[things.kind[:, place]], config.alike)
            colour = (colour.unsqueeze(2) * pattern[:, place, None]).clamp(0.0, 1.0)
            canvas.scatter_(2, where, torch.lerp(canvas.gather(2, where), colour, cover[:, place, None]))
        seen, clear = torch.zeros(len(index), config.most), torch.ones_like(canvas[:, 0])
        for things, _, cover, _, place in reversed(parts):  # from the front to the back
            where = self._where(things, place)
            left = clear.gather(1, where)
            if things is placed:
                seen[:, place] = (cover[:, place] * left).sum(1) / cover[:, place].sum(1).clamp_min(1e-6)
            clear.scatter_(1, where, left * (1.0 - cover[:, place]))
        picture = canvas.unflatten(2, (config.height + 2 * self.window, -1))
        picture = picture[:, :, self.window : -self.window, self.window : -self.window]
        speckle = draws[:, 1 + ground + number * _DRAWS :].view(len(index), 3, config.height, config.width)
        picture = (picture + config.noise * math.sqrt(12.0) * (speckle - 0.5)).clamp(0.0, 1.0)
        return {
            "picture": (255.0 * picture).round().to(torch.uint8),
            "boxes": placed.boxes * there.unsqueeze(-1),
            "classes": torch.where(there, placed.kind, -1),
            "ignored": there & (seen < LEAST_SEEN),
        }

    def _ground(self, draws: Tensor) -> Tensor:
        """Return a textured ground (B, 3, H, W): coarse, middle and fine blotches."""
        size = (self.config.height, self.config.width)
        found, begin = torch.zeros(len(draws), 3, *size), 0
        for octave, weight in zip(_OCTAVES, (0.5, 0.3, 0.2), strict=True):
            grid = draws[:, begin : begin + 3 * octave * octave].view(-1, 3, octave, octave)
            begin += 3 * octave * octave
            found += weight * functional.interpolate(grid, size=size, mode="bilinear", align_corners=True)
        return found

    def _placed(self, draws: Tensor, first: int) -> Things:
        """Return where things lie, whole in the picture; kinds are `first` and the two after."""
        config = self.config
        kind = first + (draws[..., 0] * 3).long()
        size = config.smallest * (config.largest / config.smallest) ** draws[..., 1]
        stretch = 2.0 ** (draws[..., 2] - 0.5)
        half = torch.stack([stretch, 1.0 / stretch], dim=-1)
        angle = 2.0 * math.pi * draws[..., 3]
        reach = _extent(kind, half, angle)  # (B, N, 4): left, top, right, bottom of the middle
        scale = size / area(torch.cat([-reach[..., :2], reach[..., 2:]], dim=-1)).sqrt()
        half, reach = half * scale.unsqueeze(-1), reach * scale.unsqueeze(-1)
        sides = torch.tensor([config.width, config.height], dtype=torch.float32)
        room = (sides - reach[..., :2] - reach[..., 2:]).clamp_min(0.0)
        middle = reach[..., :2] + draws[..., 4:6] * room
        return Things(kind, middle, half, angle, torch.cat([middle - reach[..., :2], middle + reach[..., 2:]], dim=-1))

    def _where(self, things: Things, place: int) -> Tensor:
        """Return which pixels of the padded picture, flat, the window around a thing holds, (B, window^2) int64."""
        steps, wide = torch.arange(self.window), self.config.width + 2 * self.window
        left, top = (_corner(things.middle[:, place], self.window).long() + self.window).unbind(-1)
        return ((top[:, None] + steps)[:, :, None] * wide + (left[:, None] + steps)[:, None]).flatten(1)

    def _drawn(self, things: Things, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Return how much of each pixel of its window things cover and their patterns, (B, N, window^2) each."""
        steps = torch.arange(self.window) + 0.5
        down, across = (grid.flatten() for grid in torch.meshgrid(steps, steps, indexing="ij"))
        off = things.middle - _corner(things.middle, self.window)
        x, y = across - off[..., :1], down - off[..., 1:]
        cosine, sine = things.angle.cos().unsqueeze(-1), things.angle.sin().unsqueeze(-1)
        half = things.half.unsqueeze(-1)
        u, v = (cosine * x + sine * y) / half[..., 0, :], (cosine * y - sine * x) / half[..., 1, :]
        edge = _depth(things.kind.unsqueeze(-1), u, v) * half.amin(2)  # pixels inside the edge, about
        stripes = torch.sin((3.0 + 9.0 * draws[..., 10:11]) * u)
        return (0.5 + edge).clamp(0.0, 1.0), 1.0 + 0.35 * draws[..., 11:12] * stripes


class Mirrored:
    """A source of twice as many examples: another's, of one width, and then their mirror images.

    Args:
        source: "picture" (B, C, H, W), "boxes" (B, M, 4), and what else there is, which stays.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return 2 * len(self.source)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        found, turned = self.source.examples(index % len(self.source)), index >= len(self.source)
        picture, boxes = found["picture"], found["boxes"]
        other = boxes[..., [2, 1, 0, 3]] * torch.tensor([-1.0, 1.0, -1.0, 1.0])
        other[..., ::2] += picture.shape[3]
        empty = (boxes == 0).all(-1, keepdim=True)  # objects that are not there
        return found | {
            "picture": torch.where(turned.view(-1, 1, 1, 1), picture.flip(3), picture),
            "boxes": torch.where(turned.view(-1, 1, 1) & ~empty, other, boxes),
        }


def _corner(middle: Tensor, window: int) -> Tensor:
    """Return the upper left pixel (..., 2) of the window around a middle."""
    return (middle - 0.5 * window).floor()


def _depth(kind: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return how deep inside of a thing points lie, in halves: positive inside."""
    radius = (u * u + v * v).sqrt()
    square = torch.maximum(u.abs(), v.abs())
    # The triangle's sides: the level one at v = 0.8, and those that meet at (0, -1).
    steep = (0.9 * (v + 1.0) - 1.8 * u.abs()) / math.hypot(0.9, 1.8)
    arm = torch.maximum(0.25 - u.abs(), 0.25 - v.abs())
    shapes = (
        1.0 - radius,
        0.8 - square,
        torch.minimum(0.8 - v, steep),
        0.18 - (radius - 0.8).abs(),
        torch.minimum(arm, 0.95 - square),
        torch.minimum(0.16 - v.abs(), 1.0 - u.abs()),
    )
    found = torch.zeros_like(u)
    for number, shape in enumerate(shapes):
        found = torch.where(kind == number, shape, found)
    return found


def _extent(kind: Tensor, half: Tensor, angle: Tensor) -> Tensor:
    """Return how far things (B, N) reach left, up, right and down of their middle, (B, N, 4)."""
    cosine, sine = angle.cos(), angle.sin()
    turned = torch.stack([half[..., 0] * cosine, -half[..., 1] * sine, half[..., 0] * sine, half[..., 1] * cosine], -1)
    across, down = turned[..., :2], turned[..., 2:]  # x = u across[0] + v across[1], y likewise
    disc = torch.stack([across.norm(dim=-1), down.norm(dim=-1)], dim=-1)
    bar = 0.8 * torch.stack([across.abs().sum(-1), down.abs().sum(-1)], dim=-1)
    corners = torch.tensor(_CORNERS).T
    xs, ys = across @ corners, down @ corners
    triangle = torch.stack([-xs.amin(-1), -ys.amin(-1), xs.amax(-1), ys.amax(-1)], dim=-1)
    even = torch.where((kind == 1).unsqueeze(-1), bar, disc)
    return torch.where((kind == 2).unsqueeze(-1), triangle, torch.cat([even, even], dim=-1))
