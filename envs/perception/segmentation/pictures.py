"""Boxes and masks of many pictures at once.

Shapes: B pictures, D boxes, P side of a mask, H and W sides of a picture.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.metrics.boxes import box_iou


def unsuppressed(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Return which boxes (B, D, 4) no stronger one that stays overlaps by more than `overlap`: (B, D) bool.

    Greedy non-maximum suppression; equal scores go by their order. The loop is over D alone.
    """
    order = scores.sort(dim=1, descending=True, stable=True).indices
    ordered = boxes.gather(1, order.unsqueeze(2).expand(-1, -1, 4))
    over = box_iou(ordered, ordered) > overlap
    stays = torch.ones_like(scores, dtype=torch.bool)
    for place in range(1, scores.shape[1]):
        stays[:, place] = ~(over[:, place, :place] & stays[:, :place]).any(dim=1)
    return torch.zeros_like(stays).scatter(1, order, stays)


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
