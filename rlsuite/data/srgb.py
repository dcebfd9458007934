"""Pixels of any kind as sRGB on white paper, in bands: a large picture never lies in memory in several forms."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, ImageCms

# What Pillow raises on damaged files.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, OverflowError, MemoryError, TypeError, KeyError)
_BAND_PIXELS = 1 << 22  # converted at a time


def on_white(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB and sRGB; 16-bit and float greys are scaled to bytes, transparent places become white."""
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
