"""Clips to learn coding from: cut out of clips or of camera frames, or still pictures that move.

Shapes: B examples, L frames of each, S side of a frame, L layers where `MovingPictures` speaks of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from envs.perception.interpolation.moving import DRAWS, LAYERS, MovingPictures
from rlsuite.data.clips import Clip
from rlsuite.data.counters import uniform, uniform_float32
from rlsuite.errors import require

LENGTH = 7  # frames, as in the paper's clips (Vimeo-90k)
STEP, HASTE = 0.25, 0.5  # between two frames, in the time of MovingPictures; by how much speed may change


class MovingClips:
    """A source of clips of layers that shift, turn and grow over one another, ever faster or slower.

    Example i is always the same: "frames" (B, L, 3, S, S) uint8 and "flow" (B, L - 1, 2, S, S) float32, from each
    frame but the first to the one before it, in pixels.

    Args:
        textures: (N, 3, T, T) uint8, the still pictures.
        size: S.
        count: how many examples.
        seed: of all that is drawn.
        length: L.
        reach: pixels that a layer shifts between two frames at most, on average over a clip.
    """

    def __init__(
        self,
        textures: Tensor,
        size: int,
        count: int = 1 << 40,
        *,
        seed: int = 0,
        length: int = LENGTH,
        reach: float = 3.0,
    ) -> None:
        require(length >= 2, f"length={length}: use 2 frames or more")
        self.pictures = MovingPictures(textures, size, count, seed=seed, reach=reach / STEP, still=0.25)
        self.length = length

    def __len__(self) -> int:
        return len(self.pictures)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        pictures = self.pictures
        draws = uniform_float32(pictures.seed, index, 2 + LAYERS * DRAWS)
        layers = draws[:, 2:].view(len(index), LAYERS, DRAWS)
        haste = HASTE * (2.0 * draws[:, 0] - 1.0)
        away = torch.arange(self.length, dtype=torch.float32) / (self.length - 1) - 0.5
        times = 0.5 + STEP * (self.length - 1) * (away + haste.unsqueeze(1) * (away.square() - 0.25))
        poses = [pictures.pose(layers, time, draws[:, 1] < pictures.still) for time in times.unbind(dim=1)]
        frames = [pictures.drawn(layers, pose) for pose in poses]
        flows = [pictures.flow(layers, now, [before]) for before, now in zip(poses[:-1], poses[1:], strict=True)]
        return {"frames": torch.stack(frames, dim=1), "flow": torch.stack(flows, dim=1)}


class Windows:
    """A source of frames that follow each other in clips, and one square of them: "frames" (B, L, 3, S, S) uint8.

    Args:
        clips: each (T, 3, H, W) uint8, or a folder of frames.
        size: S.
        count: how many examples.
        seed: of what is drawn.
        length: L.

    Raises:
        UserError: if a clip is shorter than L frames or smaller than S.
    """

    def __init__(
        self, clips: Sequence[Clip], size: int, count: int = 1 << 40, *, seed: int = 0, length: int = LENGTH
    ) -> None:
        require(bool(clips), "there are no clips to learn from")
        for clip in clips:
            require(len(clip) >= length, f"a clip has {len(clip)} frames; {length} are needed")
            smallest = min(clip.shape[2:])
            require(
                smallest >= size, f"size={size}: a clip is {clip.shape[2]} x {clip.shape[3]}; use {smallest} or less"
            )
        self.clips, self.size, self.count, self.seed, self.length = list(clips), size, count, seed, length
        self._ends = torch.tensor([len(clip) - length + 1 for clip in clips]).cumsum(0)

    def __len__(self) -> int:
        return self.count

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        rows = [self._one(row) for row in uniform(self.seed, index, 3).tolist()]
        return {"frames": torch.stack(rows)}

    def _one(self, draws: list[float]) -> Tensor:
        start = int(draws[0] * int(self._ends[-1]))
        which = int(torch.searchsorted(self._ends, start, right=True))
        clip, first = self.clips[which], start - (int(self._ends[which - 1]) if which else 0)
        top, left = (int(draw * (side - self.size + 1)) for draw, side in zip(draws[1:], clip.shape[2:], strict=True))
        return clip[first : first + self.length][:, :, top : top + self.size, left : left + self.size]
