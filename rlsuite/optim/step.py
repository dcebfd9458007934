"""An optimizer's step with gradients that autograd.grad returned; the one place where ranks average theirs.

Shapes: K members of stacked networks.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from rlsuite.distributed import ranks
from rlsuite.optim.clipping import clip_members, clip_together


def take_step(
    optimizer: torch.optim.Optimizer,
    parameters: Iterable[Tensor],
    gradients: Iterable[Tensor],
    norm: float = 0.0,
    *,
    by_member: bool = False,
) -> None:
    """Let the optimizer step with these gradients, one for each parameter, averaged over the ranks and then clipped.

    Fused optimizers on a CPU read a gradient's memory in order, whatever its strides: one that lies transposed, or with
    channels last as convolutions may return it, would move the wrong weights, and nothing would say so.

    Args:
        optimizer: of the parameters.
        parameters: in the gradients' order.
        gradients: of this rank's share of a minibatch.
        norm: what they are scaled down to; 0 for not.
        by_member: each member's, of tensors that lead with K, has this norm; else they have it together.
    """
    gradients = ranks().averaged(list(gradients))
    if norm:
        gradients = (clip_members if by_member else clip_together)(gradients, norm)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.contiguous()
    optimizer.step()
