"""Features inside boxes, sampled between cells (RoIAlign; He et al. 2017, arXiv:1703.06870, section 3).

Shapes: B pictures, C channels, H and W sides of the map, N boxes, P bins a side.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.errors import require


def roi_align(maps: Tensor, boxes: Tensor, rows: Tensor, size: int, stride: float = 1.0, samples: int = 2) -> Tensor:
    """Return features (N, C, P, P) inside boxes: each bin is the mean of samples x samples bilinear ones.

    Cells are squares whose middles lie half a stride inside (`aligned=True` of other libraries); a sample more than one
    cell outside the map counts as 0, nearer ones take the border's. Gradients flow to the maps and to the boxes.

    Args:
        maps: (B, C, H, W).
        boxes: (N, 4), x1, y1, x2, y2 in pixels of the picture, its upper left corner being 0, 0.
        rows: (N,) int64, which picture each box lies in.
        size: P.
        stride: pixels of the picture to a cell of the map.
        samples: samples of a bin along each side.

    Raises:
        UserError: if `size`, `stride` or `samples` is not positive.
    """
    lines, columns = _bins(maps, boxes, size, stride, samples)
    return torch.einsum("nph,nchw,nqw->ncpq", lines, maps[rows], columns)


def roi_align_each(maps: Tensor, boxes: Tensor, size: int, stride: float = 1.0, samples: int = 2) -> Tensor:
    """Return the same features (B, n, C, P, P) for as many boxes (B, n, 4) in each picture; no map is copied."""
    batch, count = boxes.shape[:2]
    lines, columns = _bins(maps, boxes.flatten(0, 1), size, stride, samples)
    height, width = maps.shape[2:]
    down = lines.view(batch, count * size, height) @ maps.transpose(1, 2).flatten(2)  # (B, n P, C W)
    across = down.view(batch, count, size, -1, width) @ columns.view(batch, count, 1, size, width).mT
    return across.transpose(2, 3)  # (B, n, C, P, P)


def _bins(maps: Tensor, boxes: Tensor, size: int, stride: float, samples: int) -> tuple[Tensor, Tensor]:
    """Return what a map's lines (N, P, H) and columns (N, P, W) give to the bins of boxes (N, 4)."""
    require(
        size >= 1 and samples >= 1 and stride > 0, f"size={size}, samples={samples}, stride={stride}: use positive ones"
    )
    height, width = maps.shape[2:]
    corners = boxes.to(maps.dtype) / stride - 0.5  # in cells, 0 being the middle of the first
    steps = (torch.arange(size * samples, device=maps.device, dtype=maps.dtype) + 0.5) / (size * samples)
    across = corners[:, :1] + (corners[:, 2:3] - corners[:, :1]) * steps  # (N, P samples)
    down = corners[:, 1:2] + (corners[:, 3:] - corners[:, 1:2]) * steps
    columns = _weights(across, width)
    lines = _weights(down, height)
    means = functional.avg_pool1d  # of a bin's samples along one side; the product of both sides' is the bin's mean
    columns = means(columns.transpose(1, 2), samples).transpose(1, 2)  # (N, P, W)
    lines = means(lines.transpose(1, 2), samples).transpose(1, 2)  # (N, P, H)
    return lines, columns


def _weights(places: Tensor, length: int) -> Tensor:
    """Return what each of `length` cells gives to samples at places (N, S), in cells: (N, S, length)."""
    inside = (places >= -1.0) & (places <= length)
    cells = torch.arange(length, device=places.device, dtype=places.dtype)
    near = places.clamp(0.0, length - 1.0).unsqueeze(-1)
    return (1.0 - (near - cells).abs()).clamp_min(0.0) * inside.unsqueeze(-1)
