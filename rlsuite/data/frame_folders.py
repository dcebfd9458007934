"""Clips that lie as numbered pictures, each clip in a folder of its own, as those of Vimeo-90k and DAVIS do.

Shapes: T frames of a clip, n of them asked for, H and W sides.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import overload

import torch
from torch import Tensor

from rlsuite.data.pictures import SUFFIXES, picture_size, read_picture
from rlsuite.errors import require
from rlsuite.records.files import read_text

FRAMES = (".png", ".jpg", ".jpeg")
TRAIN_LISTS = ("sep_trainlist.txt", "tri_trainlist.txt")  # Vimeo-90k's, of clips that are not for testing
PICTURES = "JPEGImages"  # where DAVIS and YouTube-VOS have their frames; their masks, numbered too, lie elsewhere
_NUMBERED = re.compile(r"(.*?)([0-9]+)")


class FrameFolder:
    """A clip in a folder; frames are read when they are asked for, so that many clips take no memory.

    `clip[i]` is a frame (3, H, W) uint8, `clip[first:end]` (n, 3, H, W), as of a tensor.

    Args:
        folder: of pictures whose names differ in their numbers alone, which rise by equal steps.

    Raises:
        UserError: if it is no such folder; when frames are asked for, if one cannot be read or they differ in size.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        files = self.folder.iterdir() if self.folder.is_dir() else ()
        self.files = frames_in(file for file in files if file.suffix.lower() in SUFFIXES)
        require(bool(self.files), f"{folder}: it holds no frames; name a folder of 00000.jpg, 00001.jpg and so on")

    def __len__(self) -> int:
        return len(self.files)

    @functools.cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, 3, H, W), by the first frame."""
        return len(self.files), 3, *picture_size(self.files[0])

    @overload
    def __getitem__(self, which: int) -> Tensor: ...
    @overload
    def __getitem__(self, which: slice) -> Tensor: ...
    def __getitem__(self, which: int | slice) -> Tensor:
        files = self.files[which]
        if isinstance(files, Path):
            return self._frame(files)
        return torch.stack([self._frame(file) for file in files])

    def _frame(self, file: Path) -> Tensor:
        frame, (height, width) = read_picture(file), self.shape[2:]
        same = tuple(frame.shape[1:]) == (height, width)
        require(
            same,
            f"{file} is {frame.shape[1]} x {frame.shape[2]}, the first of its folder {height} x {width}: no clip; "
            "still pictures are taken for such where they lie in one folder, with none inside it",
        )
        return frame


def frame_folders(root: Path) -> list[Path]:
    """Return the folders inside a folder, at any depth, that hold a clip each, sorted; not the folder itself.

    Where the folder has one named JPEGImages, as DAVIS has, it alone is searched; where it has a list of clips to train
    on, as Vimeo-90k has, others than those are left out.
    """
    chosen = next((root / name for name in TRAIN_LISTS if (root / name).is_file()), None)
    within = root / PICTURES if (root / PICTURES).is_dir() else root
    folders: dict[Path, list[Path]] = {}
    for file in within.rglob("*"):
        if file.suffix.lower() in SUFFIXES and file.parent != root:
            folders.setdefault(file.parent, []).append(file)
    found = sorted(folder for folder, files in folders.items() if frames_in(files))
    if chosen is None:
        return found
    names = {tuple(line.strip().split("/")) for line in read_text(chosen).splitlines()}
    return [folder for folder in found if folder.parts[-2:] in names]


def frames_in(files: Iterable[Path]) -> list[Path]:
    """Return pictures of one folder in the order of their numbers; [] where they are not the frames of a clip.

    They are where there are two or more, all PNG or JPEG and named alike but for a number, and numbers rise by equal
    steps.
    """
    numbered: dict[int, Path] = {}
    names = set()
    for file in files:
        match = _NUMBERED.fullmatch(file.stem)
        if match is None or file.suffix.lower() not in FRAMES or int(match[2]) in numbered:
            return []
        names.add((match[1], file.suffix))
        numbered[int(match[2])] = file
    numbers = sorted(numbered)
    steps = {later - number for number, later in zip(numbers[:-1], numbers[1:], strict=True)}
    return [numbered[number] for number in numbers] if len(names) == len(steps) == 1 else []
