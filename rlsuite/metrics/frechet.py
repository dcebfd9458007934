"""How far two sets of examples lie apart, as Gaussians in a space of features.

Shapes: M examples, F features.
"""

from __future__ import annotations

from torch import Tensor
from torch.linalg import eigh, eigvalsh


def frechet_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the squared Frechet distance between Gaussians fitted to features, 0-d float64 (Dowson, Landau 1982).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), with the unbiased covariances S: Heusel et al. 2017's FID where the
    features are Inception's.

    Args:
        first: (M1, F), M1 >= 2.
        second: (M2, F), M2 >= 2.

    Raises:
        ValueError: if there are fewer than two examples, or other features.
    """
    if min(len(first), len(second)) < 2 or first.shape[1:] != second.shape[1:] or first.dim() != 2:
        raise ValueError(f"features of {tuple(first.shape)} and {tuple(second.shape)}: use (M, F), M of 2 or more")
    first, second = first.double(), second.double()
    moved = (first.mean(0) - second.mean(0)).square().sum()
    covariance, other = (_covariance(features) for features in (first, second))
    values, vectors = eigh(covariance)
    root = vectors * values.clamp_min(0.0).sqrt() @ vectors.T
    shared = eigvalsh(root @ other @ root).clamp_min(0.0).sqrt().sum()
    return moved + covariance.trace() + other.trace() - 2.0 * shared


def _covariance(features: Tensor) -> Tensor:
    centred = features - features.mean(0)
    return centred.T @ centred / (len(features) - 1)
