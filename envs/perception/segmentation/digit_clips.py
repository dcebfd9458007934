"""Clips of handwritten digits that move across one another, some frames spoiled: whose pixels are whose is known.

Digits go straight on and bounce off the borders; later ones lie in front of earlier ones. A spoiled frame is blurred
along a line, noisy, and has bars in front of it: what a digit is can then be seen in the frames around it alone.

Shapes: B examples, T frames of a clip, N digits, S side of a frame.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.data.counters import uniform_float32
from rlsuite.data.digits import digits
from rlsuite.errors import require, require_finite

DRAWN = 6  # numbers of a digit: which, where (2), how fast (2), how bright
JITTER = 0.08  # a share of boxes' sides, by which detectors err
BARS = 3


class DigitClips:
    """A source of clips; example i is always the same.

    "frames" (B, T, 3, S, S) uint8; "boxes" (B, T, N, 4) in pixels and "given", the
    same as a detector errs; "labels" (B, N) int64, 0 to 9; "owner" (B, T, S, S)
    int64, which digit shows at a pixel, -1 for none; "spoiled" (B, T) bool; and for learning "current" and "reference"
    (B,) int64, two frames of the clip, and "hidden" (B, N) bool, digits that the reference is not to know.

    Args:
        part: "train" or "test" of scikit-learn's digits.
        size: S.
        count: how many examples.
        seed: of all that is drawn.
        frames: T.
        objects: N.
        spoiled: share of the frames that are.
        speed: pixels a frame along each axis, at most.
        hidden: share of digits that are new to the current frame.
    """

    def __init__(
        self,
        part: str,
        size: int = 48,
        count: int = 1 << 40,
        *,
        seed: int = 0,
        frames: int = 10,
        objects: int = 4,
        spoiled: float = 0.4,
        speed: float = 3.0,
        hidden: float = 0.2,
    ) -> None:
        require(size >= 32 and count >= 1, f"size={size}, count={count}: use 32 or more, and 1 or more")
        require(frames >= 2 and objects >= 1, f"frames={frames}, objects={objects}: use 2 or more, and 1 or more")
        for name, share in (("spoiled", spoiled), ("hidden", hidden)):
            require(0.0 <= share <= 1.0, f"{name}={share}: use 0 to 1")
        require_finite("speed", speed, low=0.0)
        found = digits(part).tensors
        self.pictures, self.classes = found["picture"].float() / 255.0, found["label"]
        self.size, self.count, self.seed, self.frames, self.objects = size, count, seed, frames, objects
        self.spoiled, self.speed, self.hidden = spoiled, speed, hidden
        self.side = size / 3.0  # of a digit, in pixels

    def __len__(self) -> int:
        return self.count

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        batch, times, count = len(index), self.frames, self.objects
        draws = uniform_float32(self.seed, index, count * (DRAWN + 1) + times * (2 + 2 * BARS) + 2)
        own, draws = draws[:, : count * (DRAWN + 1)].view(batch, count, -1), draws[:, count * (DRAWN + 1) :]
        which = (own[..., 0] * len(self.classes)).long()
        middles = self._middles(own)  # (B, T, N, 2)
        boxes = torch.cat([middles - 0.5 * self.side, middles + 0.5 * self.side], dim=-1)
        shares = self._shares(which, middles)  # (B, T, N, S, S)
        frames = torch.full((batch, times, self.size, self.size), 0.1)
        owner = torch.full(frames.shape, -1, dtype=torch.int64)
        for digit in range(count):
            bright = (0.6 + 0.4 * own[:, digit, 5]).view(-1, 1, 1, 1)
            frames = torch.lerp(frames, bright.expand_as(frames), shares[:, :, digit])
            owner = torch.where(shares[:, :, digit] >= 0.5, digit, owner)
        spoiled = draws[:, 2 : 2 + times] < self.spoiled
        worse = self._spoiled(frames, draws[:, 2 + times :].view(batch, times, -1), index)
        frames = torch.where(spoiled[..., None, None], worse, frames)
        errs = uniform_float32(self.seed + 2, index, times * count * 4)
        current = 1 + (draws[:, 0] * (times - 1)).long()
        return {
            "frames": (frames.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).unsqueeze(2).expand(-1, -1, 3, -1, -1),
            "boxes": boxes,
            "given": boxes + JITTER * self.side * (2.0 * errs.view(boxes.shape) - 1.0),
            "labels": self.classes[which],
            "owner": owner,
            "spoiled": spoiled,
            "current": current,
            "reference": (draws[:, 1] * current).long(),
            "hidden": own[..., DRAWN] < self.hidden,
        }

    def _middles(self, own: Tensor) -> Tensor:
        """Return where digits' middles are (B, T, N, 2): straight on, and back from the borders."""
        room = self.size - self.side
        time = torch.arange(self.frames).view(1, -1, 1, 1)
        speed = self.speed * (2.0 * own[..., 3:5] - 1.0)
        gone = room * own[..., 1:3].unsqueeze(1) + speed.unsqueeze(1) * time
        return 0.5 * self.side + room - (gone.remainder(2.0 * room) - room).abs()

    def _shares(self, which: Tensor, middles: Tensor) -> Tensor:
        """Return how much digits cover of each pixel (B, T, N, S, S)."""
        pixels = torch.arange(self.size) + 0.5
        across = (pixels - middles[..., :1]) * (2.0 / self.side)  # (B, T, N, S), -1 to 1 inside the box
        down = (pixels - middles[..., 1:]) * (2.0 / self.side)
        shape = (*across.shape[:3], self.size, self.size)
        places = torch.stack([across.unsqueeze(3).expand(shape), down.unsqueeze(4).expand(shape)], dim=-1)
        pictures = self.pictures[which].unsqueeze(1).expand(-1, self.frames, -1, -1, -1, -1)
        shares = functional.grid_sample(pictures.flatten(0, 2), places.flatten(0, 2), align_corners=False)
        return (1.5 * shares).clamp_max(1.0).view(shape)

    def _spoiled(self, frames: Tensor, draws: Tensor, index: Tensor) -> Tensor:
        """Return frames (B, T, S, S) blurred, noisy and behind bars."""
        flat = frames.flatten(0, 1).unsqueeze(1)
        flat_draws = draws.flatten(0, 1)
        across = functional.avg_pool2d(flat, (1, 7), stride=1, padding=(0, 3), count_include_pad=False)
        down = functional.avg_pool2d(flat, (7, 1), stride=1, padding=(3, 0), count_include_pad=False)
        blurred = torch.where((flat_draws[:, 0] < 0.5).view(-1, 1, 1, 1), across, down).squeeze(1)
        noise = uniform_float32(self.seed + 1, index, self.frames * self.size * self.size).view(frames.shape)
        worse = blurred.view(frames.shape) + 0.5 * (noise - 0.5)
        pixels = torch.arange(self.size) + 0.5
        width = self.size / 9.0
        for bar in range(BARS):
            middle = self.size * flat_draws[:, 1 + 2 * bar].view(-1, 1)
            lies = flat_draws[:, 2 + 2 * bar].view(-1, 1, 1) < 0.5
            inside = ((pixels - middle).abs() < 0.5 * width).unsqueeze(1)  # (B T, 1, S)
            covered = torch.where(
                lies, inside.expand(-1, self.size, -1), inside.transpose(1, 2).expand(-1, -1, self.size)
            )
            worse = torch.where(covered.view(frames.shape), 0.4, worse)
        return worse
