"""How good masks and label maps are, and means over a part of a picture.

Shapes: B batch, H and W sides, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def mean_where(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return each row's mean (B,) of values (B, ...) where `valid` (B, ...) is true; NaN for a row without any."""
    if valid is None:
        return values.flatten(1).mean(dim=1)
    kept = torch.where(valid, values, torch.zeros_like(values)).flatten(1).sum(dim=1)
    return kept / valid.flatten(1).sum(dim=1)


def mask_iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return intersection over union (B,) of masks (B, ...) bool; 1 where both are empty."""
    both = (predicted & truth).flatten(1).sum(dim=1)
    either = (predicted | truth).flatten(1).sum(dim=1)
    return torch.where(either > 0, both / either.clamp_min(1), torch.ones_like(both, dtype=torch.float32))


def class_iou(predicted: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Return intersection over union (B, K) of each class in label maps (B, ...) int64; NaN for one in neither map."""
    first, second = (functional.one_hot(labels.flatten(1), num_classes) for labels in (predicted, truth))
    both = (first * second).sum(dim=1)
    return both / (first.sum(dim=1) + second.sum(dim=1) - both)
