"""Reading a photo to be painted: any picture that Pillow reads, turned upright, on white where it is transparent."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from rlsuite.errors import UserError, require

LARGEST_PIXELS = 300_000_000
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises on damaged files
SMALLEST_SIDE = 8
_PILLOWS_LIMIT = threading.Lock()


def read_photo(path: Path | str, long_side: int) -> Tensor:
    """Return a picture (3, H, W) float32 in [0, 1], reduced to `long_side` pixels where it is larger.

    Of a picture with several frames the first is read.

    Raises:
        UserError: if there is no such file, it is no picture, damaged, or too small or too large.
    """
    path = Path(path)
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"{path}: {what}; name a picture")
    try:
        with open_picture(path) as opened:
            opened.draft("RGB", (long_side, long_side))  # a JPEG is decoded no larger than needed
            picture = on_white(ImageOps.exif_transpose(opened))
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: {error}; reduce it first") from None
    except UNREADABLE as error:
        raise UserError(f"{path}: no picture can be read from it ({' '.join(str(error).split())[:100]})") from None
    factor = min(1.0, long_side / max(picture.size))
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    require(
        min(size) >= SMALLEST_SIDE,
        f"{path}: {picture.width} x {picture.height} pixels is too small or too narrow to paint; both sides must have "
        f"{SMALLEST_SIDE} or more at long_side={long_side}",
    )
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(picture, np.float32) / 255.0).permute(2, 0, 1).contiguous()


@contextlib.contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture of at most LARGEST_PIXELS, its pixels not yet read.

    Raises:
        Image.DecompressionBombError: if it is larger; `UNREADABLE` says what else reading it may raise.
    """
    # Pillow's own limit lies below ours, is one for the whole process, and is looked at while a file is opened.
    with _PILLOWS_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened = Image.open(path)
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
