"""What a tracker remembers of what it has seen: samples of the first stage, and of the second.

All of it is tensors with one row a tracker, written in place; whoever calls owns them. Rates and shares of the first
stage's memory are ATOM's (Danelljan et al. 2019, arXiv:1811.07628), the family that Cascaded Regression Tracking
(arXiv:2006.10336) belongs to; the second stage's memory is our choice.

Shapes: B trackers, n of them; N samples of the first stage, F + 1 frames of M positives, R negatives, d features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.perception.tracking.ridge import ridge, sample_weights, targets_of
from rlsuite.metrics.boxes import box_iou

State = dict[str, Tensor]


def remember(state: State, rows: Tensor, features: Tensor, labels: Tensor, rates: Tensor, first: int) -> None:
    """Put one sample of the first stage where the lightest one is; the first frame's `first` ones always stay.

    Args:
        state: with "samples" (B, N, Q, h, h), "labels" (B, N, h + 1, h + 1) and "sample_weights" (B, N).
        rows: (n,), whose.
        features: (n, Q, h, h), projected.
        labels: (n, h + 1, h + 1).
        rates: (n,), r: the new sample weighs 1 / (1 - r) times what the one before it does, the first of all r.
        first: samples of the first frame; together they keep a quarter of the weight at least.
    """
    weights = state["sample_weights"][rows]
    slot = first + weights[:, first:].argmin(dim=1)
    newest = weights[:, first:].amax(dim=1)  # of the last one, since each outweighs the one before it
    new = torch.where(newest > 0, newest / (1.0 - rates), rates)
    weights = weights.scatter(1, slot.unsqueeze(1), new.unsqueeze(1))
    weights = weights / weights.sum(dim=1, keepdim=True)
    old = weights[:, :first].sum(dim=1, keepdim=True)
    scale = torch.cat([(0.25 / old).expand(-1, first), (0.75 / (1.0 - old)).expand(-1, weights.shape[1] - first)], 1)
    state["sample_weights"][rows] = torch.where(old < 0.25, weights * scale, weights)
    state["samples"][rows, slot] = features
    state["labels"][rows, slot] = labels


def accept(state: State, rows: Tensor, features: Tensor, boxes: Tensor, accepted: Tensor) -> None:
    """Put samples around an accepted target in the place of the oldest frame's; the first frame's always stay.

    Args:
        state: with "positives" (B, F + 1, M, d), "positive_targets" and "positive_there" (B, F + 1, M), and "accepted"
            (B,), of how many frames there ever were.
        rows: (n,), whose.
        features: (n, M, d).
        boxes: (n, M, 4), of these samples.
        accepted: (n, 4), the target's box.
    """
    count, others = state["accepted"][rows], state["positives"].shape[1] - 1
    slot = torch.where(count > 0, 1 + (count - 1).remainder(others), 0)
    state["positives"][rows, slot] = features
    state["positive_targets"][rows, slot] = targets_of(box_iou(boxes, accepted.unsqueeze(1)).squeeze(-1))
    state["positive_there"][rows, slot] = True
    state["accepted"][rows] = count + 1


def reject(state: State, rows: Tensor, features: Tensor, there: Tensor) -> None:
    """Put samples of distractors in the place of the oldest ones.

    Args:
        state: with "negatives" (B, R, d), "negative_there" (B, R) and "rejected" (B,), how many there ever were.
        rows: (n,), whose.
        features: (n, m, d); m at most R.
        there: (n, m) bool, which of them are to be kept.
    """
    room = state["negatives"].shape[1]
    count = state["rejected"][rows]
    place = count.unsqueeze(1) + there.long().cumsum(dim=1) - 1
    slot = torch.where(there, place.remainder(room), room)  # the others go to a slot that is dropped
    spare = torch.zeros_like(features[:, :1])
    kept = torch.cat([state["negatives"][rows], spare], dim=1)
    kept.scatter_(1, slot.unsqueeze(-1).expand_as(features), features)
    state["negatives"][rows] = kept[:, :room]
    used = torch.cat([state["negative_there"][rows], torch.zeros_like(there[:, :1])], dim=1)
    used.scatter_(1, slot, True)
    state["negative_there"][rows] = used[:, :room]
    state["rejected"][rows] = count + there.sum(dim=1)


def solve(state: State, rows: Tensor, regularization: Tensor) -> None:
    """Compute the ridge regression "ridge" (B, d) of some trackers anew, from all that they remember."""
    positives, negatives = state["positives"][rows], state["negatives"][rows]
    there, bad = state["positive_there"][rows], state["negative_there"][rows]
    good, none = sample_weights(there, bad)
    state["ridge"][rows] = ridge(
        torch.cat([positives.flatten(1, 2), negatives], dim=1),
        torch.cat([state["positive_targets"][rows].flatten(1), torch.zeros_like(none)], dim=1),
        torch.cat([good.flatten(1), none], dim=1),
        regularization,
    )
