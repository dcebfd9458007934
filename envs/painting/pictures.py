"""Pictures to paint: a pool of square crops from an image folder, from scikit-image's pictures, or self-made scenes.

Shapes: M pictures in the pool, W their side.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor

from envs.painting.scenes import dead_leaves
from rlsuite.data.pictures import load_picture
from rlsuite.errors import UserError, printable
from rlsuite.extras import import_extra

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
# Pictures in scikit-image's wheel that are in the public domain or CC0, by its own list of licences.
SKIMAGE = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "moon",
    "rocket",
)
SCENE_SIDE = 192  # of self-made pictures, before they are cropped
CROPS_OF_SCENE = 40
HELD_OUT = 10  # one picture in so many, and of fewer the first, is kept for split=test


@functools.lru_cache(maxsize=4)
def picture_pool(data: str, size: int, num_pictures: int, crop: float, split: str) -> Tensor:
    """Return a pool of pictures, always the same for equal arguments.

    Args:
        data: an image folder, searched with its subfolders (where it has folders named train and test, these are the
            splits); "scenes" for self-made ones; "skimage" for
            scikit-image's and as many self-made ones.
        size: W.
        num_pictures: M at most. With crop=1 a folder gives each of its pictures once, as many as there are.
        crop: crops take this share of the shorter side or more, log-uniformly; 1 takes whole pictures, squeezed to a
            square, as the paper does.
        split: "train" or "test", which share no picture, unless a folder holds a single one: then it is in both.

    Returns:
        (M, 3, W, W) uint8.

    Raises:
        UserError: if there is no such folder or it holds no picture, or the pool does not fit in memory.
    """
    random = np.random.default_rng([size, num_pictures, ("train", "test").index(split)])
    sources = _sources(data, num_pictures, crop, split)
    each = math.ceil(num_pictures / max(1, len(sources)))
    if crop >= 1.0:  # all crops of a picture would be the same
        each = 1
    kept = min(num_pictures, len(sources) * each)
    needed, free = kept * 3 * size * size, psutil.virtual_memory().available
    if needed > free:
        fitting = int(0.5 * free / (3 * size * size))
        raise UserError(
            f"env.num_pictures={num_pictures} needs {needed} bytes and {free} are free; use {fitting} or fewer"
        )
    pool = torch.empty((kept, 3, size, size), dtype=torch.uint8)
    filled = 0
    for picture in sources.open():
        for _ in range(each):
            if filled == len(pool):
                break
            pool[filled] = _crop(picture, size, crop, random)
            filled += 1
    if filled == 0 and sources.files:
        raise UserError(
            f"data={data}: none of its {len(sources.files)} pictures for split={split} can be read, such as "
            f"{sources.files[0].name}; mend or remove them"
        )
    if filled == 0:
        raise UserError(f"data={data} holds no picture that can be read; name a folder of {', '.join(SUFFIXES)} files")
    _reorder(pool.numpy(), random.permutation(filled))
    return pool[:filled]


def _reorder(rows: np.ndarray, order: np.ndarray) -> None:
    """Put row order[i] in place i, for all i at once and in place: a shuffled copy would need the memory twice."""
    done = np.zeros(len(order), bool)
    for start in range(len(order)):
        if done[start]:
            continue
        first, place = rows[start].copy(), start
        while (source := order[place]) != start:
            rows[place], done[place] = rows[source], True
            place = source
        rows[place], done[place] = first, True


def _crop(picture: Image.Image, size: int, crop: float, random: np.random.Generator) -> Tensor:
    """Return one random square crop, (3, W, W) uint8, its pixels averaged."""
    if crop >= 1.0:
        box = (0.0, 0.0, float(picture.width), float(picture.height))
    else:
        shorter = min(picture.size)
        smallest = max(crop * shorter, min(size, shorter))  # never enlarged, unless the picture itself is smaller
        side = math.exp(random.uniform(math.log(smallest), math.log(shorter)))
        left, top = random.uniform(0, picture.width - side), random.uniform(0, picture.height - side)
        box = (left, top, left + side, top + side)
    resized = picture.resize((size, size), Image.Resampling.BOX if min(picture.size) > size else None, box=box)
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1)


@dataclass(frozen=True)
class _Sources:
    """Pictures opened one at a time, so that a large folder never lies in memory whole."""

    files: list[Path]
    scenes: range  # seeds of self-made ones

    def __len__(self) -> int:
        return len(self.files) + len(self.scenes)

    def open(self) -> Iterator[Image.Image]:
        for path in self.files:
            try:
                picture = load_picture(path)
            except UserError as error:
                print(f"left out: {printable(str(error))}", file=sys.stderr)
                continue
            yield picture
        for seed in self.scenes:
            yield Image.fromarray(dead_leaves(SCENE_SIDE, np.random.default_rng(seed)))


def _sources(data: str, num_pictures: int, crop: float, split: str) -> _Sources:
    scenes = num_pictures if crop >= 1.0 else math.ceil(num_pictures / CROPS_OF_SCENE)
    first = 10_000_000 if split == "test" else 0
    if data == "scenes":
        return _Sources([], range(first, first + scenes))
    if data == "skimage":
        folder = Path(str(import_extra("skimage", "env.data=skimage").__file__)).parent / "data"
        files = [path for path in sorted(folder.iterdir()) if path.stem in SKIMAGE]
        return _Sources(_split(files, split), range(first, first + len(files)))
    folder = Path(data)
    if not folder.is_dir():
        raise UserError(f"data={data}: there is no such folder; use a folder of pictures, scenes or skimage")
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        folder, split = folder / split, ""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return _Sources((_split(files, split) if split else files)[:num_pictures], range(0))


def _split(files: list[Path], split: str) -> list[Path]:
    if len(files) < 2:
        return files
    return [path for index, path in enumerate(files) if (index % HELD_OUT == 0) == (split == "test")]
