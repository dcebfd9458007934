"""How well objects of a video are segmented and followed: average precision of masks over time.

An object's masks over all frames are one thing, a tube; two tubes overlap by their pixels' intersection over union over
the whole video (Yang, Fan & Xu 2019, "Video instance segmentation", arXiv:1905.04804, section 3).

Shapes: P predicted tubes, G true ones, T frames, H and W sides, n thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlsuite.metrics.boxes import area, box_iou

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


class Tubes(NamedTuple):
    """Objects of one video.

    Attributes:
        masks: (P, T, H, W) bool.
        labels: (P,) int64.
        scores: (P,), how sure each is; all ones for true tubes.
    """

    masks: Tensor
    labels: Tensor
    scores: Tensor


def tubes_of(tracks: Tensor, labels: Tensor, scores: Tensor) -> Tubes:
    """Return the tubes of identities (T, H, W), -1 for none, by each identity's label and score (I,)."""
    identities = tracks[tracks >= 0].unique()
    masks = tracks.unsqueeze(0) == identities.view(-1, 1, 1, 1)
    return Tubes(masks, labels[identities], scores[identities])


def tube_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the overlap (P, G) of masks (P, T, H, W) with masks (G, T, H, W); 0 for two empty ones."""
    one, other = first.flatten(1).double(), second.flatten(1).double()
    both = one @ other.T
    either = one.sum(dim=1).unsqueeze(1) + other.sum(dim=1) - both
    return torch.where(either > 0, both / either.clamp_min(1.0), torch.zeros_like(both))


def tube_precision(
    found: Sequence[Tubes], truth: Sequence[Tubes], thresholds: Sequence[float] = THRESHOLDS, most: int = 10
) -> tuple[Tensor, Tensor]:
    """Return average precision and recall (n,) at overlaps of so much or more, means over the classes there are.

    Args:
        found: of each video.
        truth: of each video, in the same order.
        thresholds: n overlaps.
        most: tubes a video and class that count, the surest first.
    """
    classes = torch.cat([one.labels for one in truth]).unique()
    precisions, recalls = [], []
    for label in classes:
        right, scores = [], []
        for one, other in zip(found, truth, strict=True):
            mine = torch.nonzero(one.labels == label).flatten()
            mine = mine[one.scores[mine].sort(descending=True, stable=True).indices][:most]
            right.append(_matched(tube_iou(one.masks[mine], other.masks[other.labels == label]), thresholds))
            scores.append(one.scores[mine])
        order = torch.cat(scores).sort(descending=True, stable=True).indices
        count = sum(int((other.labels == label).sum()) for other in truth)
        precision, recall = _curve(torch.cat(right, dim=1)[:, order], count)
        precisions.append(precision)
        recalls.append(recall)
    return torch.stack(precisions).mean(dim=0), torch.stack(recalls).mean(dim=0)


def _matched(overlap: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Return which tubes, surest first, match a true one still free, (n, P) bool; overlap (P, G)."""
    right = torch.zeros(len(thresholds), len(overlap), dtype=torch.bool)
    for row, threshold in enumerate(thresholds):
        free = torch.ones(overlap.shape[1], dtype=torch.bool)
        for tube in range(len(overlap)):
            best, which = torch.where(free, overlap[tube], -1.0).max(dim=0) if len(free) else (torch.tensor(-1.0), 0)
            if best >= threshold:
                right[row, tube], free[which] = True, False
    return right


def _curve(right: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return average precision at 101 recalls, and recall, (n,) each, of verdicts (n, P) on `count` true tubes."""
    hits = right.double().cumsum(dim=1)
    recall = hits / count
    precision = hits / torch.arange(1, right.shape[1] + 1)
    precision = precision.flip(1).cummax(dim=1).values.flip(1)  # never rises with recall
    asked = torch.linspace(0.0, 1.0, 101, dtype=torch.float64).expand(len(right), -1).contiguous()
    place = torch.searchsorted(recall.contiguous(), asked)
    padded = torch.cat([precision, torch.zeros(len(right), 1, dtype=torch.float64)], dim=1)
    last = recall[:, -1] if right.shape[1] else torch.zeros(len(right), dtype=torch.float64)
    return padded.gather(1, place).mean(dim=1), last


def tubelet_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the overlap (..., P, G) of boxes that move, (..., P, T, 4) and (..., G, T, 4): the mean over frames.

    A frame in which either has an empty box counts 0; one in which both have counts for nothing.
    """
    one, other = first.transpose(-3, -2), second.transpose(-3, -2)  # (..., T, P, 4)
    overlap = box_iou(one, other)
    there = (area(one) > 0).unsqueeze(-1) | (area(other) > 0).unsqueeze(-2)
    return overlap.sum(dim=-3) / there.sum(dim=-3).clamp_min(1)
