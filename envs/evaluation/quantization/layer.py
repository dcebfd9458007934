"""Layers that compute with quantized weights and inputs: one that learns, and one that holds packed codes alone.

What a kind of layer does with a given weight stands in OPERATIONS, and in EFFECTIVE how it comes by its weight where
that is no parameter of this name; a new kind is a line there. Weights are seen with their outputs first, (O, I, ...),
those of K stacked members as (K, O, I): each member is quantized for itself, its inputs, too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.quantization.rules import FLOAT_BITS, InputRule, WeightRule
from rlsuite.nn.ensemble import EnsembleLinear, cut
from rlsuite.nn.vision.blocks import WeightNormConv2d
from rlsuite.nn.weight_norm import EnsembleWeightNormLinear

Operation = Callable[..., Tensor]


def _linear(layer: nn.Linear, inputs: Tensor, weight: Tensor) -> Tensor:
    return functional.linear(inputs, weight, layer.bias)


def _convolve(layer: nn.Conv2d, inputs: Tensor, weight: Tensor) -> Tensor:
    return layer._conv_forward(inputs, weight, layer.bias)


def _stacked(layer: Any, inputs: Tensor, weight: Tensor, members: slice | None = None) -> Tensor:
    bias, weight = cut(layer.bias, members), cut(weight, members).transpose(1, 2)
    return torch.baddbmm(bias.to(inputs.dtype), inputs, weight.to(inputs.dtype))


# By exact type: a subclass may compute its weights from others.
OPERATIONS: dict[type, Operation] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolve,
    WeightNormConv2d: _convolve,
    EnsembleLinear: _stacked,
    EnsembleWeightNormLinear: _stacked,
}
STACKED = (EnsembleLinear, EnsembleWeightNormLinear)


class Effective(NamedTuple):
    """How a layer comes by the weight it computes with: a function of the layer, and the parameters that go into it."""

    weight: Callable[[Any], Tensor]
    parameters: tuple[str, ...]


PLAIN = Effective(lambda layer: layer.weight, ("weight",))
EFFECTIVE: dict[type, Effective] = {
    WeightNormConv2d: Effective(lambda layer: layer.effective_weight(), ("weight", "scale")),
    EnsembleLinear: Effective(lambda layer: layer.weight.transpose(1, 2), ("weight",)),
    EnsembleWeightNormLinear: Effective(lambda layer: layer.weight().transpose(1, 2), ("direction", "scale")),
}


def effective_weight(layer: nn.Module) -> Tensor:
    """Return the weight that a layer computes with, outputs first, with gradients."""
    return EFFECTIVE.get(type(layer), PLAIN).weight(layer)


def quantizable(module: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that can be quantized by their paths, in the order in which they were made."""
    return {
        path: part
        for path, part in module.named_modules()
        if path and type(part) in OPERATIONS and _has_weights(part)  # a packed layer's shell has none
    }


def _has_weights(layer: nn.Module) -> bool:
    names = EFFECTIVE.get(type(layer), PLAIN).parameters
    return all(getattr(layer, name, None) is not None for name in names)


class _WithRules(nn.Module):
    """What both layers share: the layer's shapes and bias, its rules, and the bits that probes ask for."""

    def __init__(self, layer: nn.Module, weight_rule: WeightRule | None, input_rule: nn.Module | None, bits: int):
        super().__init__()
        self.layer, self.weight_rule, self.input_rule = layer, weight_rule, input_rule
        self.stacked = isinstance(layer, STACKED)
        self._input_bits = bits

    @property
    def weight_bits(self) -> int:
        """Bits of a weight; 32 of floats."""
        return FLOAT_BITS if self.weight_rule is None else self.weight_rule.bits

    @property
    def mean_weight_bits(self) -> float:
        """The mean over outputs of the bits of a weight; 32 of floats."""
        return FLOAT_BITS if self.weight_rule is None else self.weight_rule.mean_bits

    @property
    def input_bits(self) -> int:
        """Bits of an input; 32 of floats."""
        rule = self.input_rule[0] if isinstance(self.input_rule, nn.ModuleList) else self.input_rule
        return rule.bits if isinstance(rule, InputRule) else self._input_bits

    def run(self, inputs: Tensor, weight: Tensor, members: slice | None = None) -> Tensor:
        """Return what the layer makes of inputs with another weight than its own."""
        operation = OPERATIONS[type(self.layer)]
        if not self.stacked:
            return operation(self.layer, inputs if self.input_rule is None else self.input_rule(inputs), weight)
        if isinstance(self.input_rule, nn.ModuleList):
            rules = list(self.input_rule)[slice(None) if members is None else members]
            inputs = torch.stack([rule(each) for rule, each in zip(rules, inputs, strict=True)])
        return operation(self.layer, inputs, weight, members)


