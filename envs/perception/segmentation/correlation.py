"""Who is who between two frames: how alike embeddings are, and where an object's features recur (CompFeat, figure 2).

Shapes: B batch, N objects of the current frame, M remembered ones, C channels, P bins a side, E embedding, H and W
sides of the frame's map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CorrelationScore(nn.Module):
    """Embeddings of objects, compared by their dot product; "new object" has the logit 0 (the base tracker's head).

    Args:
        channels: C.
        bins: P.
        width: E.
    """

    def __init__(self, channels: int, bins: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(channels * bins * bins, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, objects: Tensor, remembered: Tensor, known: Tensor) -> Tensor:
        """Return logits (B, N, 1 + M), the first of a new object; -1e9 where nothing is remembered.

        Args:
            objects: (B, N, C, P, P).
            remembered: (B, M, C, P, P).
            known: (B, M) bool, which of them there are.
        """
        own, others = (self.body(features.flatten(2)) for features in (objects, remembered))
        logits = (own @ others.transpose(1, 2)).masked_fill(~known.unsqueeze(1), -1e9)
        return torch.cat([torch.zeros_like(logits[..., :1]), logits], dim=2)


class CorrelationMap(nn.Module):
    """Where each remembered object is now: its features, slid over the frame channel by channel, then two convolutions.

    Args:
        channels: C.
        width: channels of the hidden convolution.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.adjust = nn.Conv2d(channels, channels, 3, padding=1)
        self.hidden = nn.Conv2d(channels, width, 3, padding=1)
        self.output = nn.Conv2d(width, 1, 1)

    def forward(self, frames: Tensor, remembered: Tensor) -> Tensor:
        """Return logits (B, M, H, W) of frames (B, C, H, W) for objects (B, M, C, P, P), P odd."""
        batch, count, channels, bins, _ = remembered.shape
        kernels = self.adjust(remembered.flatten(0, 1)).view(batch * count * channels, 1, bins, bins) / (bins * bins)
        repeated = frames.unsqueeze(1).expand(-1, count, -1, -1, -1).reshape(1, -1, *frames.shape[2:])
        found = functional.conv2d(repeated, kernels, padding=bins // 2, groups=batch * count * channels)
        found = found.view(batch * count, channels, *frames.shape[2:])
        return self.output(torch.relu(self.hidden(found))).view(batch, count, *frames.shape[2:])


def map_loss(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Return the 0-d cross-entropy of maps (B, M, H, W) with targets in {0, 1}; both kinds of cells weigh a half.

    Maps of objects that are not `known` (B, M) count for nothing. Balancing is our choice.
    """
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    counted = known[..., None, None].to(losses.dtype)
    there, elsewhere = (
        (losses * weights).sum() / weights.sum().clamp_min(1.0)
        for weights in (targets * counted, (1.0 - targets) * counted)
    )
    return 0.5 * (there + elsewhere)


def inside(boxes: Tensor, size: tuple[int, int], stride: float, shrink: float = 1.0) -> Tensor:
    """Return which cells' middles lie in boxes (B, N, 4) shrunk about their own: (B, N, H, W) bool."""
    middle, half = 0.5 * (boxes[..., :2] + boxes[..., 2:]), 0.5 * shrink * (boxes[..., 2:] - boxes[..., :2])
    low, high = (middle - half) / stride, (middle + half) / stride
    down, across = ((torch.arange(side, device=boxes.device) + 0.5).to(boxes.dtype) for side in size)
    rows = (down >= low[..., 1:]) & (down <= high[..., 1:])  # (B, N, H)
    columns = (across >= low[..., :1]) & (across <= high[..., :1])  # (B, N, W)
    return rows.unsqueeze(3) & columns.unsqueeze(2)


def map_likeness(logits: Tensor, boxes: Tensor, stride: float) -> Tensor:
    """Return the mean probability of each map (B, M, H, W) inside each box (B, N, 4): (B, N, M)."""
    cells = inside(boxes, (logits.shape[2], logits.shape[3]), stride).flatten(2).to(logits.dtype)
    return cells @ logits.sigmoid().flatten(2).transpose(1, 2) / cells.sum(dim=2, keepdim=True).clamp_min(1.0)
