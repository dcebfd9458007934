"""Frames to learn interpolation from, cut out of clips or of camera frames that follow each other.

Shapes: B examples, S side of a frame, T frames of a clip.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from envs.perception.interpolation.variety import COUNT as VARIETY
from envs.perception.interpolation.variety import varied
from rlsuite.data.clips import Clip
from rlsuite.data.counters import uniform
from rlsuite.errors import require


class Sequences:
    """A source of three frames of a clip, one of them in between: RIFE_m's way of learning any time.

    Example i is always the same: three different frames out of `window` that follow each other are drawn, every three
    as likely (of the paper's 7 there are 35), and one square is cut from all. "first", "middle", "second" (B, 3, S, S)
    uint8, "time" (B,) float32.

    Args:
        clips: each (T, 3, H, W) uint8, or a folder of frames.
        size: S.
        window: frames that follow each other; the paper's clips have 7.
        count: how many examples.
        seed: of all that is drawn.
        timed: without, the frame in between lies in the middle: T must be 3 or more and an odd window is used whole.

    Raises:
        UserError: if a clip is shorter than 3 frames or smaller than S.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        size: int,
        *,
        window: int = 7,
        count: int = 1 << 40,
        seed: int = 0,
        timed: bool = True,
    ) -> None:
        require(bool(clips) and window >= 3, f"window={window}, {len(clips)} clips: use 3 or more, and 1 or more")
        for clip in clips:
            require(len(clip) >= 3, f"a clip has {len(clip)} frames; one in between others needs 3 or more")
            require(
                min(clip.shape[2:]) >= size,
                f"size={size}: a clip is {clip.shape[2]} x {clip.shape[3]}; use {min(clip.shape[2:])} or less",
            )
        self.clips, self.size, self.window, self.count = list(clips), size, window, count
        self.seed, self.timed = seed, timed
        self._ends = torch.tensor([len(clip) for clip in clips]).cumsum(0)  # longer clips are drawn more often

    def __len__(self) -> int:
        return self.count

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        draws = uniform(self.seed, index, 7 + VARIETY)
        rows = [self._one(row) for row in draws[:, :7].tolist()]
        found = {
            name: torch.stack([frames[place] for frames, _ in rows])
            for place, name in enumerate(("first", "middle", "second"))
        }
        found["time"] = torch.tensor([time for _, time in rows])
        return varied(found, draws[:, 7:])

    def _one(self, draws: list[float]) -> tuple[tuple[Tensor, Tensor, Tensor], float]:
        """Return three frames and the time of the one in between, for seven numbers in [0, 1)."""
        which = int(torch.searchsorted(self._ends, draws[0] * float(self._ends[-1]), right=True))
        clip = self.clips[min(which, len(self.clips) - 1)]
        window = min(self.window, len(clip))
        start = int(draws[1] * (len(clip) - window + 1))
        if self.timed:
            # Each of three frames is one of those that are left, so that every three are as likely.
            left = list(range(window))
            first, middle, last = sorted(left.pop(int(draw * len(left))) for draw in draws[2:5])
        else:
            half = 1 + int(draws[2] * ((window - 1) // 2))
            first = int(draws[3] * (window - 2 * half))
            middle, last = first + half, first + 2 * half
        top, left = (int(draw * (side - self.size + 1)) for draw, side in zip(draws[5:], clip.shape[2:], strict=True))

        def cut(number: int) -> Tensor:
            return clip[start + number][:, top : top + self.size, left : left + self.size]

        return (cut(first), cut(middle), cut(last)), (middle - first) / (last - first)
