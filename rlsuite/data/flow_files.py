"""Optical flow in .flo files (Middlebury: Baker et al. 2011): 202021.25, width, height, then (u, v) row by row.

Numbers are little-endian, float32 and int32. Where flow is unknown its numbers are above 1e9.

Shapes: H and W sides; flow (2, H, W) in pixels, right and down.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rlsuite.errors import UserError
from rlsuite.records.files import write_atomically

MAGIC = np.float32(202021.25)
UNKNOWN = 1e9
LARGEST_PIXELS = 300_000_000


def read_flo(path: Path | str) -> tuple[Tensor, Tensor]:
    """Return flow (2, H, W) float32, zero where it is unknown, and where it is known (H, W) bool.

    Raises:
        UserError: if there is no such file, it is no flow, or truncated.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name a .flo file") from None
    if len(data) < 12 or np.frombuffer(data[:4], "<f4")[0] != MAGIC:
        raise UserError(f"{path} is no .flo file")
    width, height = (int(side) for side in np.frombuffer(data[4:12], "<i4"))
    if min(width, height) < 1 or width * height > LARGEST_PIXELS or len(data) != 12 + 8 * width * height:
        raise UserError(f"{path} has {len(data)} bytes, which is not what {width} x {height} pixels need")
    flow = torch.from_numpy(np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).astype(np.float32))
    flow = flow.permute(2, 0, 1).contiguous()
    known = (flow.abs() <= UNKNOWN).all(dim=0)
    return torch.where(known, flow, torch.zeros_like(flow)), known


def write_flo(path: Path | str, flow: Tensor, known: Tensor | None = None) -> None:
    """Write flow (2, H, W); where `known` (H, W) is false the file says so.

    Raises:
        ValueError: if the flow has another shape.
        UserError: if the file cannot be written.
    """
    if flow.dim() != 3 or flow.shape[0] != 2:
        raise ValueError(f"flow is (2, H, W), not {tuple(flow.shape)}")
    if known is not None:
        flow = torch.where(known, flow, torch.full_like(flow, 10 * UNKNOWN))
    height, width = flow.shape[1:]
    rows = flow.detach().cpu().permute(1, 2, 0).contiguous().numpy().astype("<f4")
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(
            path, MAGIC.astype("<f4").tobytes() + np.array([width, height], "<i4").tobytes() + rows.tobytes()
        )
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another file") from None