class QuantizedLayer(_WithRules):
    """A layer that learns while it computes with quantized numbers. Its bias stays as it is.

    Args:
        layer: of a type in OPERATIONS.
        weight_rule: of its weights; None leaves them floats. One with parameters of its own is for one layer, not for
            a stack.
        input_rule: of its inputs; None takes them as they come. Each member of a stack gets a copy.
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
        rules: nn.Module | None = input_rule
        if isinstance(layer, STACKED):
            if isinstance(weight_rule, nn.Module):
                raise TypeError("the members of a stack cannot share a weight rule that learns")
            members = effective_weight(layer).shape[0]
            rules = input_rule and nn.ModuleList(copy.deepcopy(input_rule) for _ in range(members))
        super().__init__(layer, weight_rule, rules, input_bits)

    @property
    def learned_weight(self) -> Tensor:
        """The float weights that the layer would compute with, outputs first."""
        return effective_weight(self.layer)

    def quantized_weight(self) -> Tensor:
        """Return what the layer computes with, with gradients."""
        weight = self.learned_weight
        if self.weight_rule is None:
            return weight
        if self.stacked:
            return torch.stack([self.weight_rule.quantize(member) for member in weight])
        return self.weight_rule.quantize(weight)

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Map what the layer maps; `members` of a stack runs only those."""
        return self.run(inputs, self.quantized_weight(), members)


class PackedLayer(_WithRules):
    """A layer that has learned: its weights are packed codes and a scale, and it gives the bits that it gave before.

    Attributes:
        codes: uint8, as the weight rule packs them: (ceil(weight_bits * num_weights / 8),).
        scale: as the weight rule has it; of a stack (K, ...), each member's.
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
        weight = learned.learned_weight
        if learned.weight_rule is None:
            raise TypeError("a layer of float weights cannot be packed")
        rule, layer = learned.weight_rule.fixed(), copy.deepcopy(learned.layer)
        for name in EFFECTIVE.get(type(layer), PLAIN).parameters:
            delattr(layer, name)
        super().__init__(layer, rule, copy.deepcopy(learned.input_rule), learned._input_bits)
        self.weight_shape, self.num_weights = tuple(weight.shape), weight.numel()
        if self.stacked:
            codes, scale = (torch.stack(each) for each in zip(*map(rule.codes, weight), strict=True))
        else:
            codes, scale = rule.codes(weight)
        self.register_buffer("codes", rule.pack(codes))
        self.register_buffer("scale", scale.clone())
        self.register_buffer("weight", self._values(rule), persistent=False)

    def integers(self) -> Tensor:
        """Return the codes in the weights' shape, int32."""
        assert self.weight_rule is not None
        return self.weight_rule.unpack(self.codes, self.weight_shape)

    def _values(self, rule: WeightRule) -> Tensor:
        codes = rule.unpack(self.codes, self.weight_shape)
        if self.stacked:
            return torch.stack([rule.values(*member) for member in zip(codes, self.scale, strict=True)])
        return rule.values(codes, self.scale)

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Map what the layer maps; `members` of a stack runs only those."""
        return self.run(inputs, self.weight, members)

    def refresh(self) -> None:
        """Compute the weights anew after codes or scale were changed."""
        assert self.weight_rule is not None
        self.weight = self._values(self.weight_rule)

    def _load_from_state_dict(self, *arguments: Any, **keywords: Any) -> None:
        super()._load_from_state_dict(*arguments, **keywords)
        self.refresh()


def pack_layers(module: nn.Module) -> nn.Module:
    """Put packed layers in the places of those that have learned; return the same module."""
    for path, part in list(module.named_modules()):
        if isinstance(part, QuantizedLayer) and part.weight_rule is not None:
            module.set_submodule(path, PackedLayer(part))
    return module
