"""Weights that make a recorded nuisance and the label independent, for examples that cannot be made anew.

w(z, y) = p(z) p(y) / p(z, y), of histograms (`itid.py`: the operator "decorrelate").

Shapes: M examples, Z values of the nuisance, Y labels.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 10.0  # weights are clipped
SMALLEST_SHARE = 0.1  # of examples that count; with fewer, weights hurt more than they help


def decorrelating(nuisance: Tensor, labels: Tensor, *, smoothing: float = 1.0, largest: float = LARGEST) -> Tensor:
    """Return weights (Z, Y) by nuisance and label.

    Args:
        nuisance: (M,) int64, from 0.
        labels: (M,) int64, from 0.
        smoothing: added to every count.
        largest: what weights are clipped at.
    """
    shape = int(nuisance.max()) + 1, int(labels.max()) + 1
    counts = torch.bincount(nuisance * shape[1] + labels, minlength=shape[0] * shape[1]).view(shape).double()
    joint = (counts + smoothing) / (counts + smoothing).sum()
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return (apart / joint.clamp_min(1e-12)).clamp_max(largest)


def effective_share(weights: Tensor) -> float:
    """Return the effective sample size (sum w)^2 / sum w^2 of weights (M,), as a share of M."""
    return float(weights.sum().square() / weights.square().sum() / len(weights))
