"""Clips of look-alikes: one object is to be followed, the others are nearly the same and cross its path.

All objects of a clip have one shape; each of the others differs from the target by some degrees of hue and some share
of its size. They swing on curves that cross, grow and shrink a little, and pass in front of one another; a bar sweeps
over them, behind which they are hidden for moments. Pictures are drawn by formulas, not rendered from bodies: a clip
costs milliseconds. Everything is known at any time, as functions of (seed, number of the clip, time).

Shapes: B clips, T moments, O objects (0 is the target), S side of a frame, P = S S pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.data.counters import uniform_float32
from rlsuite.errors import require, require_finite

PERIOD = 40.0  # frames of one swing at frequency 1
ROUNDNESS = (1.0, 2.0, 8.0)  # exponents of |x|^p + |y|^p: a diamond, a disc, a square
STARTS = 16  # moments among which a clip's first one is chosen: where the target is seen best
_OWN, _SHARED, _GROUND = 10, 12, 5  # numbers drawn of an object, of a clip; side of the ground's coarse noise


@dataclass(frozen=True, kw_only=True)
class LookAlikesConfig:
    """What clips look like.

    Attributes:
        size: S.
        others: how many look-alikes.
        hue: degrees by which each differs from the target, one way or the other.
        growth: share of the size by which each differs.
        largest: half the width of the largest target, as a share of S; the smallest is 3/4 of it.
        bar: width of the bar as a share of S; 0 for none.
        gap: most moments between the two frames of an example.
    """

    size: int = 64
    others: int = 3
    hue: float = 8.0
    growth: float = 0.15
    largest: float = 0.09
    bar: float = 0.18
    gap: int = 20

    def __post_init__(self) -> None:
        require(self.size >= 16, f"size={self.size}: use 16 or more")
        require(self.others >= 0 and self.gap >= 1, f"others={self.others}, gap={self.gap}: use 0, and 1, or more")
        for name in ("hue", "growth", "bar"):
            require_finite(name, getattr(self, name), low=0.0)
        require(0 < self.largest < 0.25, f"largest={self.largest}: use more than 0, less than 0.25")


class LookAlikes:
    """A source of clips and of pairs of frames from them.

    Args:
        config: see there.
        count: how many examples.
        seed: of all that is drawn.
    """

    def __init__(self, config: LookAlikesConfig, count: int = 1 << 40, *, seed: int = 0) -> None:
        require(count >= 1, f"count={count}: use 1 or more")
        self.config, self.count, self.seed = config, count, seed

    def __len__(self) -> int:
        return self.count

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return two frames of each clip at index (B,), at most `gap` moments apart: T = 2; see `clips`."""
        draws = uniform_float32(self.seed + 1, index, 2)
        first = draws[:, :1] * PERIOD
        gap = 1.0 + (draws[:, 1:] * self.config.gap).floor()
        return self._drawn(index, torch.cat([first, first + gap], dim=1))

    def clips(self, index: Tensor, frames: int) -> dict[str, Tensor]:
        """Return whole clips.

        Args:
            index: (B,), which.
            frames: T.

        Returns:
            "frames" (B, T, 3, S, S) uint8; "boxes" (B, T, O, 4), also of what is hidden; "visible" (B, T, O), the share
            of each object that can be seen.
        """
        return self._drawn(index, torch.arange(frames, dtype=torch.float32).expand(len(index), -1))

    def _drawn(self, index: Tensor, times: Tensor) -> dict[str, Tensor]:
        size, objects = self.config.size, 1 + self.config.others
        coarse = 3 * (_GROUND**2 + (3 * _GROUND) ** 2)
        draws = uniform_float32(self.seed, index, _SHARED + objects * _OWN + coarse)
        shared, own, ground = draws.split([_SHARED, objects * _OWN, coarse], dim=1)
        own = own.view(-1, objects, _OWN)
        times = times + self._start(shared, own).unsqueeze(1)
        middles, halves = self._places(shared, own, times), self._halves(shared, own, times)
        points = _pixels(size)  # (P, 2)
        away = (points - middles.unsqueeze(3)) / halves.unsqueeze(3)  # (B, T, O, P, 2)
        power = _chosen(ROUNDNESS, shared[:, 0]).view(-1, 1, 1, 1)
        radius = (away.abs() ** power.unsqueeze(-1)).sum(-1).clamp_min(1e-12) ** (1.0 / power)
        cover = ((1.0 - radius) * halves.amin(-1, keepdim=True) + 0.5).clamp(0.0, 1.0)
        light = 1.0 - 0.25 * away[..., 1].clamp(-1.0, 1.0)
        colours = self._colours(shared, own)[:, None, :, None, :] * light.unsqueeze(-1)  # (B, T, O, P, 3)
        order = own[..., 0].argsort(dim=1)  # who is in front of whom, the hindmost first
        batch, count = times.shape
        picture = self._ground(ground).unsqueeze(1).expand(-1, count, -1, -1)
        foremost = torch.full((batch, count, size * size), -1)
        row = torch.arange(batch)
        for place in range(objects):
            who = order[:, place]
            share = cover[row, :, who]
            picture = torch.lerp(picture, colours[row, :, who], share.unsqueeze(-1))
            foremost = torch.where(share >= 0.5, who.view(-1, 1, 1), foremost)
        if self.config.bar:
            across = (points[:, 0] - self._bar(shared, times).unsqueeze(-1)).abs()
            share = (0.5 * self.config.bar * size - across + 0.5).clamp(0.0, 1.0)
            grey = (0.2 + 0.6 * shared[:, 6]).view(-1, 1, 1, 1).expand(-1, count, size * size, 3)
            picture = torch.lerp(picture, grey, share.unsqueeze(-1))
            foremost = torch.where(share >= 0.5, -1, foremost)
        whole = (cover >= 0.5).sum(-1).clamp_min(1)
        seen = torch.stack([(foremost == number).sum(-1) for number in range(objects)], dim=-1)
        frames = (255.0 * picture).round().clamp(0.0, 255.0).to(torch.uint8)
        return {
            "frames": frames.transpose(2, 3).reshape(batch, count, 3, size, size),
            "boxes": torch.cat([middles - halves, middles + halves], dim=-1),
            "visible": seen / whole,
        }

    # -- what moves how -----------------------------------------------------------------------------------------

    def _start(self, shared: Tensor, own: Tensor) -> Tensor:
        """Return each clip's first moment (B,): of some, that at which target and all else are farthest apart."""
        moments = torch.arange(STARTS, dtype=torch.float32).expand(len(own), -1) * (PERIOD / STARTS)
        middles = self._places(shared, own, moments)
        room = (middles[:, :, 1:] - middles[:, :, :1]).norm(dim=-1)
        bar = (self._bar(shared, moments) - middles[:, :, 0, 0]).abs().unsqueeze(-1)
        nearest = torch.cat([room, bar], dim=-1).amin(dim=-1)
        return moments.gather(1, nearest.argmax(dim=1, keepdim=True)).squeeze(1)

    def _places(self, shared: Tensor, own: Tensor, times: Tensor) -> Tensor:
        """Return the objects' middles (B, T, O, 2) at times (B, T)."""
        reach = self.config.size * (0.15 + 0.22 * own[..., 1:3])
        pace = 2.0 * math.pi / PERIOD * (0.4 + 0.6 * own[..., 3:5])
        swing = torch.sin(times[:, :, None, None] * pace.unsqueeze(1) + 2.0 * math.pi * own[:, None, :, 5:7])
        return 0.5 * self.config.size + reach.unsqueeze(1) * swing

    def _halves(self, shared: Tensor, own: Tensor, times: Tensor) -> Tensor:
        """Return half the objects' widths and heights, (B, T, O, 2)."""
        base = self.config.size * self.config.largest * (0.75 + 0.25 * shared[:, 1])
        sides = torch.exp(0.15 * (2.0 * shared[:, 2:3] - 1.0) * torch.tensor([1.0, -1.0]))
        differs = 1.0 + self.config.growth * self._sign(own[..., 7])
        breath = torch.exp(0.1 * torch.sin(times.unsqueeze(-1) * (2.0 * math.pi / PERIOD) + 6.0 * own[:, None, :, 8]))
        return base[:, None, None, None] * (differs.unsqueeze(1) * breath).unsqueeze(-1) * sides[:, None, None, :]

    def _bar(self, shared: Tensor, times: Tensor) -> Tensor:
        """Return the bar's middle (B, T) along x."""
        swing = torch.sin(times * (2.0 * math.pi / PERIOD) * (0.5 + 0.5 * shared[:, 7:8]) + 6.28 * shared[:, 8:9])
        return self.config.size * (0.5 + 0.6 * swing)

    def _colours(self, shared: Tensor, own: Tensor) -> Tensor:
        """Return the objects' colours (B, O, 3) in [0, 1]."""
        hue = shared[:, 3:4] + self.config.hue / 360.0 * self._sign(own[..., 9])
        saturation, value = 0.6 + 0.3 * shared[:, 4:5], 0.5 + 0.3 * shared[:, 5:6]
        # The hexagonal cone: each channel falls linearly with the distance of its own hue.
        wheel = (hue.unsqueeze(-1) - torch.tensor([0.0, 1.0, 2.0]) / 3.0).remainder(1.0)
        pure = (2.0 - 6.0 * torch.minimum(wheel, 1.0 - wheel)).clamp(0.0, 1.0)
        return value.unsqueeze(-1) * (1.0 - saturation.unsqueeze(-1) * (1.0 - pure))

    def _ground(self, draws: Tensor) -> Tensor:
        """Return a mottled ground (B, P, 3)."""
        sides, size = (_GROUND, 3 * _GROUND), self.config.size
        parts = draws.split([3 * side * side for side in sides], dim=1)
        layers = [
            functional.interpolate(part.view(-1, 3, side, side), size=size, mode="bilinear", align_corners=False)
            for part, side in zip(parts, sides, strict=True)
        ]
        return (0.1 + 0.5 * layers[0] + 0.3 * layers[1]).flatten(2).transpose(1, 2)

    @staticmethod
    def _sign(draws: Tensor) -> Tensor:
        """Return -1 or 1 of the others, 0 of the target, for draws (B, O)."""
        signs = torch.where(draws < 0.5, -1.0, 1.0)
        signs[:, 0] = 0.0
        return signs


def _chosen(values: tuple[float, ...], draws: Tensor) -> Tensor:
    return torch.tensor(values)[(draws * len(values)).long()]


def _pixels(size: int) -> Tensor:
    """Return the pixels' middles (P, 2), x and y, the frame's upper left corner being 0, 0."""
    steps = torch.arange(size, dtype=torch.float32) + 0.5
    return torch.stack([steps.repeat(size), steps.repeat_interleave(size)], dim=-1)
