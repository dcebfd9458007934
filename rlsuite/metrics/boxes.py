"""How much boxes overlap.

Shapes: N and M boxes (x1, y1, x2, y2) in pixels, x1 <= x2 and y1 <= y2; leading axes are free.
"""

from __future__ import annotations

import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """Return the areas (..., N) of boxes (..., N, 4); 0 where a box is turned inside out."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(dim=-1)


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return intersection over union (..., N, M) of boxes (..., N, 4) with boxes (..., M, 4); 0 for two empty ones."""
    one, other = first.unsqueeze(-2), second.unsqueeze(-3)
    corners = [torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])]
    both = area(torch.cat(corners, dim=-1))
    either = area(one) + area(other) - both
    return torch.where(either > 0, both / either, torch.zeros_like(both))
