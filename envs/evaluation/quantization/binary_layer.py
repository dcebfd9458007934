"""Layers of signs: how inputs become signs, what a layer is once it has learned, and the two ways it computes.

Outputs are whole sums of products of signs, times a scale a filter, plus the bias. The sums are exact in float32 as in
integers (up to 2^24 terms; of convolutions that multiply and add, as torch's on a CPU do), so both backends, and the
layer that learned, give the same bits.

Shapes: B batch, O filters, n weights of a filter.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.binary import clipped_sign, sharpened_sign, signs, xnor_conv2d, xnor_linear
from envs.evaluation.quantization.codes import pack_signs, unpack_signs
from envs.evaluation.quantization.layer import EFFECTIVE, OPERATIONS, PLAIN, STACKED, effective_weight
from envs.evaluation.quantization.rules import FLOAT_BITS, InputRule
from envs.evaluation.quantization.through import through
from rlsuite.errors import require

BACKENDS = ("float", "popcount")
SMALLEST_DEVIATION = 1e-8


class SignInput(InputRule):
    """Inputs by their signs.

    Args:
        centred: subtract each example's mean over all it has, so that inputs behind a ReLU have both signs
            (arXiv:2009.13055, the authors' code). The deviation the code also divides by does not change a sign: it
            counts in the gradient alone, and what is deployed compares with the mean.

    Attributes:
        sharpness: t of the gradient; None for that of the clipped identity.
    """

    def __init__(self, *, centred: bool) -> None:
        super().__init__(1)
        self.centred = centred
        self.sharpness: float | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """Return signs (B, ...), with gradients."""
        if not self.centred:
            return self._signs(inputs)
        mean, deviation = _moments(inputs)
        centred = inputs - mean
        if not (torch.is_grad_enabled() and inputs.requires_grad):
            return signs(centred)
        # The signs of the centred values: dividing might make a small one zero.
        return through(signs(centred.detach()), self._signs(centred / deviation))

    def _signs(self, values: Tensor) -> Tensor:
        return clipped_sign(values) if self.sharpness is None else sharpened_sign(values, self.sharpness, 1.0)


class StandardizedInput(InputRule):
    """Float inputs less their example's mean, by its deviation: what 1-bit weights see beside 32-bit activations."""

    def __init__(self) -> None:
        super().__init__(FLOAT_BITS)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return standardized inputs (B, ...)."""
        mean, deviation = _moments(inputs)
        return (inputs - mean) / deviation


def _moments(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return each example's mean and (unbiased) deviation over all that it has, (B, 1, ...) both."""
    every = tuple(range(1, inputs.dim()))
    mean, deviation = inputs.mean(every, keepdim=True), inputs.std(every, keepdim=True)
    return mean, deviation.clamp_min(SMALLEST_DEVIATION)


def by_filter(numbers: Tensor, layer: nn.Module) -> Tensor:
    """Return a number a filter (O,) in the shape in which it multiplies a layer's outputs."""
    return numbers.view(-1, 1, 1) if isinstance(layer, nn.Conv2d) else numbers


def without_weights(layer: nn.Module) -> tuple[nn.Module, Tensor, nn.Parameter | None]:
    """Return a copy of a layer that has neither weights nor bias, the weight it computed with, and its bias.

    Raises:
        UserError: for stacked layers, whose members have no weights of their own here.
        TypeError: for a layer that OPERATIONS does not know.
    """
    if type(layer) not in OPERATIONS:
        raise TypeError(f"{type(layer).__name__} has no line in OPERATIONS")
    require(not isinstance(layer, STACKED), "stacked layers have no binary form; use the plain layers of one policy")
    weight = effective_weight(layer).detach().clone()
    layer = copy.deepcopy(layer)
    bias = layer.bias
    for name in EFFECTIVE.get(type(layer), PLAIN).parameters:
        delattr(layer, name)
    layer.register_parameter("bias", None)
    return layer, weight, bias if isinstance(bias, nn.Parameter) else None


class BinaryLayer(nn.Module):
    """A layer of signs that has learned: a bit a weight, a scale a filter.

    Attributes:
        codes: (ceil(O n / 8),) uint8, the packed signs; a set bit is +1.
        scale: (O,) or ().
        weight: the signs, float32, computed from the codes and in no file.
        num_weights: that the codes stand for.
        backend: "float" convolves signs as floats; "popcount" counts bits, on the CPU, and takes signs alone.

    Args:
        layer: without weights and bias, as `without_weights` returns it.
        weight: (the weights' shape) whose signs are kept.
        scale: (O,), or () where a layer has one.
        bias: (O,), or None.
        input_rule: what happens to inputs before; None takes floats as they come.
    """

    codes: Tensor
    scale: Tensor
    weight: Tensor

    @torch.no_grad()
    def __init__(
        self, layer: nn.Module, weight: Tensor, scale: Tensor, bias: Tensor | None, input_rule: InputRule | None
    ) -> None:
        super().__init__()
        self.layer, self.input_rule, self.backend = copy.deepcopy(layer), copy.deepcopy(input_rule), "float"
        self.weight_bits, self.input_bits = 1, FLOAT_BITS if input_rule is None else input_rule.bits
        self.weight_shape, self.num_weights = tuple(weight.shape), weight.numel()
        self.register_buffer("codes", pack_signs(weight))
        self.register_buffer("scale", scale.detach().clone())
        self.register_buffer("weight", self.unpacked(), persistent=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def unpacked(self) -> Tensor:
        """Return the signs in the weights' shape, float32."""
        return unpack_signs(self.codes, self.weight_shape)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map what the layer maps."""
        if self.input_rule is not None:
            inputs = self.input_rule(inputs)
        return scaled(self.sums(inputs), self.layer, self.scale, self.bias)

    def sums(self, inputs: Tensor) -> Tensor:
        """Return the layer's sums for inputs that are signs already, or floats where it takes these."""
        layer: Any = self.layer
        if self.backend == "float":
            return OPERATIONS[type(layer)](layer, inputs, self.weight)
        if isinstance(layer, nn.Linear):
            return xnor_linear(inputs, self.weight).to(inputs.device)
        shape = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
        return xnor_conv2d(inputs, self.weight, **shape).to(inputs.device)

    def use(self, backend: str) -> None:
        """Compute by another backend from now on.

        Raises:
            ValueError: if there is none such, or it cannot compute this layer.
        """
        if backend not in BACKENDS:
            raise ValueError(f"backend={backend}: use {' or '.join(BACKENDS)}")
        padding, mode = getattr(self.layer, "padding", 0), getattr(self.layer, "padding_mode", "zeros")
        if backend == "popcount" and (self.input_bits != 1 or mode != "zeros" or isinstance(padding, str)):
            raise ValueError("backend=popcount: it needs inputs of 1 bit, and padding with so many zeros")
        self.backend = backend

    def _load_from_state_dict(self, *arguments: Any, **keywords: Any) -> None:
        super()._load_from_state_dict(*arguments, **keywords)
        self.weight = self.unpacked()


def scaled(sums: Tensor, layer: nn.Module, scale: Tensor, bias: Tensor | None) -> Tensor:
    """Return a layer's sums times its scale, plus its bias: the float arithmetic of all layers of signs."""
    outputs = sums * by_filter(scale, layer)
    return outputs if bias is None else outputs + by_filter(bias, layer)


def use_backend(module: nn.Module, backend: str) -> nn.Module:
    """Let all layers of signs of a network compute by one backend; return the same module."""
    for part in module.modules():
        if isinstance(part, BinaryLayer):
            part.use(backend)
    return module
