"""Reading pictures, which may come from anybody: one door for all of them.

Only the decoders of PNG, JPEG, WEBP, TIFF, BMP, PPM and GIF are used, whatever a file calls itself: Pillow's others
start programs (PostScript goes to Ghostscript) or are little tried. What decoding takes is held against free memory
before it begins. EXIF turns a picture upright and does nothing else; colours with a profile become sRGB; transparent
places are white. Of a picture with several frames the first is read. A JPEG that was cut off is read as far as it goes,
with a warning on stderr.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil
import torch
from PIL import Image, ImageFile
from torch import Tensor

from rlsuite.data.srgb import UNREADABLE, on_white
from rlsuite.errors import UserError, printable
from rlsuite.records.files import require_file

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
LARGEST_PIXELS = 300_000_000
LARGEST_BYTES = 1_900_000_000  # of all that decoding and converting holds at once
_PILLOWS_SETTINGS = threading.RLock()
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = tuple(_UPRIGHT[orientation] for orientation in (5, 6, 7, 8))  # turned, they change width and height


def read_picture(path: Path | str, *, grey: bool = False) -> Tensor:
    """Return a picture (3, H, W) uint8, or (1, H, W) where `grey` asks for it.

    Raises:
        UserError: if there is no such file, it is no picture of these formats, or damaged or too large.
    """
    return _pixels(load_picture(path), grey)


def decode_picture(file: BinaryIO, name: str, *, grey: bool = False) -> Tensor:
    """Return a picture (3, H, W) uint8 from an open file, or (1, H, W); `name` is for the message.

    Raises:
        UserError: as read_picture.
    """
    return _pixels(_load(file, name, None), grey)


def picture_size(path: Path | str) -> tuple[int, int]:
    """Return the sides (H, W) that `read_picture` would give, without decoding.

    Raises:
        UserError: as read_picture.
    """
    path = _found(path)
    with _messages(str(path)), _open(path) as opened:
        lies = _turn(opened) in _LYING
        return (opened.width, opened.height) if lies else (opened.height, opened.width)


def load_picture(path: Path | str, draft_side: int | None = None) -> Image.Image:
    """Return a picture in RGB, upright, its transparent places white.

    Args:
        path: the file.
        draft_side: a JPEG is decoded no larger than needed for this longer side; None: in full.

    Raises:
        UserError: as read_picture.
    """
    path = _found(path)
    return _load(path, str(path), draft_side)


def _found(path: Path | str) -> Path:
    path = Path(path)
    if not path.is_file():
        other = "it is a folder" if path.is_dir() else "it is a pipe or device"
        what = other if path.exists() else "there is no such file"
        raise UserError(f"{path}: {what}; name a picture")
    return path


def _pixels(picture: Image.Image, grey: bool) -> Tensor:
    pixels = torch.from_numpy(np.array(picture.convert("L") if grey else picture))
    return pixels.unsqueeze(0) if grey else pixels.permute(2, 0, 1).contiguous()


def _load(file: Path | BinaryIO, name: str, draft_side: int | None) -> Image.Image:
    with _messages(name):
        return _decode(file, name, draft_side)


@contextlib.contextmanager
def _messages(name: str) -> Iterator[None]:
    """Say in one line what is wrong with a picture."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise UserError(f"{name}: {error}; reduce it first") from None
    except UNREADABLE as error:
        raise UserError(f"{name}: no picture can be read from it ({' '.join(str(error).split())[:100]})") from None


def _decode(file: Path | BinaryIO, name: str, draft_side: int | None) -> Image.Image:
    with _open(file) as opened:
        if draft_side is not None:
            opened.draft("RGB", (draft_side, draft_side))
        try:
            opened.load()
        except OSError as error:
            if opened.format != "JPEG" or "truncated" not in str(error):
                raise
            opened = _load_cut_off(file, draft_side)
            print(f"warning: {printable(name)} is cut off; what is missing of it is grey", file=sys.stderr)
        picture, turn = on_white(opened), _turn(opened)
        return picture if turn is None else picture.transpose(turn)


def _load_cut_off(file: Path | BinaryIO, draft_side: int | None) -> Image.Image:
    """Decode a JPEG without its end; Pillow has one switch for the whole process."""
    with _PILLOWS_SETTINGS, _open(file) as opened:
        if draft_side is not None:
            opened.draft("RGB", (draft_side, draft_side))
        before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
        try:
            opened.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
        return opened


@contextlib.contextmanager
def _open(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """Open a picture that can be decoded in the memory there is, its pixels not yet read.

    Raises:
        Image.DecompressionBombError: if it cannot; `UNREADABLE` says what else reading it may raise.
    """
    if isinstance(file, Path):
        require_file(file)
    else:
        file.seek(0)
    # Pillow's own limit lies below ours, is one for the whole process, and is looked at while a file is opened.
    with _PILLOWS_SETTINGS:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened = Image.open(file, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with opened:
        width, height = opened.size
        if width * height > LARGEST_PIXELS:
            raise Image.DecompressionBombError(f"{width} x {height} pixels are more than {LARGEST_PIXELS:,}")
        needed, free = _decoded_bytes(opened), psutil.virtual_memory().available
        if needed > min(LARGEST_BYTES, free):
            raise Image.DecompressionBombError(
                f"{width} x {height} pixels take {needed:,} bytes to decode, more than the {LARGEST_BYTES:,} allowed"
                + (f" or the {free:,} free" if free < LARGEST_BYTES else "")
            )
        yield opened


def _decoded_bytes(opened: Image.Image) -> int:
    """Return what decoding holds at once: the pixels, and what a format's decoder keeps beside them."""
    pixel = {"1": 1, "L": 1, "P": 1}.get(opened.mode, 2 if opened.mode.startswith("I;16") else 4)
    if opened.format == "WEBP":
        beside = 3 * 4  # its canvases, and the frame handed over
    elif opened.format == "GIF":
        beside = 2 * 4  # frame and canvas
    elif opened.format == "TIFF":
        beside = pixel  # one strip may be the whole picture
    elif opened.format in ("JPEG", "MPO") and opened.info.get("progressive"):
        beside = 2 * len(opened.getbands())  # all coefficients, of two bytes each
    else:
        beside = 0
    plain = opened.mode == "RGB" and not opened.has_transparency_data and "icc_profile" not in opened.info
    converting = 0 if plain else pixel + 4
    turning = 8 if _turn(opened) is not None else 0
    return opened.width * opened.height * max(pixel + beside, converting, turning)


def _turn(opened: Image.Image) -> Image.Transpose | None:
    """Return what turns a picture upright, by its EXIF data; what else is in them does not matter."""
    try:
        orientation = opened.getexif().get(_ORIENTATION)
    except (*UNREADABLE, AttributeError, IndexError, ZeroDivisionError):  # damaged: it is shown as it lies
        return None
    return _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
