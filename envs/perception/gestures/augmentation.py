"""Videos of sentences, seen in other ways: crops, mirror images and dropped frames, the same for a whole video.

As STMC's authors train (arXiv:2002.03187): a random square of every frame, a mirror image in half of the videos, a
fifth of the frames dropped at random; and for tests the middle square and every fifth frame dropped.

Shapes: B videos, T frames, H x W pixels, K key points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlsuite.data.counters import uniform_float32
from rlsuite.data.source import Source
from rlsuite.errors import require


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """How videos are changed.

    Attributes:
        crop: side of the square in pixels; 0 for whole frames. The paper cuts 224 of 256.
        mirror: share of the videos that are mirrored.
        mirrored_keypoints: where each key point is found in a mirror image, such as (0, 2, 1, 4, 3, 6, 5) for nose,
            shoulders, elbows and wrists; empty where they keep their meaning.
        drop: share of the frames that are left out.
        variations: of each video; a fit over "epochs" sees all of them before any comes again.
    """

    crop: int = 0
    mirror: float = 0.0
    mirrored_keypoints: tuple[int, ...] = ()
    drop: float = 0.2
    variations: int = 8

    def __post_init__(self) -> None:
        require(self.crop >= 0, f"crop={self.crop}: use 0 (whole frames) or more")
        require(0.0 <= self.mirror <= 1.0, f"mirror={self.mirror}: use 0 to 1")
        require(0.0 <= self.drop < 1.0, f"drop={self.drop}: use 0 or more, and less than 1")
        require(self.variations >= 1, f"variations={self.variations}: use 1 or more")
        order = self.mirrored_keypoints
        require(sorted(order) == list(range(len(order))), f"mirrored_keypoints={list(order)}: name each place once")


class Augmented:
    """A source of videos, each in several variations: example v * M + i is video i in its variation v.

    Args:
        source: M videos, as `sentences.gesture_videos` and `phoenix.Phoenix` give them.
        config: how.
        seed: of what is drawn.
    """

    def __init__(self, source: Source, config: AugmentationConfig, seed: int) -> None:
        self.source, self.config, self.seed = source, config, seed

    def __len__(self) -> int:
        return len(self.source) * self.config.variations

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return changed videos at index (B,), as many frames long as the longest of them."""
        batch = self.source.examples(index % len(self.source))
        frames = batch["video"].shape[1]
        draws = uniform_float32(self.seed, index, 3 + frames)
        if self.config.drop:
            batch = drop_frames(batch, draws[:, 3:], self.config.drop)
        if self.config.crop:
            batch = cut(batch, draws[:, :2], self.config.crop)
        return mirror(batch, draws[:, 2] < self.config.mirror, self.config.mirrored_keypoints)


class Watched:
    """The same source for tests: the middle square, and every n-th frame left out.

    Args:
        source: videos.
        crop: side of the square; 0 for whole frames.
        every: n; 0 to keep all. The paper leaves out every fifth.
    """

    def __init__(self, source: Source, crop: int = 0, every: int = 5) -> None:
        require(every == 0 or every >= 2, f"every={every}: use 0 (keep all frames), or 2 or more")
        self.source, self.crop, self.every = source, crop, every

    def __len__(self) -> int:
        return len(self.source)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return videos at index (B,)."""
        batch = self.source.examples(index)
        if self.every:
            place = torch.arange(batch["video"].shape[1]).expand(len(index), -1)
            batch = keep_frames(batch, place % self.every != self.every - 1)
        if self.crop:
            batch = cut(batch, torch.full((len(index), 2), 0.5), self.crop)
        return batch


def drop_frames(batch: dict[str, Tensor], draws: Tensor, share: float) -> dict[str, Tensor]:
    """Leave out round(share * length) frames of each video, those with the lowest draws (B, T)."""
    there = torch.arange(draws.shape[1]) < batch["length"].unsqueeze(1)
    rank = torch.where(there, draws, 2.0).argsort(1).argsort(1)
    return keep_frames(batch, rank >= (share * batch["length"].float()).round().unsqueeze(1))


def keep_frames(batch: dict[str, Tensor], kept: Tensor) -> dict[str, Tensor]:
    """Return videos of the frames that are kept (B, T) and there, moved together."""
    kept = kept & (torch.arange(kept.shape[1]) < batch["length"].unsqueeze(1))
    length = kept.sum(1)
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(length.max())]
    rows = torch.arange(len(order)).unsqueeze(1)
    there = torch.arange(order.shape[1]) < length.unsqueeze(1)
    found = dict(batch, length=length)
    for name in ("video", "keypoints"):
        if name in batch:
            moved = batch[name][rows, order]
            moved[~there] = 0
            found[name] = moved
    return found


def cut(batch: dict[str, Tensor], draws: Tensor, side: int) -> dict[str, Tensor]:
    """Return a square of each video, at the place that draws (B, 2) in [0, 1) say, down and right."""
    video = batch["video"]
    height, width = video.shape[-2:]
    require(side <= min(height, width), f"crop={side}: the pictures are {height} x {width}; use less")
    room = torch.tensor([height - side, width - side])
    corner = torch.minimum((draws * (room + 1)).long(), room)
    # The right column and row of each pixel, by broadcasting: (B, 1, 1, side, side)
    rows, columns = (corner[:, axis, None] + torch.arange(side) for axis in (0, 1))
    each = torch.arange(len(video)).view(-1, 1, 1)
    found = dict(
        batch, video=video.movedim((3, 4), (1, 2))[each, rows[:, :, None], columns[:, None]].movedim((1, 2), (3, 4))
    )
    if "keypoints" in batch:
        size = torch.tensor([width, height])
        pixels = (batch["keypoints"] + 1.0) * size / 2.0 - corner.flip(1)[:, None, None]
        found["keypoints"] = pixels * (2.0 / side) - 1.0
    return found


def mirror(batch: dict[str, Tensor], chosen: Tensor, order: tuple[int, ...] = ()) -> dict[str, Tensor]:
    """Return the chosen (B,) videos with left and right changed, key points taken in the order given."""
    found = dict(batch, video=torch.where(chosen.view(-1, 1, 1, 1, 1), batch["video"].flip(4), batch["video"]))
    if "keypoints" in batch:
        points = batch["keypoints"]
        flipped = (points[:, :, list(order)] if order else points) * torch.tensor([-1.0, 1.0])
        found["keypoints"] = torch.where(chosen.view(-1, 1, 1, 1), flipped, points)
    return found
