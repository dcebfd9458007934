"""How well objects are followed: overlap, distance, and whose identity was kept.

Shapes: B clips, T frames, O objects; boxes (..., 4) are x1, y1, x2, y2 in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlsuite.metrics.boxes import box_iou
from rlsuite.metrics.masks import mean_where


def success_auc(boxes: Tensor, truth: Tensor, valid: Tensor | None = None, thresholds: int = 21) -> Tensor:
    """Return the area under the success curve (B,), in [0, 1] (Wu et al. 2013, "Online object tracking").

    The mean, over `thresholds` evenly spaced ones from 0 to 1, of the share of frames whose IoU is above.

    Args:
        boxes: (B, T, 4), predicted.
        truth: (B, T, 4).
        valid: (B, T) bool, frames that count; NaN for a clip without any.
        thresholds: how many.
    """
    overlap = box_iou(boxes.unsqueeze(-2), truth.unsqueeze(-2)).flatten(2)  # (B, T, 1)
    above = (overlap > torch.linspace(0.0, 1.0, thresholds, device=overlap.device)).to(overlap.dtype)
    return mean_where(above.mean(dim=-1), valid)


def precision(boxes: Tensor, truth: Tensor, pixels: float, valid: Tensor | None = None) -> Tensor:
    """Return the share (B,) of frames in which the centres of both are at most `pixels` apart."""
    away = (box_centres(boxes) - box_centres(truth)).norm(dim=-1)
    return mean_where((away <= pixels).to(away.dtype), valid)


def nearest_objects(boxes: Tensor, objects: Tensor, seen: Tensor | None = None) -> Tensor:
    """Return whom each box (B, T, 4) follows, (B, T) int64: the object whose centre is nearest; -1 where none is seen.

    Args:
        boxes: predicted.
        objects: (B, T, O, 4), where all objects are.
        seen: (B, T, O) bool, which can be seen.
    """
    away = (box_centres(boxes).unsqueeze(-2) - box_centres(objects)).norm(dim=-1)
    if seen is None:
        return away.argmin(dim=-1)
    return torch.where(seen.any(dim=-1), away.masked_fill(~seen, torch.inf).argmin(dim=-1), -1)


def identity_switches(ids: Tensor) -> Tensor:
    """Return how often identities (B, T) int64 change, (B,) int64; frames of a negative one (nobody) are left out."""
    known = ids >= 0
    frames = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    last = torch.where(known, frames, -1).cummax(dim=1).values  # the last frame, up to each, with somebody
    before = torch.cat([torch.full_like(last[:, :1], -1), last[:, :-1]], dim=1)
    changed = ids != ids.gather(1, before.clamp_min(0))
    return (known & (before >= 0) & changed).sum(dim=1)


def box_centres(boxes: Tensor) -> Tensor:
    """Return the middles (..., 2) of boxes (..., 4)."""
    return 0.5 * (boxes[..., :2] + boxes[..., 2:])
