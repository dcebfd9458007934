"""PNG pictures with all their bits: linear photographs have 16 a number, of which other readers keep 8.

Shapes: H and W sides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rlsuite.data.pictures import LARGEST_PIXELS
from rlsuite.errors import UserError, require
from rlsuite.extras import import_extra
from rlsuite.records.files import require_file

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST_BYTES = 1 << 30


def read_png(path: Path | str) -> Tensor:
    """Return a picture (3, H, W) float32 in [0, 1]: bytes over 255, 16-bit numbers over 65535; grey ones three times.

    Nothing is gamma-decoded.

    Raises:
        UserError: if there is no such file, it is no PNG, or OpenCV (the extra "vision") is missing.
    """
    path = Path(path)
    require(path.is_file(), f"{path}: there is no such file; name a PNG")
    require_file(path, LARGEST_BYTES)
    data = path.read_bytes()
    require(data.startswith(SIGNATURE) and len(data) >= 33, f"{path}: it is no PNG; name one")
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    require(0 < width * height <= LARGEST_PIXELS, f"{path}: it says {width} x {height} pixels; use a smaller picture")
    cv2 = import_extra("cv2", "a PNG of 16 bits")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: no picture can be read from it; name another PNG")
    largest = np.float32(np.iinfo(pixels.dtype).max)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    pixels = pixels[..., 2::-1]  # OpenCV has blue first; a fourth channel is opacity
    return torch.from_numpy(pixels.astype(np.float32) / largest).permute(2, 0, 1).contiguous()
