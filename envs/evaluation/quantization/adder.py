"""Layers that measure distances instead of multiplying (Chen et al. 2020, arXiv:1912.13200).

    Y = -sum |X - F|

over each patch X and filter F (equation 2). Padding takes part: a padded 0 gives |F|. Outputs are never above 0, so a
normalization must follow. The gradients are not those of this function (equations 5, 6, 11 and 12): a filter's is
X - F itself, an input's is F - X clamped to [-1, 1], and the whole filter gradient of a layer is scaled to a common
size before any weight decay: eta sqrt(k) / |G|, k its elements. With gradients accumulated over several backward
passes the scale would be each one's, not the sum's.

Shapes: B batch, C channels, P patches, O filters, n weights of each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.quantization.layer import effective_weight
from rlsuite.errors import require

GRADIENTS = ("full", "sign")
ETA = 0.2
SMALLEST_NORM = 1e-12
AT_ONCE = 2**16  # numbers of an intermediate result: what a core's cache holds


def distances(patches: Tensor, filters: Tensor, eta: float = ETA, gradient: str = "full") -> Tensor:
    """Return -sum |X - F| (P, O), with AdderNet's gradients.

    Args:
        patches: X (P, n).
        filters: F (O, n).
        eta: of the local learning rate; 0 leaves gradients of filters as they are.
        gradient: "full", or "sign" for the function's own, the paper's baseline.
    """
    found: Tensor = _Distances.apply(patches, filters, eta, gradient)  # type: ignore[assignment]
    return found


class _Distances(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, patches: Tensor, filters: Tensor, eta: float, gradient: str) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(patches, filters)
        ctx.eta, ctx.gradient = eta, gradient
        return -torch.cdist(patches, filters, p=1.0)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # type: ignore[override]
        patches, filters = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        if ctx.gradient == "sign":
            by_patch, by_filter = _sign_gradients(patches, filters, upstream)
        else:
            by_patch = _clamped_gradient(patches, filters, upstream) if wanted[0] else None
            by_filter = upstream.T @ patches - filters * upstream.sum(0).unsqueeze(1)
        if ctx.eta:
            by_filter = by_filter * (ctx.eta * by_filter.numel() ** 0.5 / by_filter.norm().clamp_min(SMALLEST_NORM))
        return by_patch, by_filter if wanted[1] else None, None, None


def _clamped_gradient(patches: Tensor, filters: Tensor, upstream: Tensor) -> Tensor:
    """Return sum_t g_t clamp(F_t - X, -1, 1), (P, n)."""
    found = torch.zeros_like(patches)
    rows = max(1, AT_ONCE // patches.shape[1])
    for part, own, weight in zip(patches.split(rows), found.split(rows), upstream.split(rows), strict=True):
        difference = torch.empty_like(part)
        for place, each in enumerate(filters):
            torch.sub(each, part, out=difference).clamp_(-1.0, 1.0)
            own.addcmul_(difference, weight[:, place, None])
    return found


def _sign_gradients(patches: Tensor, filters: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    by_patch, by_filter = torch.zeros_like(patches), torch.zeros_like(filters)
    for place, each in enumerate(filters):
        signed = (each - patches).sign_().mul_(upstream[:, place, None])
        by_patch += signed
        by_filter[place] = -signed.sum(0)
    return by_patch, by_filter


class AdderLayer(nn.Module):
    """A linear layer or convolution of distances. It has no bias: a normalization follows.

    Attributes:
        weight: (O, n...) learned; the layer's own until `draw`.
        terms: n, of each output's sum.

    Args:
        layer: nn.Linear or nn.Conv2d without groups, padded with zeros; it is left alone.
        eta: see `distances`.
        gradient: see `distances`.

    Raises:
        UserError: for another layer.
    """

    def __init__(self, layer: nn.Module, *, eta: float = ETA, gradient: str = "full") -> None:
        super().__init__()
        require(isinstance(layer, nn.Linear | nn.Conv2d), f"{type(layer).__name__} has no form without products")
        self.eta, self.gradient = eta, gradient
        self.weight = nn.Parameter(effective_weight(layer).detach().clone())
        self.terms = self.weight[0].numel()
        self.shape: dict[str, Any] = {}
        if isinstance(layer, nn.Conv2d):
            plain = layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
            require(
                plain, "a convolution with groups, or padded otherwise than with zeros, has no form without products"
            )
            self.shape = {name: getattr(layer, name) for name in ("dilation", "padding", "stride")}

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Draw weights anew: normal with deviation 1, whatever their number (the authors' code)."""
        self.weight.copy_(torch.randn(self.weight.shape, generator=generator))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, O, H', W'), or (B, n) to (B, O); never above 0."""
        if not self.shape:
            return distances(inputs, self.weight, self.eta, self.gradient)
        kernel = self.weight.shape[2:]
        patches = functional.unfold(inputs, kernel, **self.shape)  # (B, n, places)
        height, width = (
            (size + 2 * pad - step * (side - 1) - 1) // move + 1
            for size, pad, step, side, move in zip(
                inputs.shape[2:],
                *(self.shape[name] for name in ("padding", "dilation")),
                kernel,
                self.shape["stride"],
                strict=True,
            )
        )
        rows = patches.transpose(1, 2).reshape(-1, self.terms)
        found = distances(rows, self.weight.flatten(1), self.eta, self.gradient)
        return found.view(len(inputs), height, width, -1).permute(0, 3, 1, 2)
