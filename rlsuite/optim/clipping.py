"""Gradient norms of networks that are trained side by side, each as if alone.

Shapes: K members; every gradient leads with K, or holds one value for all.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clip_members(gradients: list[Tensor], norm: float) -> list[Tensor]:
    """Return each member's gradients, tensors (K, ...), scaled down to a norm of its own."""
    squares = torch.stack([torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients])
    return _scale(gradients, torch.linalg.vector_norm(squares, dim=0), norm)


def clip_together(gradients: list[Tensor], norm: float) -> list[Tensor]:
    """Return gradients of any shapes scaled down to one norm of them all."""
    norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
    return _scale(gradients, torch.linalg.vector_norm(norms), norm)


def _scale(gradients: list[Tensor], found: Tensor, norm: float) -> list[Tensor]:
    factor = (norm / found.clamp_min(1e-12)).clamp_(max=1.0)
    return [
        gradient * (factor.view(-1, *[1] * (gradient.dim() - 1)) if factor.dim() else factor) for gradient in gradients
    ]
