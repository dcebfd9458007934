"""What the quantized layers of other methods are in whole numbers: integers, and what one of them stands for."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.balanced import BalancedWeights
from envs.evaluation.quantization.layer import PackedLayer
from envs.evaluation.quantization.max_scale import MaxScale
from envs.evaluation.quantization.rules import MaxAbsWeights, RangeInput, side_levels
from rlsuite.errors import UserError, require


class Codes(NamedTuple):
    """Whole numbers from low to high, kept as numbers less `shift` where they would not fit int8."""

    low: int
    high: int

    @property
    def shift(self) -> int:
        """128 of numbers up to 255, else 0."""
        return 128 if self.high > 127 else 0


def require_levels(path: str, layer: nn.Module) -> None:
    """Raise UserError, naming the layer and the fix, unless it computes with whole numbers times one scale."""
    first_last = "give it bits by places.first=8 places.last=8"
    require(isinstance(layer, PackedLayer), f"{path}: its weights are floats; {first_last}")
    assert isinstance(layer, PackedLayer)
    rule, given = layer.weight_rule, layer.input_rule
    require(
        given is not None, f"{path}: its inputs are floats; quantize them where it takes them in (placement=layers)"
    )
    known = isinstance(given, MaxScale) or (isinstance(given, RangeInput) and given.low == 0.0)
    require(
        known, f"{path}: its inputs have no fixed scale that starts at 0; use quantization/pams with max_scale=learned"
    )
    most = 8 if isinstance(rule, MaxAbsWeights) else 7
    require(isinstance(rule, MaxAbsWeights | BalancedWeights), f"{path}: its weights are no uniform levels")
    require(
        layer.weight_bits <= most and layer.input_bits <= 8, f"{path}: more than {most} bits of weights or 8 of inputs"
    )


def input_codes(layer: PackedLayer) -> Codes:
    """Return the whole numbers that a layer takes in."""
    return rule_codes(layer.input_rule)


def input_step(layer: PackedLayer) -> float:
    """Return what one of them stands for."""
    return rule_step(layer.input_rule)


def rule_codes(rule: Any) -> Codes:
    """Return the whole numbers that a layer's rule rounds what comes in to."""
    if isinstance(rule, MaxScale):
        side = side_levels(rule.bits)
        return Codes(-side, side)
    return Codes(0, 2**rule.bits - 1)


def rule_step(rule: Any) -> float:
    """Return what one of them stands for."""
    if isinstance(rule, MaxScale):
        return float(rule.scale(torch.zeros(1)).double()) / side_levels(rule.bits)
    assert isinstance(rule, RangeInput)
    return rule.high / (2**rule.bits - 1)


def input_integers(rule: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a layer takes in as whole numbers, floats still: those its rule rounds to."""
    if isinstance(rule, MaxScale):
        return rule.integers(inputs)[0]
    if isinstance(rule, RangeInput):
        return ((inputs.clamp(rule.low, rule.high) - rule.low) * ((2**rule.bits - 1) / (rule.high - rule.low))).round()
    raise UserError(f"{type(rule).__name__} has no whole numbers")


def weight_integers(layer: PackedLayer) -> tuple[Tensor, float]:
    """Return a layer's weights as whole numbers, int32, and what one of them stands for."""
    rule = layer.weight_rule
    if isinstance(rule, MaxAbsWeights):
        side = side_levels(rule.bits)
        return layer.integers() - side, float(layer.scale.double()) / side
    assert isinstance(rule, BalancedWeights)
    largest = 2**rule.bits - 1
    return 2 * layer.integers() - largest, float(layer.scale.double()) / largest
