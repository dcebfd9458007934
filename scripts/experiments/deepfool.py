"""DeepFool (Moosavi-Dezfooli, Fawzi and Frossard 2016, arXiv:1511.04599, algorithm 2): the least change, by lines.

What the haam experiment compares with: its changes are small and seldom carry over to other networks.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def deepfool(
    module: nn.Module,
    x: Tensor,
    label: Tensor,
    *,
    overshoot: float = 0.02,
    steps: int = 50,
    box: tuple[float, float] = (0.0, 1.0),
) -> Tensor:
    """Return inputs (B, ...) just beyond the nearest border between classes, in the box.

    Args:
        module: inputs to outputs (B, C).
        x: inputs (B, ...).
        label: their classes (B,).
        overshoot: how far past the border, as a share of the way to it.
        steps: linearizations at most.
        box: of inputs.
    """
    changed, way = x.clone(), torch.zeros_like(x)
    rows = torch.arange(len(x), device=x.device)
    for _ in range(steps):
        with torch.enable_grad():
            leaf = changed.detach().requires_grad_()
            output = module(leaf)
            above = output - output[rows, label][:, None]  # of the true class, 0
            slopes = torch.stack(
                [torch.autograd.grad(column.sum(), leaf, retain_graph=True)[0] for column in above.unbind(1)], dim=1
            )
        above = above.detach()
        standing = (above <= 0).all(1)
        if not standing.any():
            break
        length = slopes.flatten(2).norm(dim=2).clamp_min(1e-12)
        distance = (above.abs() + 1e-4) / length
        distance[rows, label] = torch.inf
        near = distance.argmin(1)
        step = (distance / length)[rows, near].view(-1, *[1] * (x.dim() - 1)) * slopes[rows, near]
        way = way + torch.where(standing.view(-1, *[1] * (x.dim() - 1)), step, 0.0)
        changed = (x + (1 + overshoot) * way).clamp(*box)
    return changed
