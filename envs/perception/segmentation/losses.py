"""CompFeat's losses: detection, classes, boxes, masks, and two of identity; all weigh 1, as in the base tracker.

Shapes: B batch, N objects, K classes, H and W sides of a picture, h and w of its map.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.segmentation.network import STRIDE, proposals
from rlsuite.nn.vision.roi_align import roi_align

MASK_SIDE = 28


def mean_of(values: Tensor, present: Tensor) -> Tensor:
    """Return the 0-d mean of values (B, N) over objects that are there; 0, and no NaN, without any."""
    return (values * present).sum() / present.sum().clamp_min(1)


def class_loss(logits: Tensor, labels: Tensor, present: Tensor) -> Tensor:
    """Return the cross-entropy of logits (B, N, K) with labels (B, N)."""
    return mean_of(functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none"), present)


def box_loss(shifts: Tensor, boxes: Tensor, truth: Tensor, present: Tensor) -> Tensor:
    """Return the smooth L1 distance of shifts (B, N, 4) from what brings boxes to the truth (B, N, 4)."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp_min(1.0)
    wanted = (truth - boxes) / torch.cat([sides, sides], dim=-1)
    return mean_of(functional.smooth_l1_loss(shifts, wanted, reduction="none", beta=0.1).mean(dim=2), present)


def middle_loss(found: Tensor, boxes: Tensor, present: Tensor) -> Tensor:
    """Return the loss of the map of middles (B, 5, h, w): focal (Zhou et al. 2019), and L1 of boxes at the middles.

    A cell's target falls off with its distance from a middle as a Gaussian of a sixth of the box's side.
    """
    height, width = found.shape[2:]
    middles, sides = 0.5 * (boxes[..., :2] + boxes[..., 2:]) / STRIDE, (boxes[..., 2:] - boxes[..., :2]) / STRIDE
    across = torch.arange(width, device=found.device) + 0.5 - middles[..., :1]  # (B, N, w)
    down = torch.arange(height, device=found.device) + 0.5 - middles[..., 1:]
    spread = (sides / 6.0).clamp_min(0.5)
    near = torch.exp(-0.5 * (across / spread[..., :1]).square()).unsqueeze(2)
    near = near * torch.exp(-0.5 * (down / spread[..., 1:]).square()).unsqueeze(3)  # (B, N, h, w)
    targets = (near * present[..., None, None]).amax(dim=1)
    column, row = middles[..., 0].long().clamp(0, width - 1), middles[..., 1].long().clamp(0, height - 1)
    cell = row * width + column  # (B, N)
    at = torch.zeros_like(targets).flatten(1).scatter_reduce(1, cell, present.to(targets.dtype), "amax").bool()
    at = at.view_as(targets)
    logits = found[:, 0]
    share = logits.sigmoid()
    right = -functional.logsigmoid(logits) * (1.0 - share).square()
    wrong = -functional.logsigmoid(-logits) * share.square() * (1.0 - targets).pow(4)
    focal = torch.where(at, right, wrong).sum() / present.sum().clamp_min(1)
    told = proposals(found)[1].flatten(2).gather(2, cell.unsqueeze(1).expand(-1, 4, -1)).transpose(1, 2)
    side = torch.cat([sides, sides], dim=-1) * STRIDE
    return focal + mean_of(((told - boxes) / side.clamp_min(1.0)).abs().mean(dim=2), present)


def mask_loss(logits: Tensor, labels: Tensor, masks: Tensor, present: Tensor) -> Tensor:
    """Return the cross-entropy of the true class's mask of logits (B, N, K, 28, 28) with masks (B, N, 28, 28)."""
    index = labels.view(*labels.shape, 1, 1, 1).expand(-1, -1, 1, *logits.shape[3:])
    own = logits.gather(2, index).squeeze(2)
    losses = functional.binary_cross_entropy_with_logits(own, masks, reduction="none")
    return mean_of(losses.mean(dim=(2, 3)), present)


def own_masks(owner: Tensor, boxes: Tensor) -> Tensor:
    """Return which part of boxes (B, N, 4) their objects show in, (B, N, 28, 28), by owners (B, H, W) of pixels."""
    batch, count = boxes.shape[:2]
    own = owner.unsqueeze(1) == torch.arange(count, device=owner.device).view(1, -1, 1, 1)
    rows = torch.arange(batch * count, device=owner.device)
    cut = roi_align(own.flatten(0, 1).unsqueeze(1).to(boxes.dtype), boxes.flatten(0, 1), rows, MASK_SIDE, samples=1)
    return cut.view(batch, count, MASK_SIDE, MASK_SIDE)


def score_loss(logits: Tensor, partner: Tensor, present: Tensor) -> Tensor:
    """Return the cross-entropy of logits (B, N, 1 + M) with whom each object was, `partner` (B, N): 0 for a new one."""
    return mean_of(functional.cross_entropy(logits.transpose(1, 2), partner, reduction="none"), present)
