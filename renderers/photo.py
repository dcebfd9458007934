"""Reading pictures, which may come from anybody: one door for all of them.

Only the decoders of PNG, JPEG, WEBP, TIFF, BMP, PPM and GIF are used, whatever a file calls itself: Pillow's others
start programs (PostScript goes to Ghostscript) or are little tried. What decoding takes is held against free memory
before it begins. EXIF turns a picture upright and does nothing else; colours with a profile become sRGB; transparent
places are white.
"""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image, ImageCms, ImageFile
from torch import Tensor

from rlsuite.errors import UserError, printable, require
from rlsuite.records.files import require_file

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM", "GIF")
LARGEST_PIXELS = 300_000_000
LARGEST_BYTES = 1_900_000_000  # of all that decoding and converting holds at once
# What Pillow raises on damaged files.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, OverflowError, MemoryError, TypeError, KeyError)
SMALLEST_SIDE = 8
_PILLOWS_SETTINGS = threading.RLock()
_BAND_PIXELS = 1 << 22  # converted at a time
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


def read_photo(path: Path | str, long_side: int) -> Tensor:
    """Return a picture (3, H, W) float32 in [0, 1], reduced to `long_side` pixels where it is larger.

    Of a picture with several frames the first is read. A JPEG that was cut off is read as far as it goes, with a
    warning on stderr.

    Raises:
        UserError: if there is no such file, it is no picture, damaged, or too small or too large.
    """
    path = Path(path)
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "there is no such file"
        raise UserError(f"{path}: {what}; name a picture")
    try:
        picture = read_picture(path, long_side)
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


def read_picture(path: Path, draft_side: int | None = None) -> Image.Image:
    """Return a picture in RGB, upright, its transparent places white.

    Args:
        path: the file.
        draft_side: a JPEG is decoded no larger than needed for this longer side; None: in full.

    Raises:
        Image.DecompressionBombError: if it is too large; `UNREADABLE` says what else reading it may raise.
    """
    with open_picture(path) as opened:
        if draft_side is not None:
            opened.draft("RGB", (draft_side, draft_side))
        try:
            opened.load()
        except OSError as error:
            if opened.format != "JPEG" or "truncated" not in str(error):
                raise
            opened = _load_cut_off(path, draft_side)
            print(f"warning: {printable(str(path))} is cut off; what is missing of it is grey", file=sys.stderr)
        picture, turn = on_white(opened), _turn(opened)
        return picture if turn is None else picture.transpose(turn)


def _load_cut_off(path: Path, draft_side: int | None) -> Image.Image:
    """Decode a JPEG without its end; Pillow has one switch for the whole process."""
    with _PILLOWS_SETTINGS, open_picture(path) as opened:
        if draft_side is not None:
            opened.draft("RGB", (draft_side, draft_side))
        before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
        try:
            opened.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before
        return opened


@contextlib.contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture that can be decoded in the memory there is, its pixels not yet read.

    Raises:
        Image.DecompressionBombError: if it cannot; `UNREADABLE` says what else reading it may raise.
    """
    require_file(path)
    # Pillow's own limit lies below ours, is one for the whole process, and is looked at while a file is opened.
    with _PILLOWS_SETTINGS:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            opened = Image.open(path, formats=FORMATS)
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


def on_white(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB and sRGB; 16-bit and float greys are scaled to bytes, transparent places become white.

    It is done in bands: a large picture never lies in memory in several forms.
    """
    if picture.mode == "RGB" and not picture.has_transparency_data and "icc_profile" not in picture.info:
        return picture
    convert = _Converter(picture)
    result = Image.new("RGB", picture.size)
    rows = max(1, _BAND_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        band = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        result.paste(convert(band), (0, top))
    return result


class _Converter:
    """Turns bands of one picture into RGB, by what is known of the whole."""

    def __init__(self, picture: Image.Image) -> None:
        self.info, self.mode = picture.info, picture.mode
        self.profile = self.info.get("icc_profile")
        self.largest = 65535.0
        if picture.mode == "F":
            self.largest = _largest(picture)

    def __call__(self, band: Image.Image) -> Image.Image:
        if self.mode.startswith(("I", "F")):
            return self._grey(band)
        band.info = self.info
        alpha = None
        if band.has_transparency_data:
            band = band.convert("RGBA")
            alpha = band.getchannel("A")
            band = band.convert("RGB")
        elif self.mode in ("P", "LA", "PA", "1"):
            band = band.convert("RGB")
        band = _in_srgb(band, self.profile)
        if alpha is not None:
            paper = Image.new("RGBA", band.size, (255, 255, 255, 255))
            band.putalpha(alpha)
            paper.alpha_composite(band)
            band = paper
        return band.convert("RGB")

    def _grey(self, band: Image.Image) -> Image.Image:
        values = np.asarray(band, np.float64)
        clear = np.isnan(values)  # no value at all: as transparent
        transparent = self.info.get("transparency")
        if isinstance(transparent, int):  # the one grey that a PNG calls so
            clear |= values == transparent
        scaled = np.clip(np.where(clear, self.largest, values) / self.largest, 0, 1)
        return Image.fromarray((scaled * 255).astype(np.uint8)).convert("RGB")


def _largest(picture: Image.Image) -> float:
    """Return the largest finite value of a float picture, which becomes white."""
    found = 1e-9
    rows = max(1, _BAND_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        values = np.asarray(picture.crop((0, top, picture.width, min(top + rows, picture.height))))
        found = max(found, float(np.max(values, initial=found, where=np.isfinite(values))))
    return found


def _in_srgb(picture: Image.Image, profile: object) -> Image.Image:
    """Return a picture's colours in sRGB; where its profile is damaged, or for other colours, they stay as they are."""
    if not isinstance(profile, bytes) or not profile:
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return picture
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, *UNREADABLE):
        return picture
    return picture if converted is None else converted
