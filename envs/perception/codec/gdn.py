"""Generalized divisive normalization (Balle, Laparra & Simoncelli 2016, arXiv:1511.06281), and bounds that learn.

Shapes: B batch, C channels, H and W sides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

BETA_MIN, GAMMA_INIT, OFFSET = 1e-6, 0.1, 2.0**-18


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, bound: float) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(values)
        ctx.bound = bound
        return values.clamp_min(bound)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (values,) = ctx.saved_tensors
        return gradient * ((values >= ctx.bound) | (gradient < 0.0)), None


def lower_bound(values: Tensor, bound: float) -> Tensor:
    """Return values of `bound` or more; what lies below still learns to rise (a clamp's gradient would be 0 there)."""
    found: Tensor = _LowerBound.apply(values, bound)  # type: ignore[assignment]
    return found


class GDN(nn.Module):
    """Divides each channel by sqrt(beta + gamma @ squares of all channels), or multiplies by it.

    beta and gamma are kept as roots and squared, with a small offset (the paper's appendix): both stay positive and
    learn evenly.

    Args:
        channels: C.
        inverse: multiply ("IGDN").
    """

    def __init__(self, channels: int, inverse: bool = False) -> None:
        super().__init__()
        self.inverse = inverse
        pedestal = OFFSET**2
        self.beta = nn.Parameter(torch.full((channels,), 1.0 + pedestal).sqrt())
        self.gamma = nn.Parameter((GAMMA_INIT * torch.eye(channels) + pedestal).sqrt())

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        pedestal = OFFSET**2
        beta = lower_bound(self.beta, (BETA_MIN + pedestal) ** 0.5).square() - pedestal
        gamma = lower_bound(self.gamma, OFFSET).square() - pedestal
        norm = functional.conv2d(inputs.square(), gamma.unsqueeze(-1).unsqueeze(-1), beta)
        return inputs * norm.sqrt() if self.inverse else inputs * norm.rsqrt()
