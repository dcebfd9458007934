"""How much boxes overlap.

Shapes: N and M boxes (x1, y1, x2, y2) in pixels, x1 <= x2 and y1 <= y2; leading axes are free.
"""

from __future__ import annotations

import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """Return the areas (..., N) of boxes (..., N, 4); 0 where a box is turned inside out."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(dim=-1)


def intersection(first: Tensor, second: Tensor) -> Tensor:
    """Return the areas (..., N, M) that boxes (..., N, 4) share with boxes (..., M, 4)."""
    one, other = first.unsqueeze(-2), second.unsqueeze(-3)
    corners = [torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])]
    return area(torch.cat(corners, dim=-1))


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return intersection over union (..., N, M) of boxes (..., N, 4) with boxes (..., M, 4); 0 for two empty ones."""
    both = intersection(first, second)
    either = area(first).unsqueeze(-1) + area(second).unsqueeze(-2) - both
    return torch.where(either > 0, both / either, torch.zeros_like(both))


def box_iod(first: Tensor, second: Tensor) -> Tensor:
    """Return the share (..., N, M) of each of boxes (..., N, 4) that lies in boxes (..., M, 4); 0 of an empty one."""
    both, own = intersection(first, second), area(first).unsqueeze(-1)
    return torch.where(own > 0, both / own, torch.zeros_like(both))
