"""Clean glyphs: a pool of characters from fonts, from scikit-learn's digits, from MNIST, or from a folder of pictures.

A glyph is black ink on white paper, as renderers/glyph.py draws it. Fonts are those that come with matplotlib and have
the characters wanted; every font and character is there in several random affine variants. The official code renders
500 fonts (arXiv:1806.08990, synth.py); there are 21 here.

Shapes: M glyphs in the pool, W their side.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from envs.characters.geometry import random_affine, resampled
from rlsuite.data.counters import uniform_float32
from rlsuite.data.digits import digits
from rlsuite.data.folders import PictureFile, picture_files
from rlsuite.data.mnist import mnist
from rlsuite.data.source import require_split
from rlsuite.errors import UserError, require, require_choice
from rlsuite.extras import import_extra
from rlsuite.running.seeding import derive_seed

CHARACTERS = {
    "digits": string.digits,
    "letters": string.ascii_letters,
    "both": string.digits + string.ascii_letters,
}
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELD_OUT = 5  # one font in so many is kept for split=test
THRESHOLD = 0.4  # of scikit-learn's enlarged digits: what is lighter is paper
MARGIN = 0.12  # of a glyph's square that stays blank on each side before it is moved
FINER = 2  # fonts are drawn so many times larger


class Glyphs(NamedTuple):
    """A pool.

    Attributes:
        picture: (M, 1, W, W) uint8, 255 where the paper is blank.
        label: (M,) int64, which of `names` is written.
        names: of the classes.
    """

    picture: Tensor
    label: Tensor
    names: tuple[str, ...]


@functools.lru_cache(maxsize=8)
def glyph_pool(
    data: str, size: int, split: str, characters: str = "digits", variants: int = 20, seed: int = 0
) -> Glyphs:
    """Return a pool of clean glyphs, always the same for equal arguments.

    Args:
        data: "fonts", "digits" (scikit-learn's), "mnist" (where RLSUITE_DATA says), "shipped" (fonts, and digits as
            they are and in up to two random variants), or a folder or zip file of pictures, dark on light, each class
            in a folder of its own, as Omniglot has them.
        size: W.
        split: "train" or "test": other fonts, and of data sets their own split; of a folder one alphabet in five (the
            folders above those of classes; where there is one alone, every tenth writer, who is named behind the last _
            of a file's name, or else every tenth picture).
        characters: of fonts, one of CHARACTERS.
        variants: of each font and character, moved, turned and stretched at random; the first is as the font has it.
        seed: of the variants.

    Raises:
        UserError: if there are no such glyphs, or what they come from cannot be read.
    """
    require_split(split)
    require_choice("env.characters", characters, CHARACTERS)
    require(size >= 8, f"env.size={size}: use 8 or more")
    require(variants >= 1, f"env.variants={variants}: use 1 or more")
    if data == "fonts":
        return _from_fonts(size, split, CHARACTERS[characters], variants, seed)
    if data == "digits":
        return _from_digits(size, split)
    if data == "mnist":
        found = mnist(split).tensors
        ink = functional.interpolate(found["picture"].float(), (size, size), mode="bilinear", align_corners=False)
        return Glyphs((255 - ink).round().to(torch.uint8), found["label"], tuple(string.digits))
    if data == "shipped":
        require(characters == "digits", f"env.characters={characters}: env.data=shipped has digits")
        one, other = _from_fonts(size, split, string.digits, variants, seed), _from_digits(size, split)
        moved = [
            _moved(other.picture, derive_seed(seed, f"digits {split} {copy}")) for copy in range(min(2, variants - 1))
        ]
        picture = torch.cat([one.picture, other.picture, *moved])
        label = torch.cat([one.label, *[other.label] * (1 + len(moved))])
        return Glyphs(picture, label, tuple(string.digits))
    return _from_folder(Path(data), size, split)


def fonts_with(characters: str, split: str = "") -> list[Path]:
    """Return matplotlib's fonts that have all characters under their own names, in the order of the files' names.

    Args:
        characters: wanted.
        split: "train" or "test": other ones; "" for all.

    Raises:
        UserError: if there is no such font.
    """
    plotting: Any = import_extra("matplotlib", "env.data=fonts")
    opener = import_extra("matplotlib.ft2font", "env.data=fonts").FT2Font
    names = {char: DIGIT_NAMES[int(char)] if char in string.digits else char for char in characters}
    found = []
    for path in sorted(Path(plotting.get_data_path(), "fonts", "ttf").glob("*.ttf")):
        font = opener(str(path))
        if all(font.get_glyph_name(font.get_char_index(ord(char))) == name for char, name in names.items()):
            found.append(path)
    if not found:
        raise UserError("env.data=fonts: matplotlib's fonts hold no digits and letters; use env.data=digits")
    if split:
        found = [path for number, path in enumerate(found) if (number % HELD_OUT == 0) == (split == "test")]
    return found


def _from_fonts(size: int, split: str, characters: str, variants: int, seed: int) -> Glyphs:
    drawn = [_drawn(path, char, FINER * size) for path in fonts_with(characters, split) for char in characters]
    ink = torch.from_numpy(np.stack(drawn)).unsqueeze(1).float() / 255.0
    label = torch.arange(len(characters)).repeat(len(drawn) // len(characters))
    parts = []
    for variant in range(variants):
        number = torch.arange(len(ink)) + variant * len(ink)
        drawer = drawer_at(derive_seed(seed, f"variants {split}"), number)
        moved = resampled(ink, random_affine(drawer, len(ink))) if variant else ink
        parts.append(functional.adaptive_avg_pool2d(moved, size))
    picture = (255.0 * (1.0 - torch.cat(parts))).round().to(torch.uint8)
    return Glyphs(picture, label.repeat(variants), tuple(characters))


def _drawn(path: Path, char: str, side: int) -> np.ndarray:
    """Return a character (side, side) uint8, 255 where there is ink, in the middle."""
    font = ImageFont.truetype(str(path), side)
    left, top, right, bottom = font.getbbox(char)
    mask = Image.new("L", (max(1, round(right - left)), max(1, round(bottom - top))), 0)
    ImageDraw.Draw(mask).text((-left, -top), char, fill=255, font=font)
    room = side * (1 - 2 * MARGIN)
    scale = room / max(mask.size)
    shape = tuple(max(1, round(edge * scale)) for edge in mask.size)
    canvas = Image.new("L", (side, side), 0)
    canvas.paste(
        mask.resize((shape[0], shape[1]), Image.Resampling.BOX), ((side - shape[0]) // 2, (side - shape[1]) // 2)
    )
    return np.asarray(canvas)


def _moved(picture: Tensor, seed: int) -> Tensor:
    """Return glyphs (M, 1, W, W) uint8 moved, turned and stretched at random."""
    ink = 1.0 - picture.float() / 255.0
    maps = random_affine(drawer_at(seed, torch.arange(len(ink))), len(ink))
    return (255.0 * (1.0 - resampled(ink, maps))).round().to(torch.uint8)


def _from_digits(size: int, split: str) -> Glyphs:
    """scikit-learn's digits, enlarged bilinearly; the glyph is what is darker than a threshold."""
    found = digits(split).tensors
    grey = found["picture"].float() / 255.0
    ink = functional.interpolate(grey, (size, size), mode="bilinear", align_corners=False) >= THRESHOLD
    return Glyphs((~ink).to(torch.uint8) * 255, found["label"], tuple(string.digits))


def _from_folder(root: Path, size: int, split: str) -> Glyphs:
    files = picture_files(root)
    alphabets = sorted({_alphabet(file.place) for file in files})
    classes = [f"{_alphabet(file.place)}/{file.folder}".strip("/") for file in files]
    if len(alphabets) > 1:
        held = set(alphabets[::HELD_OUT])
        chosen = [number for number, file in enumerate(files) if (_alphabet(file.place) in held) == (split == "test")]
    else:
        writers = _writers(files)
        held = set(sorted(set(writers))[::10])
        chosen = [number for number, own in enumerate(writers) if (own in held) == (split == "test")]
    require(bool(chosen), f"{root}: there is no picture for split={split}; name a folder of more pictures")
    names = sorted({classes[number] for number in chosen})
    pictures = torch.stack([reduced(files[number].read(), size) for number in chosen])
    return Glyphs(pictures, torch.tensor([names.index(classes[number]) for number in chosen]), tuple(names))


def reduced(picture: Tensor, size: int) -> Tensor:
    """Return a picture (3, H, W') uint8, dark on light, as a glyph (1, size, size) uint8, in the middle of a square."""
    grey = picture.float().mean(dim=0, keepdim=True)
    side = max(grey.shape[1:])
    down, right = (side - length for length in grey.shape[1:])
    square = functional.pad(grey, (right // 2, right - right // 2, down // 2, down - down // 2), value=255.0)
    return functional.adaptive_avg_pool2d(square, size).round().to(torch.uint8)


def _writers(files: list[PictureFile]) -> list[str]:
    """Return who wrote each picture: what follows the last _ in Omniglot's names; elsewhere each stands for itself."""
    stems = [Path(file.place).stem for file in files]
    if all("_" in stem for stem in stems):
        return [stem.rpartition("_")[2] for stem in stems]
    return [f"{number:09}" for number in range(len(files))]


def _alphabet(place: str) -> str:
    return "/".join(place.split("/")[:-2])


def drawer_at(seed: int, index: Tensor) -> Callable[[int], Tensor]:
    """Return what draws k numbers in [0, 1) for each example (B,), (B, k) float32, new ones at every call."""
    calls = 0

    def draw(count: int) -> Tensor:
        nonlocal calls
        calls += 1
        return uniform_float32(derive_seed(seed, f"draw {calls}"), index, count)

    return draw
