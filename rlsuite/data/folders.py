"""Pictures in a folder or a zip file, and what of them is for training: a source of square pictures.

Shapes: M examples, B of them asked for, W side of a picture.
"""

from __future__ import annotations

import functools
import io
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rlsuite.data.counters import uniform
from rlsuite.data.pictures import SUFFIXES, decode_picture, read_picture
from rlsuite.data.source import SPLITS, require_split
from rlsuite.errors import UserError, require, require_finite

HELD_OUT = 10  # one picture in so many, and of fewer the first, is kept for split=test


@dataclass(frozen=True)
class PictureFile:
    """A picture in a folder or in a zip file.

    Attributes:
        root: the folder, or the zip file.
        place: where in it, with slashes.
    """

    root: Path
    place: str

    @property
    def folder(self) -> str:
        """The name of the folder that it lies in."""
        return PurePosixPath(self.place).parent.name

    def read(self) -> Tensor:
        """Return the picture (3, H, W) uint8; UserError if it cannot be read."""
        if self.root.is_dir():
            return read_picture(self.root / self.place)
        return decode_picture(io.BytesIO(read_bytes(self.root, self.place)), f"{self.root}:{self.place}")


def picture_files(root: Path | str, split: str = "") -> list[PictureFile]:
    """Return the pictures in a folder or zip file and in the folders inside it, sorted by place.

    Args:
        root: the folder or the zip file.
        split: "train" or "test": the folder of that name where both are there; else nine pictures in ten, or the tenth
            one. A single picture is in both. "" for all.

    Raises:
        UserError: if there is no such folder, it cannot be read, or it holds no picture.
    """
    places = places_in(Path(root), SUFFIXES, "picture")
    if split:
        places = _part(places, require_split(split))
    return [PictureFile(Path(root), place) for place in places]


def places_in(root: Path, suffixes: tuple[str, ...], what: str) -> list[str]:
    """Return where the files of some kinds lie in a folder or zip file, with slashes, sorted.

    Args:
        root: the folder or the zip file.
        suffixes: of their names.
        what: one of them is called, for messages.

    Raises:
        UserError: if there is no such folder, it cannot be read, or there are none.
    """
    if root.is_dir():
        places = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    elif root.is_file():
        try:
            places = _archive(root).namelist()
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(f"{root}: it is neither a folder nor a zip file ({error}); name one of {what}s") from None
    else:
        raise UserError(f"{root}: there is no such folder; name a folder or a zip file of {what}s")
    places = sorted(place for place in places if place.lower().endswith(suffixes))
    if not places:
        raise UserError(f"{root} holds no {what}; name a folder of {', '.join(suffixes)} files")
    return places


def read_bytes(root: Path, place: str) -> bytes:
    """Return a file of a folder or zip file; UserError if it cannot be read."""
    try:
        return (root / place).read_bytes() if root.is_dir() else _archive(root).read(place)
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError) as error:
        raise UserError(f"{root}:{place} cannot be read ({error}); fetch it again") from None


@functools.lru_cache(maxsize=8)
def _archive(path: Path) -> zipfile.ZipFile:
    """Open a zip file once: reading its list takes longer than reading a picture."""
    return zipfile.ZipFile(path)


def _part(places: list[str], split: str) -> list[str]:
    parts = {name: [place for place in places if name in PurePosixPath(place).parts[:-1]] for name in SPLITS}
    if all(parts.values()):
        return parts[split]
    if len(places) < 2:
        return places
    return [place for number, place in enumerate(places) if (number % HELD_OUT == 0) == (split == "test")]


class PictureFolder:
    """Square pictures from a folder or a zip file, read when they are asked for (`in_memory` keeps them).

    Example i is crop i % crops of picture i // crops, always the same. "picture" is (B, 3, W, W) uint8; where the
    pictures lie in two or more folders (beside train and test), "label" (B,) int64 is the number of their folder, in
    `classes`.

    Args:
        root: the folder or the zip file.
        size: W.
        split: "train", "test", or "" for all.
        crops: of each picture.
        crop: crops take this share of the shorter side or more, log-uniformly, at a random place; 1 takes the largest
            square in the middle. They are never enlarged unless the picture itself is smaller.
        seed: of the crops.

    Raises:
        UserError: as picture_files; when examples are asked for, if a picture cannot be read.
    """

    def __init__(
        self, root: Path | str, size: int, *, split: str = "", crops: int = 1, crop: float = 1.0, seed: int = 0
    ) -> None:
        require(size >= 1, f"size={size}: use 1 or more")
        require(crops >= 1, f"crops={crops}: use 1 or more")
        require_finite("crop", crop, above=0.0)
        require(crop <= 1.0, f"crop={crop}: use a share above 0, at most 1")
        self.files, self.size, self.crops, self.crop, self.seed = picture_files(root, split), size, crops, crop, seed
        self.classes = sorted({file.folder for file in picture_files(root)}.difference(SPLITS))

    def __len__(self) -> int:
        return len(self.files) * self.crops

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return "picture" (B, 3, W, W) uint8, and "label" (B,) where there are folders, at index (B,)."""
        files = [self.files[number // self.crops] for number in index.tolist()]
        draws = uniform(self.seed, index, 3).tolist()
        found = {
            "picture": torch.stack([self._cut(file.read(), *draw) for file, draw in zip(files, draws, strict=True)])
        }
        if len(self.classes) > 1:
            found["label"] = torch.tensor([self.classes.index(file.folder) for file in files])
        return found

    def _cut(self, picture: Tensor, larger: float, down: float, right: float) -> Tensor:
        """Return a square of the picture, its pixels averaged; the numbers in [0, 1) say how large and where."""
        height, width = picture.shape[1:]
        shorter = min(height, width)
        if self.crop >= 1.0:
            side, down, right = float(shorter), 0.5, 0.5
        else:
            smallest = max(self.crop * shorter, min(self.size, shorter))
            side = math.exp(math.log(smallest) + larger * (math.log(shorter) - math.log(smallest)))
        top, left = down * (height - side), right * (width - side)
        image = Image.fromarray(picture.permute(1, 2, 0).numpy())
        how = Image.Resampling.BOX if side > self.size else Image.Resampling.BICUBIC
        cut = image.resize((self.size, self.size), how, box=(left, top, left + side, top + side))
        return torch.from_numpy(np.array(cut)).permute(2, 0, 1)
