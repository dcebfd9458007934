"""Ridge regression in closed form, differentiable, and what the tracker's second stage asks of it.

Cascaded Regression Tracking (arXiv:2006.10336) scores its few remaining candidates by such a regression. The abstract,
all of it that could be read, names neither targets nor weights; those here are ours, and say so.

Shapes: n samples, d features; leading axes are free.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ridge(samples: Tensor, targets: Tensor, weights: Tensor, regularization: Tensor | float) -> Tensor:
    """Return w (..., d) that makes sum(c (Z w - y)^2) + l |w|^2 least.

    Solved by Cholesky in float64: (Z'DZ + l I) w = Z'Dy where d <= n, else through the n by n matrix
    (D^.5 Z Z' D^.5 + l I), which is Z Z' + l D^-1 with its rows and columns scaled, so that a weight may be 0.

    Args:
        samples: Z (..., n, d).
        targets: y (..., n).
        weights: c (..., n), 0 or more; a sample of weight 0 is not there.
        regularization: l, above 0; 1e-3 or more keeps few samples well conditioned.
    """
    root = weights.double().sqrt().unsqueeze(-1)
    rows, wanted = samples.double() * root, targets.double().unsqueeze(-1) * root
    count, size = samples.shape[-2:]
    across = rows.mT
    matrix = across @ rows if size <= count else rows @ across
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    factor = torch.linalg.cholesky(matrix + torch.as_tensor(regularization).to(matrix) * eye)
    if size <= count:
        found = torch.cholesky_solve(across @ wanted, factor)
    else:
        found = across @ torch.cholesky_solve(wanted, factor)
    return found.squeeze(-1).to(samples.dtype)


def targets_of(overlap: Tensor, certain: float = 0.7, none: float = 0.3, width: float = 0.2) -> Tensor:
    """Return what a sample's score shall be, any shape, for its IoU with the target's box (our choice).

    1 from `certain` on, 0 up to `none`, between them exp(-(1 - IoU)^2 / (2 width^2)).
    """
    between = torch.exp(-((1.0 - overlap) ** 2) / (2.0 * width**2))
    return torch.where(overlap >= certain, 1.0, torch.where(overlap <= none, 0.0, between))


def sample_weights(positives: Tensor, negatives: Tensor, first_share: float = 0.25) -> tuple[Tensor, Tensor]:
    """Return weights of samples, of mean 1: positives and negatives weigh the same together (our choice).

    Args:
        positives: (B, F, M) bool, M samples of each of F frames that are there; frame 0 is the first one.
        negatives: (B, n) bool, which are there.
        first_share: of the positives' weight that the first frame has at least.

    Returns:
        (B, F, M) and (B, n); where there is no negative, positives have all.
    """
    frames = positives.any(dim=-1).to(torch.float32)
    others = frames[:, 1:].sum(dim=1, keepdim=True)
    first = (1.0 / (1.0 + others)).clamp_min(first_share)
    share = torch.cat([first, frames[:, 1:] * (1.0 - first) / others.clamp_min(1.0)], dim=1)
    each = share.unsqueeze(-1) * positives / positives.sum(dim=-1, keepdim=True).clamp_min(1)
    bad = negatives.sum(dim=1, keepdim=True)
    count = positives.flatten(1).sum(dim=1, keepdim=True) + bad
    half = torch.where(bad > 0, 0.5, 1.0)
    ours = each * (half * count).unsqueeze(-1)
    return ours, negatives * ((1.0 - half) * count / bad.clamp_min(1))
