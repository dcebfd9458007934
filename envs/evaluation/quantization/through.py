"""The one autograd function of quantizers: the value is the quantized one, the gradient that of something smooth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def through(quantized: Tensor, smooth: Tensor) -> Tensor:
    """Return `quantized`, bit for bit, with the gradient of `smooth` (Bengio et al. 2013, straight-through).

    The usual ``smooth + (quantized - smooth).detach()`` rounds twice more, so that a network trained with it is not
    quite the one that is kept.

    Args:
        quantized: of any shape.
        smooth: of the same shape; what gradients flow to.
    """
    if not (torch.is_grad_enabled() and smooth.requires_grad):
        return quantized.detach()
    passed: Tensor = _Through.apply(smooth, quantized.detach())  # type: ignore[assignment]
    return passed


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, smooth: Tensor, quantized: Tensor) -> Tensor:  # type: ignore[override]
        return quantized.view_as(quantized)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None
