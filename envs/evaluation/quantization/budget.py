"""What widths cost, and how widths that are learned come to meet a budget (arXiv:2007.02017).

Shapes: L is 1 for one width a layer and O for one an output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.fractional import FractionalInput, FractionalWeights
from envs.evaluation.quantization.layer import PackedLayer

# A unit: the key it is given by and what one of it is; and the authors' unit, for a cost that is not relative.
UNITS = {"bytes": ("kilobytes", 1e3, 1e6), "bit_operations": ("bit_operations", 1.0, 1e9)}
Width = float | Tensor


class Costs(NamedTuple):
    """What a layer's cost is made from: how many weights, outputs, biases it has, and MACs for one example."""

    weights: int
    outputs: int
    biases: int
    macs: int


def total(unit: str, costs: Mapping[str, Costs], weights: Mapping[str, Width], inputs: Mapping[str, Width]) -> Width:
    """Return the cost of quantized layers; fractions of bits cost fractions, with gradients.

    Args:
        unit: "bytes" (biases have 4 each) or "bit_operations" (MACs times both widths).
        costs: by path.
        weights: bits of weights by path, (L,) or one number.
        inputs: bits of inputs by path.
    """
    found: Width = 0.0
    for path, one in costs.items():
        width = weights[path]
        width = width.mean() if isinstance(width, Tensor) else width
        if unit == "bytes":
            found = found + one.weights * width / 8.0 + 4 * one.biases
        else:
            found = found + one.macs * width * inputs[path]
    return found


def uniform_width(cost: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Return the width, fractions included, at which a rising cost meets the target."""
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if cost(middle) < target else (low, middle)
    return 0.5 * (low + high)


def nearest_offset(cost: Callable[[float], float], target: float, *, tolerance: float, trials: int) -> float:
    """Return the offset in [-1, 1] whose cost is the nearest to the target of those that a bisection tries.

    It tries 0 first, and ends where the cost is within the tolerance.
    """
    low, high, found = -1.0, 1.0, (float("inf"), 0.0)
    for _ in range(trials):
        middle = 0.5 * (low + high)
        value = cost(middle)
        found = min(found, (abs(value / target - 1.0), middle))
        if found[0] <= tolerance:
            break
        low, high = (low, middle) if value > target else (middle, high)
    return found[1]


class LearnedCost:
    """The cost of a network while its widths are learned, and their rounding.

    Args:
        module: the network.
        plan: FracBits's, with "costs", "target" and "inputs".
        unit: a key of UNITS.
        config: FracBits's numbers.
    """

    def __init__(self, module: nn.Module, plan: Mapping[str, Any], unit: str, config: Any) -> None:
        self.costs = {path: Costs(*each) for path, each in plan["costs"].items()}
        self.layers: dict[str, Any] = {path: module.get_submodule(path) for path in self.costs}
        self.target, self.unit, self.config, self.share = float(plan["target"]), unit, config, 0.0

    def cost(self) -> Tensor:
        """Return the cost now, ()."""
        return self._of(lambda own: own())

    def penalty(self) -> Tensor:
        """Return what the loss has of it: nothing while it does not count yet, nor once widths are whole."""
        cost = self.cost()
        if self.hard or self.share < self.config.warm_up:
            return torch.zeros_like(cost)
        off = (cost - self.target).abs()
        return self.config.kappa * off / (self.target if self.config.relative else UNITS[self.unit][2])

    @property
    def hard(self) -> bool:
        """Whether widths are whole."""
        return all(own.hard for own in self._learned())

    def at_share(self, step: int, share: float) -> None:
        """Round the widths when their share of the learning is over: a hook of `fit`."""
        self.share = share
        if share < self.config.harden_at or self.hard:
            return
        config = self.config

        def rounded(offset: float) -> float:
            return float(self._of(lambda own: own.rounded(offset)))

        offset = nearest_offset(rounded, self.target, tolerance=config.tolerance, trials=config.trials)
        for own in self._learned():
            own.harden(offset)

    def _learned(self) -> Iterator[Any]:
        for layer in self.layers.values():
            for rule in (layer.weight_rule, layer.input_rule):
                if isinstance(rule, FractionalWeights | FractionalInput):
                    yield rule.own

    def _of(self, read: Callable[[Any], Tensor]) -> Tensor:
        weights: dict[str, Width] = {}
        inputs: dict[str, Width] = {}
        for path, layer in self.layers.items():
            rule = layer.weight_rule
            weights[path] = read(rule.own) if isinstance(rule, FractionalWeights) else layer.weight_bits
            rule = layer.input_rule
            inputs[path] = read(rule.own)[0] if isinstance(rule, FractionalInput) else layer.input_bits
        return torch.as_tensor(total(self.unit, self.costs, weights, inputs))


def table(module: nn.Module, plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return path -> "macs", "weight_bits" (width -> outputs that have it), "input_bits" and "bytes" of a network.

    Args:
        module: that FracBits made, finished.
        plan: of its last step.
    """
    found = {}
    for path, each in plan["costs"].items():
        costs, layer = Costs(*each), module.get_submodule(path)
        assert isinstance(layer, PackedLayer)
        widths = plan["widths"].get(path, [layer.weight_bits] * costs.outputs)
        found[path] = {
            "macs": costs.macs,
            "weight_bits": {str(width): widths.count(width) for width in sorted(set(widths))},
            "input_bits": layer.input_bits,
            "bytes": layer.codes.numel() + 4 * costs.biases,
        }
    return found
