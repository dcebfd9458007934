"""Whatever an environment of another library draws, as a picture of bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

DEFAULT_FRAME_RATE = 30.0


def as_picture(frame: Any) -> np.ndarray:
    """Return a frame as (height, width, 3) uint8.

    Args:
        frame: (height, width) or with 1, 3 or 4 channels: bytes, other integers in [0, 255], booleans, or floats in
            [0, 1] or [0, 255]; or a list of such, of which the last is taken. Opacity is dropped.

    Raises:
        ValueError: If it is no picture.
    """
    if isinstance(frame, list | tuple) and frame:
        frame = frame[-1]
    if frame is None or isinstance(frame, list | tuple):
        raise ValueError("render() returned no picture; it has to return an array (height, width, 3) of uint8")
    picture = np.asarray(frame)
    if picture.ndim == 2:
        picture = picture[:, :, None]
    if picture.ndim != 3 or picture.shape[2] not in (1, 3, 4) or picture.dtype.kind not in "fiub" or not picture.size:
        raise ValueError(
            f"render() returned shape {picture.shape} of {picture.dtype}; it has to return (height, width, 3) of uint8"
        )
    picture = picture[:, :, :3] if picture.shape[2] > 1 else picture.repeat(3, axis=2)
    if picture.dtype == np.uint8:
        return picture
    values = np.nan_to_num(picture.astype(np.float64), posinf=np.inf, neginf=-np.inf)
    if picture.dtype.kind == "b" or (picture.dtype.kind == "f" and values.max() <= 1.0):
        values *= 255.0
    return np.rint(np.clip(values, 0.0, 255.0)).astype(np.uint8)


def frame_rate(metadata: Any) -> float:
    """Return the frames per second that an environment's metadata names; 30 where that is no number of use."""
    rate = metadata.get("render_fps") if isinstance(metadata, dict) else None
    usable = isinstance(rate, int | float | np.integer | np.floating) and math.isfinite(rate) and 0.01 <= rate <= 1000.0
    return float(rate) if usable else DEFAULT_FRAME_RATE  # type: ignore[arg-type]
