"""Reading a photo to be painted: what a picture file holds (rlsuite.data.pictures), in the size asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rlsuite.data.pictures import load_picture
from rlsuite.errors import require

SMALLEST_SIDE = 8
LARGEST_FACTOR = 8.0  # by which a small picture is enlarged


def read_photo(path: Path | str, long_side: int, *, enlarge: bool = False) -> Tensor:
    """Return a picture (3, H, W) float32 in [0, 1], reduced to `long_side` pixels where it is larger.

    With `enlarge` a smaller one is enlarged to it, by LARGEST_FACTOR at most: strokes are smooth, pixels are not.

    Of a picture with several frames the first is read. A JPEG that was cut off is read as far as it goes, with a
    warning on stderr.

    Raises:
        UserError: if there is no such file, it is no picture, damaged, or too small or too large.
    """
    picture = load_picture(path, long_side)
    factor = min(LARGEST_FACTOR if enlarge else 1.0, long_side / max(picture.size))
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    require(
        min(size) >= SMALLEST_SIDE,
        f"{path}: {picture.width} x {picture.height} pixels is too small or too narrow to paint; both sides must have "
        f"{SMALLEST_SIDE} or more at long_side={long_side}",
    )
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS if factor < 1.0 else Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(picture, np.float32) / 255.0).permute(2, 0, 1).contiguous()
