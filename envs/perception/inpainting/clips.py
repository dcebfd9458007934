"""Clips with holes to learn inpainting from, and their flow: drawn textures that pan, moving pictures, real clips.

Every example has "frames" (B, L, 3, S, S) uint8 without holes, "known" (B, L, 1, S, S) bool, and the flow between
neighbours, "forward" and "backward" (B, L - 1, 2, S, S). As in the paper, flow is of the frames without holes.

Shapes: B examples, L frames, S side of a frame, T frames of a whole clip.
"""

from __future__ import annotations

from collections.abc import Sequence

import psutil
import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.dense_search import dense_search
from envs.perception.inpainting.masks import KINDS, holes
from envs.perception.interpolation.moving import DRAWS, LAYERS, MovingPictures
from rlsuite.data.clips import Clip
from rlsuite.data.counters import uniform, uniform_float32
from rlsuite.errors import require
from rlsuite.running.seeding import derive_seed

MANY = 1 << 40
COARSE = 3  # pixels between a drawn texture's own numbers
LARGER = 1.2  # real clips are enlarged by so much before a square is cut out, as in the paper


class Panning:
    """Drawn textures that move by a whole number of pixels a frame behind a square hole at rest.

    Args:
        size: S.
        length: L.
        hole: side of the hole, in pixels.
        reach: pixels a frame, right and down, at most.
        seed: of all that is drawn.
    """

    def __init__(self, size: int = 32, length: int = 5, *, hole: int = 6, reach: int = 4, seed: int = 0) -> None:
        require(1 <= hole < size, f"hole={hole}: use 1 to {size - 1}")
        self.size, self.length, self.hole, self.reach, self.seed = size, length, hole, reach, seed

    def __len__(self) -> int:
        return MANY

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        batch, side, length = len(index), self.size, self.length
        wide = side + 2 * self.reach * (length - 1)
        coarse = -(-wide // COARSE)
        draws = uniform_float32(self.seed, index, 4 + 3 * coarse**2)
        velocity = ((2 * self.reach + 1) * draws[:, :2]).long() - self.reach  # right, down
        texture = functional.interpolate(
            draws[:, 4:].view(batch, 3, coarse, coarse), scale_factor=float(COARSE), mode="bicubic", align_corners=False
        ).clamp(0.0, 1.0)
        time = torch.arange(length)
        # What was at place u of the texture is at u - corner of a frame, so the corner moves against the velocity.
        corner = self.reach * (length - 1) - velocity.unsqueeze(1) * time.view(1, -1, 1)
        pixels = torch.arange(side)
        columns, rows = (corner[..., axis].unsqueeze(2) + pixels for axis in (0, 1))  # (B, L, S)
        which = torch.arange(batch).view(-1, 1, 1, 1)
        frames = texture.permute(0, 2, 3, 1)[which, rows.unsqueeze(3), columns.unsqueeze(2)].movedim(-1, 2)
        places = ((side - self.hole + 1) * draws[:, 2:4]).long().unsqueeze(2)
        across, down = ((pixels >= place) & (pixels < place + self.hole) for place in places.unbind(dim=1))
        hole = (down.unsqueeze(2) & across.unsqueeze(1)).view(batch, 1, 1, side, side)
        forward = velocity.float().view(batch, 1, 2, 1, 1).expand(-1, length - 1, -1, side, side)
        return {
            "frames": (255.0 * frames).round().to(torch.uint8),
            "known": (~hole).expand(-1, length, -1, -1, -1),
            "forward": forward,
            "backward": -forward,
        }


class MovingClips:
    """Layers of still pictures that shift, turn and grow (`interpolation.moving`), over L frames, with moving holes.

    Args:
        pictures: what moves, by how much from the first to the last frame, and the seed.
        length: L.
        kinds: of holes.
    """

    def __init__(self, pictures: MovingPictures, length: int, kinds: tuple[str, ...] = KINDS) -> None:
        self.pictures, self.length, self.kinds = pictures, length, kinds

    def __len__(self) -> int:
        return len(self.pictures)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        pictures, size = self.pictures, self.pictures.size
        draws = uniform_float32(pictures.seed, index, 1 + LAYERS * DRAWS)
        layers, still = draws[:, 1:].view(len(index), LAYERS, DRAWS), draws[:, 0] < pictures.still
        times = torch.linspace(0.0, 1.0, self.length).unsqueeze(1).expand(-1, len(index))
        poses = [pictures.pose(layers, time, still) for time in times]
        pairs = list(zip(poses[:-1], poses[1:], strict=True))
        hidden = holes(derive_seed(pictures.seed, "holes"), index, self.length, (size, size), self.kinds)
        return {
            "frames": torch.stack([pictures.drawn(layers, pose) for pose in poses], dim=1),
            "known": ~hidden,
            "forward": torch.stack([pictures.flow(layers, one, [other]) for one, other in pairs], dim=1),
            "backward": torch.stack([pictures.flow(layers, other, [one]) for one, other in pairs], dim=1),
        }


class FoundClips:
    """Parts of real clips, with the flow that DIS finds in them, mirrored or not, with moving holes.

    Args:
        clips: each (T, 3, H, W) uint8, or a folder of frames; flow is found once, when this is made.
        size: S.
        length: L.
        seed: of all that is drawn.
        kinds: of holes.

    Raises:
        UserError: if a clip is shorter than L frames or smaller than S / 1.2, they do not fit in memory, or OpenCV is
            missing.
    """

    def __init__(
        self, clips: Sequence[Clip], size: int, length: int, *, seed: int = 0, kinds: tuple[str, ...] = KINDS
    ) -> None:
        require(bool(clips), "there are no clips; name a folder of some")
        self.size, self.length, self.seed, self.kinds = size, length, seed, kinds
        self._require_memory(clips)
        self.clips: list[tuple[Tensor, Tensor, Tensor]] = []
        for clip in clips:
            require(len(clip) >= length, f"a clip has {len(clip)} frames; a window needs {length} or more")
            sides = [round(LARGER * side) for side in clip.shape[2:]]
            require(min(sides) >= size, f"size={size}: a clip is {clip.shape[2]} x {clip.shape[3]}; use a smaller size")
            frames = functional.interpolate(clip[:].float() / 255.0, size=sides, mode="bilinear", align_corners=False)
            pairs = ((frames[:-1], frames[1:]), (frames[1:], frames[:-1]))
            there, back = (dense_search(*pair, "medium", "flow of real clips") for pair in pairs)
            self.clips.append(((255.0 * frames).round().to(torch.uint8), there, back))
        self._ends = torch.tensor([len(clip) for clip in clips]).cumsum(0)  # longer clips are drawn more often

    def __len__(self) -> int:
        return MANY

    @staticmethod
    def _require_memory(clips: Sequence[Clip]) -> None:
        """Raise UserError if all frames, enlarged, with float32 flow both ways, do not fit in memory."""
        pixels = sum(len(clip) * clip.shape[2] * clip.shape[3] for clip in clips)
        needed, free = int(LARGER**2 * pixels * (3 + 2 * 2 * 4)), psutil.virtual_memory().available
        require(
            needed <= free,
            f"{len(clips)} clips and their flow take {needed:,} bytes, and {free:,} are free; name fewer clips",
        )

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,)."""
        draws = uniform(self.seed, index, 5)
        parts = [self._one(row) for row in draws.tolist()]
        frames, forward, backward = (torch.stack(values) for values in zip(*parts, strict=True))
        hidden = holes(derive_seed(self.seed, "holes"), index, self.length, (self.size, self.size), self.kinds)
        return {"frames": frames, "known": ~hidden, "forward": forward, "backward": backward}

    def _one(self, draws: list[float]) -> tuple[Tensor, Tensor, Tensor]:
        which = int(torch.searchsorted(self._ends, draws[0] * float(self._ends[-1]), right=True))
        frames, there, back = self.clips[min(which, len(self.clips) - 1)]
        start = int(draws[1] * (len(frames) - self.length + 1))
        corner = [int(draw * (side - self.size + 1)) for draw, side in zip(draws[2:4], frames.shape[2:], strict=True)]
        (top, left), end = corner, start + self.length
        cut = slice(top, top + self.size), slice(left, left + self.size)
        found = frames[start:end, :, *cut], there[start : end - 1, :, *cut], back[start : end - 1, :, *cut]
        return mirrored(*found) if draws[4] < 0.5 else found


def mirrored(frames: Tensor, forward: Tensor, backward: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return frames (..., 3, S, S) and their flow (..., 2, S, S) as in a mirror: what went right goes left."""
    sign = forward.new_tensor([-1.0, 1.0]).view(2, 1, 1)
    return frames.flip(-1), forward.flip(-1) * sign, backward.flip(-1) * sign
