"""An optimizer's step with gradients that autograd.grad returned."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from rlsuite.optim.clipping import clip_together


def take_step(
    optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor], gradients: Iterable[Tensor], norm: float = 0.0
) -> None:
    """Let the optimizer step with these gradients, one for each parameter, scaled down to a norm of them all; 0: not.

    Fused optimizers on a CPU read a gradient's memory in order, whatever its strides: one that lies transposed, or with
    channels last as convolutions may return it, would move the wrong weights, and nothing would say so.
    """
    if norm:
        gradients = clip_together([gradient.clone() for gradient in gradients], norm)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.contiguous()
    optimizer.step()
