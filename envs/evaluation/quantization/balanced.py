"""Balanced quantization: every level is used equally often (Zhou et al. 2017, arXiv:1706.07145).

Weights are bell-shaped, so of 2^k uniform levels up to the largest weight most stand for almost nothing. Here weights
are split at their mean (or median), each half again, k times; those of bin j take level j of the same uniform levels

    W_q = 2 s (j / (2^k - 1) - 1/2)

so integer kernels stay as they are. Gradients pass as if nothing had been done. Inputs are clipped to a
range and take 2^k uniform levels in it (DoReFa, arXiv:1606.06160).

Values move far from the weights on purpose: this is for learning, not for rounding a trained network. Zero is no level.

Departures: where there is no batch normalization behind a layer, s = max|W| makes its outputs too large; scale="mean",
the default, takes the s that keeps the mean absolute weight. Where a range is not given it is measured.

Shapes: N weights of a layer, k bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.layer import PackedLayer, QuantizedLayer, pack_layers
from envs.evaluation.quantization.measure import measure_inputs
from envs.evaluation.quantization.places import Bits, PlacesConfig, bits_of_layers, bits_of_plan
from envs.evaluation.quantization.rules import FLOAT_BITS, RangeInput, WeightRule, require_bits
from envs.evaluation.quantization.uniform import require_finite_weights
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, Transform
from rlsuite.errors import UserError, require_choice, require_finite
from rlsuite.fit import FitConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig

SPLITS = ("mean", "median", "uniform")


@dataclass(frozen=True, kw_only=True)
class BalancedConfig:
    """Balanced quantization's numbers.

    Attributes:
        bits: k of weights; 32 leaves floats.
        input_bits: of what layers take in; 32 leaves floats.
        split: "mean" (no sorting), "median" (bins exactly equal), or "uniform" for levels that are not balanced
            (DoReFa's without its tanh), to compare with.
        scale: "mean" keeps the mean absolute weight, "max" takes the largest, as the paper.
        limit: the largest input that is kept, the smallest being 0, or -limit where a layer takes in negative numbers;
            the paper has 1, behind batch normalization. 0 measures it for each layer: the mean over examples of the
            largest.
        places: layers that have other bits; the first and the last stay floats.
        teach: how the network learns again.
    """

    bits: int = 2
    input_bits: int = 4
    split: str = "mean"
    scale: str = "mean"
    limit: float = 0.0
    places: PlacesConfig = field(default_factory=PlacesConfig)
    teach: TeachConfig = field(
        default_factory=lambda: TeachConfig(
            fit=FitConfig(
                steps=2000,
                batch_size=256,
                optimizer=OptimizerConfig(learning_rate=1e-3),
                schedule=ScheduleConfig(kind="cosine"),
            )
        )
    )

    def __post_init__(self) -> None:
        require_bits("bits", self.bits, 1)
        require_bits("input_bits", self.input_bits, 1)
        require_choice("split", self.split, SPLITS)
        require_choice("scale", self.scale, ("mean", "max"))
        require_finite("limit", self.limit, low=0.0)


class BalancedWeights(WeightRule):
    """2^bits levels from -s to s, each for as many weights (split="mean" or "median"), or for those nearest.

    Args:
        bits: k.
        split: as BalancedConfig has it.
        scale: likewise.
    """

    def __init__(self, bits: int, split: str, scale: str) -> None:
        super().__init__(bits)
        self.split, self.scale = split, scale

    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return each weight's bin, and s ()."""
        largest = weight.abs().max()
        if self.split == "uniform":
            unit = weight / (2.0 * largest.clamp_min(torch.finfo(weight.dtype).tiny)) + 0.5
            codes = ((2**self.bits - 1) * unit).round().to(torch.int32)
        else:
            codes = balanced_bins(weight, self.bits, self.split)
        if self.scale == "max":
            return codes, largest
        return codes, weight.abs().mean() / self.levels(codes).abs().mean()

    def levels(self, codes: Tensor) -> Tensor:
        """Return the levels from -1 to 1."""
        largest = 2**self.bits - 1
        return (2 * codes - largest).float() / largest

    def values(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Return level times s."""
        return self.levels(codes) * scale


def balanced_bins(weight: Tensor, bits: int, split: str) -> Tensor:
    """Return the bins, from 0 to 2^bits - 1, in which weights lie after splitting each bin `bits` times.

    Larger weights are never in smaller bins. What equals a threshold goes up; bins of equal weights stay whole, and
    others may then be empty.

    Args:
        weight: of any shape.
        bits: k.
        split: "mean" or "median" of a bin, where it is split.

    Returns:
        int32, in the weights' shape.
    """
    flat = weight.detach().flatten().double()
    bins = torch.zeros(flat.shape, dtype=torch.int64, device=flat.device)
    ordered = flat.sort().values if split == "median" else flat
    for level in range(bits):
        count = 2**level
        sizes = flat.new_zeros(count).index_add_(0, bins, torch.ones_like(flat))
        if split == "mean":
            threshold = flat.new_zeros(count).index_add_(0, bins, flat) / sizes.clamp_min(1.0)
        else:  # bins follow each other in the sorted weights
            ends = sizes.cumsum(0).long()
            starts = ends - sizes.long()
            middles = torch.stack([(starts + ends - 1) // 2, (starts + ends) // 2]).clamp(0, len(flat) - 1)
            threshold = ordered[middles].mean(0)
        bins = 2 * bins + (flat >= threshold[bins])
    return bins.to(torch.int32).view(weight.shape)


class Balanced(Transform):
    """Balanced weights and clipped uniform inputs for any network of linear layers or convolutions."""

    Config = BalancedConfig
    refuses: ClassVar = {"quantized": "quantize a network once"}
    gives = frozenset({"quantized"})

    config: BalancedConfig

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return "layers": path -> [bits of weights, of inputs], and "ranges": path -> [smallest, largest input]."""
        usual = Bits(self.config.bits, self.config.input_bits)
        require_finite_weights(subject.module)
        layers = bits_of_layers(subject.module, usual, self.config.places)
        ranges = input_ranges(subject, [path for path, bits in layers.items() if bits.inputs != FLOAT_BITS])
        if limit := self.config.limit:
            ranges = {path: (-limit if low < 0.0 else 0.0, limit) for path, (low, _) in ranges.items()}
        return {
            "layers": {path: list(bits) for path, bits in layers.items()},
            "ranges": {path: list(found) for path, found in ranges.items()},
        }

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Put quantized layers in the places that the plan names."""
        for path, bits in bits_of_plan(module, plan).items():
            rule = None
            if bits.inputs != FLOAT_BITS:
                rule = RangeInput(bits.inputs, *_range(plan.get("ranges"), path))
            weights = None
            if bits.weights != FLOAT_BITS:
                weights = BalancedWeights(bits.weights, self.config.split, self.config.scale)
            module.set_submodule(path, QuantizedLayer(module.get_submodule(path), weights, rule))
        return module

    def finish(self, module: nn.Module) -> nn.Module:
        """Keep packed bins, scales and what stays float."""
        return pack_layers(module)


def input_ranges(subject: Subject, paths: list[str]) -> dict[str, tuple[float, float]]:
    """Return the range of what some layers take in, by path.

    Its end is the mean over examples of each one's largest absolute input; its start is 0, or minus the end where a
    layer takes in negative numbers.
    """

    def span(inputs: Tensor) -> tuple[float, float]:
        largest = max(float(inputs.abs().flatten(1).amax(1).mean()), 1e-6)
        return (-largest if float(inputs.min()) < 0.0 else 0.0, largest)

    return measure_inputs(subject, paths, span)


def effective_bits(module: nn.Module) -> dict[str, float]:
    """Return by path the entropy, in bits, of how often a quantized layer's levels are used; "" is the mean weight's.

    Raises:
        ValueError: if no layer is quantized.
    """
    found, counts = {}, {}
    for path, part in module.named_modules():
        if not isinstance(part, PackedLayer | QuantizedLayer) or (rule := part.weight_rule) is None:
            continue
        if isinstance(part, PackedLayer):
            codes = part.integers()
        else:  # each member of a stack is split for itself
            weight = part.learned_weight.detach()
            codes = torch.cat([rule.codes(each)[0].flatten() for each in (weight if part.stacked else [weight])])
        share = torch.bincount(codes.flatten(), minlength=2**rule.bits).double() / codes.numel()
        found[path], counts[path] = float(-torch.special.xlogy(share, share).sum()) / math.log(2), codes.numel()
    if not found:
        raise ValueError("no layer is quantized")
    return {**found, "": sum(found[path] * counts[path] for path in found) / sum(counts.values())}


def _range(ranges: Any, path: str) -> tuple[float, float]:
    """Return a layer's range from a plan, checked."""
    found = ranges.get(path) if isinstance(ranges, dict) else None
    if not isinstance(found, list | tuple) or len(found) != 2 or not all(type(value) is float for value in found):
        raise UserError(f"its plan is damaged: there is no range for '{path}'")
    low, high = found
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"its plan is damaged: the range of '{path}' is [{low}, {high}]")
    return low, high
