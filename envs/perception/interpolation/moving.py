"""Frames to learn interpolation from, made of still pictures: layers that shift, turn and grow over one another.

A background and up to three things in front of it, each with a picture of its own on it; a thing is a blob, a thin bar
or a fence. Where every point is at every time is known, and with it the true frame in between and the true flow.

Shapes: B examples, L layers, S side of a frame, T side of a texture, N textures, P = S S pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.interpolation.variety import COUNT as VARIETY
from envs.perception.interpolation.variety import varied
from rlsuite.data.counters import uniform_float32
from rlsuite.errors import require, require_finite

LAYERS = 4
TURN, GROWTH = 0.3, 0.15  # between the two frames: radians, and the logarithm of the size
DRAWS = 16  # random numbers of a layer
_FINER = 2.0  # texture pixels of a pixel: what lies between pixels is then seldom blurred by bilinear sampling


class Pose(NamedTuple):
    """Where layers are at one time: a point u of a layer lies at `place + size * turned(u)`.

    Attributes:
        place: (B, L, 2), right and down of the frame's middle, in pixels.
        angle: (B, L).
        size: (B, L).
    """

    place: Tensor
    angle: Tensor
    size: Tensor

    def to_frame(self, points: Tensor) -> Tensor:
        """Return where points (B, L, P, 2) of layers lie in the frame."""
        return self.place.unsqueeze(2) + self.size[..., None, None] * _turned(points, self.angle)

    def to_layer(self, points: Tensor) -> Tensor:
        """Return which points of layers lie at points (B, L, P, 2) of the frame."""
        return _turned((points - self.place.unsqueeze(2)) / self.size[..., None, None], -self.angle)


class MovingPictures:
    """A source of two frames, the one in between, and its flow to both.

    Example i is always the same: "first", "second", "middle" (B, 3, S, S) uint8, "time" (B,) float32 and "flow"
    (B, 4, S, S) float32, right and down from the frame in between to the first frame, then to the second.

    Args:
        textures: (N, 3, T, T) uint8, the still pictures.
        size: S.
        count: how many examples.
        seed: of all that is drawn.
        reach: pixels that a layer shifts between the two frames at most; half of them shift by a quarter of it or less.
        timed: draw the time from [0.1, 0.9]; without, it is 0.5.
        still: share of the examples whose background does not move.
    """

    def __init__(
        self,
        textures: Tensor,
        size: int,
        count: int = 1 << 40,
        *,
        seed: int = 0,
        reach: float = 12.0,
        timed: bool = True,
        still: float = 0.25,
    ) -> None:
        require(textures.dim() == 4 and len(textures) >= 1, "there are no textures; give (N, 3, T, T) of them")
        require(size >= 16 and count >= 1, f"size={size}, count={count}: use 16 or more, and 1 or more")
        require_finite("reach", reach, low=0.0)
        self.textures, self.size, self.count, self.seed = textures, size, count, seed
        self.reach, self.timed, self.still = reach, timed, still

    def __len__(self) -> int:
        return self.count

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        draws = uniform_float32(self.seed, index, 2 + VARIETY + LAYERS * DRAWS)
        time = 0.1 + 0.8 * draws[:, 0] if self.timed else torch.full((len(index),), 0.5)
        still = draws[:, 1] < self.still
        layers = draws[:, 2 + VARIETY :].view(len(index), LAYERS, DRAWS)
        poses = [self.pose(layers, moment, still) for moment in (torch.zeros_like(time), time, torch.ones_like(time))]
        frames = [self.drawn(layers, pose) for pose in poses]
        flow = self.flow(layers, poses[1], (poses[0], poses[2]))
        found = dict(zip(("first", "middle", "second"), frames, strict=True))
        return varied({**found, "time": time, "flow": flow}, draws[:, 2 : 2 + VARIETY])

    def drawn(self, layers: Tensor, pose: Pose) -> Tensor:
        """Return frames (B, 3, S, S) uint8 of layers (B, L, 16), as they were drawn at random, in a pose."""
        inside = pose.to_layer(self._points(layers))
        textures = self.textures[(layers[..., 0] * len(self.textures)).long()].flatten(0, 1).float()
        return self._composed(self._coloured(textures, layers, inside), self._shares(layers, inside))

    def flow(self, layers: Tensor, pose: Pose, others: Sequence[Pose]) -> Tensor:
        """Return (B, 2 n, S, S), for each of n other poses: where what a pixel shows is then, in pixels from it."""
        points = self._points(layers)
        inside = pose.to_layer(points)
        # The foremost layer that covers half of a pixel is what moves there; the background covers all.
        covered = (self._shares(layers, inside) >= 0.5).long() * torch.arange(1, LAYERS + 1).view(1, LAYERS, 1)
        foremost = covered.argmax(dim=1).view(-1, 1, points.shape[2], 1).expand(-1, 1, -1, 2)
        flows = [other.to_frame(inside).sub(points).gather(1, foremost).squeeze(1) for other in others]
        return torch.cat(flows, dim=2).transpose(1, 2).reshape(-1, 2 * len(others), self.size, self.size)

    def _points(self, layers: Tensor) -> Tensor:
        return _pixels(self.size).expand(len(layers), LAYERS, -1, 2)

    def pose(self, layers: Tensor, time: Tensor, still: Tensor) -> Pose:
        """Return where layers are at times (B,); each moves evenly, and is where it was drawn at time 1/2."""
        since = (time - 0.5).unsqueeze(1)
        away = self.reach * layers[..., 1].square()
        direction = 2.0 * math.pi * layers[..., 2]
        shift = torch.stack([away * direction.cos(), away * direction.sin()], dim=-1)
        turn, growth = TURN * _odd(layers[..., 3]), GROWTH * _odd(layers[..., 4])
        behind = torch.zeros(LAYERS, dtype=torch.bool)
        behind[0] = True
        rests = behind & still.unsqueeze(1)
        shift, turn, growth = shift * ~rests.unsqueeze(-1), turn * ~rests, growth * ~rests
        middle = self.size * (layers[..., 5:7] - 0.5) * ~behind.unsqueeze(-1)
        return Pose(
            middle + since.unsqueeze(-1) * shift,
            2.0 * math.pi * layers[..., 7] * ~behind + since * turn,
            torch.exp(since * growth),
        )

    def _coloured(self, textures: Tensor, layers: Tensor, points: Tensor) -> Tensor:
        """Return the layers' colours (B, L, 3, P) at their points (B, L, P, 2)."""
        finer = _FINER * (0.6 + 0.4 * layers[..., 8])  # some are seen from nearer
        places = (finer[..., None, None] * points).flatten(0, 1).unsqueeze(1) * (2.0 / textures.shape[-1])
        found = functional.grid_sample(textures, places, padding_mode="reflection", align_corners=False)
        return found.view(*layers.shape[:2], 3, -1)

    def _shares(self, layers: Tensor, points: Tensor) -> Tensor:
        """Return how much of each point the layers cover, (B, L, P): edges are one pixel wide."""
        across, down = points.unbind(dim=-1)
        radius = self.size * (0.06 + 0.24 * layers[..., 9:10])
        angle = torch.atan2(down, across)
        wobble = torch.zeros_like(angle)
        for wave in (2, 3):
            high, since = layers[..., 9 + wave : 10 + wave], 2.0 * math.pi * layers[..., 10 + wave : 11 + wave]
            wobble = wobble + 0.18 * high * torch.cos(wave * angle + since)
        blob = torch.hypot(across, down) - radius * (1.0 + wobble)
        width = 0.5 + 1.5 * layers[..., 14:15]
        bar = torch.maximum(down.abs() - width, across.abs() - 2.0 * radius)
        gap = 6.0 + 10.0 * layers[..., 13:14]
        fence = torch.maximum((across - gap * (across / gap).round()).abs() - width, torch.hypot(across, down) - radius)
        kind = layers[..., 15:16]
        outside = torch.where(kind < 0.4, blob, torch.where(kind < 0.5, bar, fence))
        shares = (0.5 - outside).clamp(0.0, 1.0) * (kind < 0.6)  # the others are not there
        return torch.cat([torch.ones_like(shares[:, :1]), shares[:, 1:]], dim=1)

    def _composed(self, colours: Tensor, shares: Tensor) -> Tensor:
        """Return pictures (B, 3, S, S) uint8, later layers in front of earlier ones."""
        picture = colours[:, 0]
        for layer in range(1, LAYERS):
            picture = torch.lerp(picture, colours[:, layer], shares[:, layer].unsqueeze(1))
        return picture.round().clamp(0.0, 255.0).to(torch.uint8).view(-1, 3, self.size, self.size)


def _odd(draws: Tensor) -> Tensor:
    """Return numbers in [-1, 1), half of them within 1/8."""
    return (2.0 * draws - 1.0) ** 3


def _turned(points: Tensor, angle: Tensor) -> Tensor:
    """Return points (B, L, P, 2) turned by angles (B, L)."""
    across, down = points.unbind(dim=-1)
    cosine, sine = angle.cos().unsqueeze(-1), angle.sin().unsqueeze(-1)
    return torch.stack([cosine * across - sine * down, sine * across + cosine * down], dim=-1)


def _pixels(size: int) -> Tensor:
    """Return the pixels' middles (P, 2), right and down of the frame's."""
    steps = torch.arange(size, dtype=torch.float32) - 0.5 * (size - 1)
    return torch.stack([steps.repeat(size), steps.repeat_interleave(size)], dim=-1)
