"""Residual blocks with BatchNorm, or with weight normalization and TReLU, and how networks draw their first weights.

Shapes: B batch, H and W sides of a picture.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.nn.vision.doors import Site


class TReLU(nn.Module):
    """Translated ReLU: max(x, alpha) with a learned alpha, 0 at first (Xiang & Li 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return relu(x - alpha) + alpha, any shape."""
        shifted: Tensor = _TranslatedReLU.apply(inputs, self.alpha)  # type: ignore[assignment]
        return shifted


class _TranslatedReLU(torch.autograd.Function):
    """relu(x - alpha) + alpha, with one sum for alpha's gradient: in bfloat16 a tenth of the time of autograd's own."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, alpha: Tensor) -> Tensor:  # type: ignore[override]
        alpha = alpha.to(inputs.dtype)
        above = torch.relu_(inputs - alpha)
        ctx.save_for_backward(above)
        return above + alpha

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        (above,) = ctx.saved_tensors
        # Itself differentiable, as the gradient penalty needs.
        passed = torch.ops.aten.threshold_backward(gradient, above, 0)
        return passed, (gradient - passed).sum(dtype=torch.float32).reshape(1)


class WeightNormConv2d(nn.Conv2d):
    """A convolution whose filters' directions (`weight`) and lengths (`scale`) are learned apart."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding)
        self.scale = nn.Parameter(_filter_norms(self.weight.detach()))

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H', W')."""
        return self._conv_forward(input, self.effective_weight(), self.bias)

    def effective_weight(self) -> Tensor:
        """Return what the convolution computes with, (outputs, inputs, kernel, kernel)."""
        return self.weight * (self.scale / _filter_norms(self.weight))


def _filter_norms(weight: Tensor) -> Tensor:
    return weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def normalized_convolution(inputs: int, outputs: int, kernel: int, stride: int, *, batch_norm: bool) -> nn.Module:
    """Return a convolution followed by BatchNorm, or a weight-normalized one, that keeps the sides at stride 1."""
    padding = kernel // 2
    if not batch_norm:
        return WeightNormConv2d(inputs, outputs, kernel, stride, padding)
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, the shortcut a 1x1 convolution where the shape changes (He et al. 2016).

    Its sites: the input, the branch and the shortcut before the sum, and the sum before the last activation.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, *, batch_norm: bool) -> None:
        super().__init__()
        conv = functools.partial(normalized_convolution, batch_norm=batch_norm)
        self.first, self.second = conv(inputs, outputs, 3, stride), conv(outputs, outputs, 3, 1)
        changes = stride != 1 or inputs != outputs
        self.shortcut = conv(inputs, outputs, 1, stride) if changes else nn.Identity()
        self.inner, self.outer = activation(batch_norm), activation(batch_norm)
        self.input = Site("input", inputs)
        self.branch, self.skip, self.sum = Site("branch", outputs), Site("skip", outputs), Site("sum", outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride), rounded up."""
        inputs = self.input(inputs)
        branch = self.branch(self.second(self.inner(self.first(inputs))))
        return self.outer(self.sum(branch + self.skip(self.shortcut(inputs))))


def activation(batch_norm: bool) -> nn.Module:
    """Return the activation that goes with BatchNorm, or with weight normalization."""
    return nn.ReLU() if batch_norm else TReLU()


def stages(
    inputs: int, widths: tuple[int, ...], strides: tuple[int, ...], *, batch_norm: bool, depth: int = 2
) -> nn.Sequential:
    """Return stages of `depth` basic blocks each; the first of a stage has its stride and changes the width."""
    blocks: list[nn.Module] = []
    for outputs, stride in zip(widths, strides, strict=True):
        for place in range(depth):
            blocks.append(BasicBlock(inputs, outputs, 1 if place else stride, batch_norm=batch_norm))
            inputs = outputs
    return nn.Sequential(*blocks)


@torch.no_grad()
def draw_weights(module: nn.Module, seed: int, gain: float = 1.0) -> None:
    """Draw the weights of all convolutions and linear layers anew: normal, `gain` times He's deviation; biases 0.

    The draws are a stream of their own, so equal seeds give equal bits, whatever torch's own generator has done. A
    layer with a method `draw(generator)` draws its own numbers by it.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if callable(draw := getattr(layer, "draw", None)):
            draw(generator)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and hasattr(layer, "weight"):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            layer.weight.mul_(gain)
            if layer.bias is not None:
                layer.bias.zero_()
        if isinstance(layer, WeightNormConv2d):
            layer.scale.copy_(_filter_norms(layer.weight))
