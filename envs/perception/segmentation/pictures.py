"""Masks of objects put back into their pictures.

Shapes: B pictures, D boxes, P side of a mask, H and W sides of a picture.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def pasted(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return masks (B, D, P, P) of boxes (B, D, 4) in their places in pictures: (B, D, H, W), 0 outside."""
    height, width = size
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp_min(1e-3)
    across = (torch.arange(width, device=boxes.device) + 0.5 - boxes[..., :1]) / sides[..., :1] * 2.0 - 1.0
    down = (torch.arange(height, device=boxes.device) + 0.5 - boxes[..., 1:2]) / sides[..., 1:] * 2.0 - 1.0
    shape = (*masks.shape[:2], height, width)
    places = torch.stack([across.unsqueeze(2).expand(shape), down.unsqueeze(3).expand(shape)], dim=-1)
    found = functional.grid_sample(masks.flatten(0, 1).unsqueeze(1), places.flatten(0, 1), align_corners=False)
    return found.view(shape)
