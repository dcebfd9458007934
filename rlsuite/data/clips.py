"""Clips: of video, read frame by frame through PyAV, or of numbered pictures, each in a folder of its own.

Shapes: T frames of a clip, L of a window, M windows, B of them asked for, H and W sides.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from torch import Tensor

from rlsuite.data.frame_folders import FrameFolder, frame_folders
from rlsuite.errors import UserError, printable, require

SUFFIXES = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v")
Clip = Tensor | FrameFolder  # (T, 3, H, W) uint8, in memory or in a folder
FOREIGN = (av.FFmpegError, OSError, ValueError, IndexError)


@dataclass(frozen=True)
class ClipInfo:
    """What a clip says of itself.

    Attributes:
        frames: T, as its index says; 0 where it does not say.
        frames_per_second: of playback, on average.
        height: H.
        width: W.
        has_audio: whether there is sound.
    """

    frames: int
    frames_per_second: Fraction
    height: int
    width: int
    has_audio: bool


def clips_in(data: Path | str) -> list[Clip]:
    """Return the clips of a folder, or the one that is named; [] where it holds none, which a line on stderr says.

    Raises:
        UserError: as read_clip.
    """
    found = _clip_files(Path(data))
    if not found and Path(data).is_dir():
        print(
            f"{printable(str(data))} holds no clip (no {', '.join(SUFFIXES)} file, and no folder inside it of numbered "
            "PNG or JPEG frames): it is taken for still pictures",
            file=sys.stderr,
        )
    return [FrameFolder(path) if path.is_dir() else read_clip(path) for path in found]


def clip_info(path: Path | str) -> ClipInfo:
    """Return what a clip says of itself, without reading its frames.

    Raises:
        UserError: if there is no such file, or it is no clip.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        return ClipInfo(stream.frames, rate, stream.height, stream.width, bool(container.streams.audio))


def clip_frames(path: Path | str) -> Iterator[np.ndarray]:
    """Yield a clip's frames (H, W, 3) uint8 one after another: memory does not grow with its length.

    Raises:
        UserError: if there is no such file, it is no clip, it is damaged, or it ends before its index says.
    """
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        number = 0
        frames = container.decode(stream)
        while True:
            try:
                frame = next(frames, None)
                picture = None if frame is None else _upright(frame)
            except FOREIGN as error:
                raise UserError(f"{path} is damaged after frame {number} ({_words(error)}); mend or cut it") from None
            if picture is None:
                break
            number += 1
            yield picture
        require(number > 0, f"{path} holds no frame that can be read; name another clip")
        _require_enough(path, number, stream.frames)


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Return a frame (H, W, 3) as it is to be shown: telephones film lying on their side, and say so."""
    quarters = round(frame.rotation / 90)  # counterclockwise
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarters))


def require_whole(path: Path | str) -> int:
    """Return how many frames a clip has, none of them decoded.

    Raises:
        UserError: if there is no such file, it is no clip, or it ends before its index says.
    """
    with _opened(path) as container:
        stream, number = container.streams.video[0], 0
        try:
            for packet in container.demux(stream):
                number += packet.size > 0
        except FOREIGN as error:
            raise UserError(f"{path} is damaged after frame {number} ({_words(error)}); mend or cut it") from None
        _require_enough(path, number, stream.frames)
    return number


def _require_enough(path: Path | str, number: int, said: int) -> None:
    """Raise UserError if frames are missing; an index may count a few that are not to be shown."""
    enough = number >= 0.95 * said - 2
    require(enough, f"{path} is truncated: {number} of its {said} frames are there; fetch it again")


def read_clip(path: Path | str, first: int = 0, count: int | None = None) -> Tensor:
    """Return frames (T, 3, H, W) uint8 of a clip, `count` from the first asked for, or all from there.

    Raises:
        UserError: as clip_frames and FrameFolder, or if it has fewer frames.
    """
    if Path(path).is_dir():
        folder = FrameFolder(path)
        chosen = range(len(folder))[first : None if count is None else first + count]
        _require_frames(path, first, len(chosen), count)
        return folder[chosen.start : chosen.stop]
    frames: list[np.ndarray] = []
    for number, frame in enumerate(clip_frames(path)):
        if number >= first:
            frames.append(frame)
        if count is not None and len(frames) == count:
            break
    _require_frames(path, first, len(frames), count)
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()


def _require_frames(path: Path | str, first: int, found: int, count: int | None) -> None:
    wanted = 1 if count is None else count
    require(found >= wanted, f"{path} has {found} frames from frame {first} on; {wanted} are asked for")


def clip_files(path: Path | str) -> list[Path]:
    """Return the clips in a folder and in the folders inside it, sorted; or the one that is named.

    Video files are clips, and so are folders inside it that hold numbered frames; see `frame_folders`.

    Raises:
        UserError: if there is none.
    """
    found = _clip_files(Path(path)) if Path(path).is_dir() else [Path(path)]
    require(
        bool(found),
        f"{path} holds no clip; name a folder of {', '.join(SUFFIXES)} files, or of folders of numbered frames",
    )
    return found


def _clip_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.suffix.lower() in SUFFIXES else []
    videos = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES]
    return sorted([*videos, *frame_folders(path)])


class Clips:
    """A source of windows of frames that follow each other: "frames" (B, L, 3, H, W) uint8.

    Clips are read once, whole, and kept; each has one window for every frame that one can begin with.

    Args:
        paths: the clips.
        length: L.
        size: (H, W) cut from the middle of every clip; None where they are all alike.

    Raises:
        UserError: as clip_frames, if a clip is shorter than L or smaller than `size`, or clips differ in size.
    """

    def __init__(self, paths: Sequence[Path | str], length: int, size: tuple[int, int] | None = None) -> None:
        require(length >= 1 and bool(paths), f"length={length}, {len(paths)} clips: use 1 or more of both")
        self.length = length
        self.clips = [read_clip(path) for path in paths]
        for path, clip in zip(paths, self.clips, strict=True):
            require(len(clip) >= length, f"{path} has {len(clip)} frames; windows of {length} need as many")
        if size is not None:
            self.clips = [_middle(clip, size, path) for path, clip in zip(paths, self.clips, strict=True)]
        sizes = {tuple(clip.shape[2:]) for clip in self.clips}
        require(len(sizes) == 1, f"clips have sizes {sorted(sizes)}; give one that is cut from each")
        self._ends = torch.tensor([len(clip) - length + 1 for clip in self.clips]).cumsum(0)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return "frames" (B, L, 3, H, W) uint8 at index (B,)."""
        clips = torch.searchsorted(self._ends, index, right=True)
        starts = index - torch.cat([torch.zeros(1, dtype=torch.int64), self._ends])[clips]
        pairs = zip(clips.tolist(), starts.tolist(), strict=True)
        return {"frames": torch.stack([self.clips[clip][start : start + self.length] for clip, start in pairs])}


def _middle(clip: Tensor, size: tuple[int, int], path: Path | str) -> Tensor:
    height, width = clip.shape[2:]
    require(height >= size[0] and width >= size[1], f"{path} is {height} x {width}; {size[0]} x {size[1]} is larger")
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return clip[:, :, top : top + size[0], left : left + size[1]].contiguous()


def _opened(path: Path | str) -> InputContainer:
    path = Path(path)
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"{path}: {what}; name a clip")
    try:
        container = av.open(str(path))
    except FOREIGN as error:
        raise UserError(f"{path}: no clip can be read from it ({_words(error)})") from None
    if not container.streams.video:
        container.close()
        raise UserError(f"{path}: there is no video in it; name a clip")
    return container


def _words(error: BaseException) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:100]
