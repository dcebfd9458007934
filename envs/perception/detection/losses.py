"""What a dense detector is taught by: at each cell, which class has a middle there, and how far its box's sides are.

The rules are FoveaBox's (Kong et al. 2019, arXiv:1904.03797), which iffDetector builds on (arXiv:2006.12708): the
middle 0.4 of a box is positive, of several boxes the smallest one's; distances to the sides are learned as logarithms,
in units of the level's base edge. Cells in a box that is ignored teach no class.

One thing is ours: the cell that holds a box's middle is always positive, or tiny boxes, whose middle part holds no
cell's middle, would not be learned at all.

Shapes: B pictures, M objects (absent ones of class -1), L levels, P cells of all levels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.metrics.boxes import area

LEAST, LARGEST = 1.0 / 16.0, 16.0  # distances in base edges


class Cells(NamedTuple):
    """The cells of all levels: middles (P, 2) in pixels, strides (P,), base edges (P,), ranges of sizes (P, 2)."""

    middles: Tensor
    strides: Tensor
    edges: Tensor
    ranges: Tensor


class Targets(NamedTuple):
    """What cells should say: class (B, P) int64 (-1: none, -2: not asked), log distances (B, P, 4)."""

    classes: Tensor
    distances: Tensor


def make_targets(cells: Cells, boxes: Tensor, classes: Tensor, ignored: Tensor, share: float) -> Targets:
    """Return targets of cells.

    Args:
        cells: P of them.
        boxes: (B, M, 4).
        classes: (B, M) int64.
        ignored: (B, M) bool.
        share: of a box's sides that is positive, around its middle.
    """
    middle, half = 0.5 * (boxes[..., :2] + boxes[..., 2:]), 0.5 * (boxes[..., 2:] - boxes[..., :2])
    off = (cells.middles - middle.unsqueeze(2)).abs()  # (B, M, P, 2)
    near = torch.maximum(share * half.unsqueeze(2), (0.5 * cells.strides).view(-1, 1))
    size = area(boxes).sqrt().unsqueeze(2)
    of_level = (size >= cells.ranges[:, 0]) & (size <= cells.ranges[:, 1])
    there = (classes >= 0).unsqueeze(2)
    positive = (off <= near).all(-1) & of_level & there & ~ignored.unsqueeze(2)
    smallest = torch.where(positive, size, torch.inf).min(dim=1)
    found = smallest.values < torch.inf
    unasked = ((off <= half.unsqueeze(2)).all(-1) & there & ignored.unsqueeze(2)).any(1)
    names = torch.where(found, classes.gather(1, smallest.indices), torch.where(unasked, -2, -1))
    box = boxes.gather(1, smallest.indices.unsqueeze(-1).expand(-1, -1, 4))
    sides = torch.cat([cells.middles - box[..., :2], box[..., 2:] - cells.middles], dim=-1)
    return Targets(names, (sides / cells.edges.view(-1, 1)).clamp(LEAST, LARGEST).log())


def focal_loss(logits: Tensor, classes: Tensor, gamma: float = 1.5, alpha: float = 0.4) -> Tensor:
    """Return the focal loss (Lin et al. 2017, arXiv:1708.02002) of each picture (B,), a sum over cells and classes.

    Args:
        logits: (B, P, K).
        classes: (B, P) int64; -1 for none, -2 is left out.
        gamma: how much less is learned of what is known already.
        alpha: weight of cells with an object; others have 1 - alpha.
    """
    truth = functional.one_hot(classes.clamp_min(-1) + 1, logits.shape[-1] + 1)[..., 1:].to(logits)
    cross = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    wrong = torch.where(truth > 0, torch.sigmoid(-logits), torch.sigmoid(logits))
    weight = torch.where(truth > 0, alpha, 1.0 - alpha) * (classes > -2).unsqueeze(-1)
    return (weight * wrong**gamma * cross).flatten(1).sum(1)


def detection_losses(
    maps: Sequence[Tensor], targets: Targets, gamma: float = 1.5, alpha: float = 0.4, beta: float = 0.11
) -> dict[str, Tensor]:
    """Return 0-d "classes" and "boxes": focal loss over positive cells plus pictures, smooth L1 over positive cells.

    Args:
        maps: of each level, (B, K + 4, h, w).
        targets: of all levels' cells.
        gamma: of the focal loss.
        alpha: likewise.
        beta: where smooth L1 turns straight.
    """
    said = torch.cat([one.flatten(2).transpose(1, 2) for one in maps], dim=1)
    logits, distances = said[..., :-4], said[..., -4:]
    positive = targets.classes >= 0
    count = positive.sum()
    off = functional.smooth_l1_loss(distances, targets.distances, reduction="none", beta=beta).sum(-1)
    return {
        "classes": focal_loss(logits, targets.classes, gamma, alpha).sum() / (count + len(logits)),
        "boxes": (off * positive).sum() / count.clamp_min(1),
    }
