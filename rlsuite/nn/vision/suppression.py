"""Of boxes that overlap, the best one: greedy non-maximum suppression, for many pictures at once.

Shapes: B pictures, N boxes of each.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlsuite.metrics.boxes import box_iou


def suppress(boxes: Tensor, scores: Tensor, classes: Tensor, iou: float) -> Tensor:
    """Return which boxes are kept (B, N) bool: those that overlap no better one that is kept by more than `iou`.

    Of equal scores the first is the better one.

    Args:
        boxes: (B, N, 4).
        scores: (B, N).
        classes: (B, N); boxes of different ones leave each other alone.
        iou: see above.
    """
    order = scores.sort(dim=1, descending=True, stable=True).indices
    ranked, names = boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4)), classes.gather(1, order)
    over = (box_iou(ranked, ranked) > iou) & (names.unsqueeze(1) == names.unsqueeze(2))
    return torch.zeros_like(order, dtype=torch.bool).scatter(1, order, greedy(over))


def greedy(over: Tensor) -> Tensor:
    """Return what is kept (B, N) bool of things, the best first, where none may be "over" a better one that is kept.

    What the greedy rule says of a thing depends on better ones alone, so saying it of all at once, again and again, is
    right of the best n after n times, and then stays.

    Args:
        over: (B, N, N) bool, whether two things are too much alike.
    """
    over = over.triu(1)  # (B, better, worse)
    kept = torch.ones(over.shape[:2], dtype=torch.bool, device=over.device)
    while True:
        again = ~(over & kept.unsqueeze(2)).any(1)
        if torch.equal(again, kept):
            return kept
        kept = again
