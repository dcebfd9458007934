"""Pictures from files: of a few plain formats alone, turned upright, on white where they are transparent."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from rlsuite.errors import UserError

# Pillow also reads formats whose decoders start other programs (EPS, PDF) or are little used: none of them is asked.
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
LARGEST_PIXELS = 300_000_000
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises on damaged files
_PILLOWS_LIMIT = threading.Lock()


def read_picture(path: Path | str, *, grey: bool = False) -> Tensor:
    """Return a picture (3, H, W) uint8, or (1, H, W) where `grey` asks for it; of several frames the first.

    Raises:
        UserError: if there is no such file, it is no picture of these formats, or damaged or too large.
    """
    path = Path(path)
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"{path}: {what}; name a picture")
    with path.open("rb") as file:
        return decode_picture(file, str(path), grey=grey)


def decode_picture(file: BinaryIO, name: str, *, grey: bool = False) -> Tensor:
    """Return a picture (3, H, W) uint8 from an open file, or (1, H, W); `name` is for the message.

    Raises:
        UserError: as read_picture.
    """
    try:
        with open_picture(file) as opened:
            picture = on_white(ImageOps.exif_transpose(opened))
    except Image.DecompressionBombError as error:
        raise UserError(f"{name}: {error}; reduce it first") from None
    except UNREADABLE as error:
        raise UserError(f"{name}: no picture can be read from it ({' '.join(str(error).split())[:100]})") from None
    pixels = torch.from_numpy(np.array(picture.convert("L") if grey else picture))
    return pixels.unsqueeze(0) if grey else pixels.permute(2, 0, 1).contiguous()


@contextlib.contextmanager
def open_picture(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """Open a picture of at most LARGEST_PIXELS in one of FORMATS, its pixels not yet read.

    Raises:
        Image.DecompressionBombError: if it is larger; `UNREADABLE` says what else reading it may raise.
    """
    # Pillow's own limit lies below ours, is one for the whole process, and is looked at while a file is opened.
    with _PILLOWS_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened = Image.open(file, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with opened:
        width, height = opened.size
        if width * height > LARGEST_PIXELS:
            raise Image.DecompressionBombError(f"{width} x {height} pixels are more than {LARGEST_PIXELS:,}")
        yield opened


def on_white(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB; 16-bit and float greys are scaled to bytes, transparent places become white."""
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, np.float64)
        largest = 65535.0 if picture.mode.startswith("I") else max(float(values.max()), 1e-9)
        return Image.fromarray((np.clip(values / largest, 0, 1) * 255).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        paper = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        paper.alpha_composite(picture)
        picture = paper
    return picture.convert("RGB")
