"""Weights and normalizations brought back to a fixed norm after each optimizer step, K members stacked.

Where a normalization follows, the scale of weights does not change the function, only the effective learning rate,
which would fall as they grow (Palenicek et al. 2025, XQC, arXiv:2509.25174).

Shapes: K members, I inputs, O outputs, H features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def project_columns(weight: Tensor) -> None:
    """Scale the weights into each output, the columns of (K, I, O), to norm 1, in place; columns of zeros stay."""
    # Not weight.norm(dim=1): over an axis that is not the last, torch's takes ten times as long on a CPU.
    weight.div_(weight.square().sum(dim=1, keepdim=True).sqrt_().clamp_min_(1e-8))


@torch.no_grad()
def project_affine(scale: Tensor, shift: Tensor | None = None) -> None:
    """Bring a normalization's scale and shift (K, 1, H), taken together, to norm sqrt(H), in place.

    That is the norm they begin with, scale 1 and shift 0 (FlashSAC, arXiv:2604.04539).
    """
    square = scale.square().sum(dim=-1, keepdim=True)
    if shift is not None:
        square = square + shift.square().sum(dim=-1, keepdim=True)
    factor = math.sqrt(scale.shape[-1]) * square.clamp_min(1e-16).rsqrt()
    scale.mul_(factor)
    if shift is not None:
        shift.mul_(factor)
