"""How alike two orders of the same things are.

Shapes: B batch, n things; scores (B, n).
"""

from __future__ import annotations

import torch
from torch import Tensor


def kendall_tau(first: Tensor, second: Tensor) -> Tensor:
    """Return Kendall's tau-b (B,) of scores (B, n), from -1 to 1, ties corrected; NaN where all of one are equal.

    It compares all pairs: n^2 numbers of memory a row.
    """
    one = torch.sign(first.unsqueeze(2) - first.unsqueeze(1)).double()
    other = torch.sign(second.unsqueeze(2) - second.unsqueeze(1)).double()
    untied = one.abs().sum(dim=(1, 2)) * other.abs().sum(dim=(1, 2))
    return (one * other).sum(dim=(1, 2)) / untied.sqrt()


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Return Spearman's rank correlation (B,) of scores (B, n), equal scores sharing their mean rank; NaN as above."""
    one, other = (ranks(scores) for scores in (first, second))
    one, other = (one - one.mean(dim=1, keepdim=True), other - other.mean(dim=1, keepdim=True))
    return (one * other).sum(dim=1) / (one.square().sum(dim=1) * other.square().sum(dim=1)).sqrt()


def ranks(scores: Tensor) -> Tensor:
    """Return the ranks (B, n) float64 of scores (B, n), from 1 for the smallest; equal ones share their mean rank."""
    ordered = scores.contiguous().sort(dim=1).values
    scores = scores.contiguous()
    below = torch.searchsorted(ordered, scores)
    up_to = torch.searchsorted(ordered, scores, right=True)
    return (below + up_to + 1).double() / 2


def separation(negative: Tensor, positive: Tensor) -> Tensor:
    """Return how often a positive's score (m,) is above a negative's (n,), ties counting half: the area under the ROC.

    0-d float64; 0.5 where scores say nothing, NaN where there are none of either.
    """
    together = ranks(torch.cat([negative, positive]).double().unsqueeze(0)).squeeze(0)[len(negative) :]
    above = together.sum() - len(positive) * (len(positive) + 1) / 2
    return above / (len(positive) * len(negative)) if len(positive) and len(negative) else above * torch.nan


def average_precision(scores: Tensor, positive: Tensor) -> Tensor:
    """Return the mean precision at the places of the positives, best scores first: 0-d float64, NaN without positives.

    Equal scores count as one place, so the order of the things does not matter.

    Args:
        scores: (n,).
        positive: (n,) bool.
    """
    order = scores.sort(descending=True, stable=True).indices
    ordered, right = scores[order], positive[order].double()
    last = torch.searchsorted(-ordered.contiguous(), -ordered.contiguous(), right=True) - 1  # of those with this score
    precision = (right.cumsum(0) / torch.arange(1, len(right) + 1, device=right.device))[last]
    return (precision * right).sum() / right.sum()
