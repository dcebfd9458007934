"""Layers that compute with quantized weights and inputs: one that learns, and one that holds packed codes alone.

What a kind of layer does with a given weight stands in OPERATIONS; a new kind is a line there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.quantization.codes import pack, unpack
from envs.evaluation.quantization.rules import FLOAT_BITS, InputRule, WeightRule

Operation = Callable[[Any, Tensor, Tensor], Tensor]


def _linear(layer: nn.Linear, inputs: Tensor, weight: Tensor) -> Tensor:
    return functional.linear(inputs, weight, layer.bias)


def _convolve(layer: nn.Conv2d, inputs: Tensor, weight: Tensor) -> Tensor:
    return layer._conv_forward(inputs, weight, layer.bias)


# By exact type: a subclass may compute its weights from others, as weight-normalized convolutions do.
OPERATIONS: dict[type, Operation] = {nn.Linear: _linear, nn.Conv2d: _convolve}


def quantizable(module: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that can be quantized by their paths, in the order in which they were made."""
    return {
        path: part
        for path, part in module.named_modules()
        if path and type(part) in OPERATIONS and getattr(part, "weight", None) is not None  # a packed layer's has none
    }


class _WithRules(nn.Module):
    """What both layers share: the layer's shapes and bias, its rules, and the bits that probes ask for."""

    def __init__(self, layer: nn.Module, weight_rule: WeightRule | None, input_rule: InputRule | None, bits: int):
        super().__init__()
        self.layer, self.weight_rule, self.input_rule = layer, weight_rule, input_rule
        self.weight_bits = FLOAT_BITS if weight_rule is None else weight_rule.bits
        self.input_bits = bits if input_rule is None else input_rule.bits

    def run(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """Return what the layer makes of inputs with another weight than its own."""
        if self.input_rule is not None:
            inputs = self.input_rule(inputs)
        return OPERATIONS[type(self.layer)](self.layer, inputs, weight)


class QuantizedLayer(_WithRules):
    """A layer that learns while it computes with quantized numbers. Its bias stays as it is.

    Args:
        layer: of a type in OPERATIONS.
        weight_rule: of its weights; None leaves them floats.
        input_rule: of its inputs; None takes them as they come.
        input_bits: bits of inputs that come quantized already.
    """

    def __init__(
        self,
        layer: nn.Module,
        weight_rule: WeightRule | None,
        input_rule: InputRule | None = None,
        *,
        input_bits: int = FLOAT_BITS,
    ) -> None:
        if type(layer) not in OPERATIONS:
            raise TypeError(f"{type(layer).__name__} has no line in OPERATIONS")
        super().__init__(layer, weight_rule, input_rule, input_bits)

    @property
    def learned_weight(self) -> Tensor:
        """The layer's float weights."""
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, inputs: Tensor) -> Tensor:
        """Map what the layer maps."""
        weight = self.learned_weight
        return self.run(inputs, weight if self.weight_rule is None else self.weight_rule.quantize(weight))


class PackedLayer(_WithRules):
    """A layer that has learned: its weights are packed codes and a scale, and it gives the bits that it gave before.

    Attributes:
        codes: (ceil(weight_bits * num_weights / 8),) uint8.
        scale: as the weight rule has it.
        num_weights: that the codes stand for.
        weight: their values, computed from codes and scale and in no file.

    Args:
        learned: the layer as it was, with a weight rule; it is left alone.
    """

    codes: Tensor
    scale: Tensor
    weight: Tensor

    @torch.no_grad()
    def __init__(self, learned: QuantizedLayer) -> None:
        rule, weight = learned.weight_rule, learned.learned_weight
        if rule is None:
            raise TypeError("a layer of float weights cannot be packed")
        layer = copy.deepcopy(learned.layer)
        del layer.weight
        super().__init__(layer, rule, copy.deepcopy(learned.input_rule), learned.input_bits)
        self.weight_shape, self.num_weights = tuple(weight.shape), weight.numel()
        codes, scale = rule.codes(weight)
        self.register_buffer("codes", pack(codes, rule.bits))
        self.register_buffer("scale", scale.clone())
        self.register_buffer("weight", rule.values(self.integers(), self.scale), persistent=False)

    def integers(self) -> Tensor:
        """Return the codes in the weights' shape, int32."""
        return unpack(self.codes, self.weight_bits, self.weight_shape)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map what the layer maps."""
        return self.run(inputs, self.weight)

    def _load_from_state_dict(self, *arguments: Any, **keywords: Any) -> None:
        super()._load_from_state_dict(*arguments, **keywords)
        assert self.weight_rule is not None
        self.weight = self.weight_rule.values(self.integers(), self.scale)


def pack_layers(module: nn.Module) -> nn.Module:
    """Put packed layers in the places of those that have learned; return the same module."""
    for path, part in list(module.named_modules()):
        if isinstance(part, QuantizedLayer) and part.weight_rule is not None:
            module.set_submodule(path, PackedLayer(part))
    return module
