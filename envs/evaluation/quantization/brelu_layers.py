"""The layers of a network that learns to be an integer one: bounded ReLUs, and weights on one step a layer.

Weights (arXiv:2006.11735, and the authors' code): BatchNorm is folded into them, one step s for the whole folded
tensor, s = max(|min| / 2^(k-1), max / (2^(k-1) - 1)), so of the layer's own weights each output has a step of its own,
s / gain. Folding first needs no floor under small gammas, and takes a negative one's sign into the weight. gamma and
the running statistics are frozen; weights and biases (beta) learn.

Shadow weights: the authors keep W_shadow beside the optimizer's W_q, and after each step add W - W_q to it. Here the
shadow is the parameter and gradients are taken at W_q, which gives the same numbers with any optimizer whose step
depends on gradients alone: all without weight decay.

Shapes: O outputs.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.folding import Norm, gain_of
from envs.evaluation.quantization.layer import OPERATIONS
from envs.evaluation.quantization.through import through

SMALLEST_STEP = 1e-12


class BoundedLayer(nn.Module):
    """A linear layer or convolution with the BatchNorm behind it in it, its weights quantized.

    Attributes:
        layer: the layer; its weight is the shadow copy, its bias is the folded one.
        gain: (O,) what BatchNorm multiplies outputs by, 1 without; it does not learn.
        step: () s.
        settled: () bool, whether s stays as it is; until then it follows the weights.

    Args:
        layer: of a type in OPERATIONS.
        norm: the BatchNorm behind it, if there is one.
        bits: k, of a weight.
    """

    gain: Tensor
    step: Tensor
    settled: Tensor

    @torch.no_grad()
    def __init__(self, layer: nn.Module, norm: Norm | None, bits: int) -> None:
        super().__init__()
        self.layer: Any = copy.deepcopy(layer)
        weight, self.weight_bits = self.layer.weight, bits
        gain, shift = torch.ones(len(weight), dtype=weight.dtype, device=weight.device), None
        if norm is not None:
            exact = gain_of(norm)
            gain, shift = exact.gain.to(weight.dtype), exact.shift.to(weight.dtype)
        bias = self.layer.bias if self.layer.bias is not None else torch.zeros_like(gain)
        self.layer.bias = nn.Parameter(bias.detach().clone() if shift is None else bias.detach() * gain + shift)
        self.register_buffer("gain", gain)
        self.register_buffer("step", torch.ones((), dtype=weight.dtype, device=weight.device))
        self.register_buffer("settled", torch.zeros((), dtype=torch.bool, device=weight.device))

    def folded_weight(self) -> Tensor:
        """Return gain W, differentiable."""
        weight = self.layer.weight
        return weight * self.gain.view(-1, *[1] * (weight.dim() - 1))

    @torch.no_grad()
    def follow_weights(self) -> None:
        """Let s reach the largest weight, unless it is settled; as a choice between numbers, so that nothing waits."""
        weight, half = self.folded_weight(), 2 ** (self.weight_bits - 1)
        reach = torch.maximum(weight.min().abs() / half, weight.max().abs() / (half - 1)).clamp_min(SMALLEST_STEP)
        self.step.copy_(torch.where(self.settled, self.step, reach))

    @torch.no_grad()
    def settle(self, step: float) -> None:
        """Give s its last value."""
        self.step.fill_(step)
        self.settled.fill_(True)

    @torch.no_grad()
    def codes(self) -> Tensor:
        """Return the whole numbers that folded weights become, in their shape and type."""
        half = 2 ** (self.weight_bits - 1)
        return (self.folded_weight() / self.step).round().clamp(-half, half - 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map what the layer and its BatchNorm map."""
        self.follow_weights()
        weight = through(self.codes() * self.step, self.folded_weight())
        return OPERATIONS[type(self.layer)](self.layer, inputs, weight)


class BoundedReLU(nn.Module):
    """clamp(x, 0, B) with a B that does not learn; ReLU while bounds are being measured.

    Attributes:
        bound: () B; infinite until it is set.
    """

    bound: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bound", torch.full((), float("inf")))
        self.quantile: float | None = None  # while it is being measured
        self.found: list[float] = []

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the input between 0 and B; gradients pass inside."""
        if self.quantile is not None:
            outputs = inputs.relu()
            self.found.append(upper_quantile(outputs, self.quantile))
            return outputs
        return torch.minimum(inputs.relu(), self.bound)


@torch.no_grad()
def upper_quantile(values: Tensor, share: float) -> float:
    """Return the value at rank round(share N) of all N, zeros counted, the smallest being rank 1."""
    flat = values.flatten()
    rank = min(max(round(share * flat.numel()), 1), flat.numel())
    return float(flat.kthvalue(rank).values)
