"""An optimizer's step with gradients that autograd.grad returned."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def take_step(optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor], gradients: Iterable[Tensor]) -> None:
    """Let the optimizer step with these gradients, one for each parameter.

    Fused optimizers on a CPU read a gradient's memory in order, whatever its strides: one that lies transposed, or with
    channels last as convolutions may return it, would move the wrong weights, and nothing would say so.
    """
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.contiguous()
    optimizer.step()
