"""Reading a photo to be painted: any picture that Pillow reads, turned upright, on white where it is transparent."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from rlsuite.errors import UserError, require

LARGEST_PIXELS = 300_000_000
SMALLEST_SIDE = 8


def read_photo(path: Path | str, long_side: int) -> Tensor:
    """Return a picture (3, H, W) float32 in [0, 1], reduced to `long_side` pixels where it is larger.

    Of a picture with several frames the first is read.

    Raises:
        UserError: if there is no such file, it is no picture, damaged, or too small or too large.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; name a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                width, height = opened.size
                require(
                    width * height <= LARGEST_PIXELS,
                    f"{path}: {width} x {height} pixels are more than {LARGEST_PIXELS:,}; reduce it first",
                )
                opened.draft("RGB", (long_side, long_side))  # a JPEG is decoded no larger than needed
                picture = ImageOps.exif_transpose(opened)
                picture = _on_white(picture)
    except Image.DecompressionBombError:
        raise UserError(f"{path}: more than {LARGEST_PIXELS:,} pixels; reduce it first") from None
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, EOFError) as error:
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


def _on_white(picture: Image.Image) -> Image.Image:
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
