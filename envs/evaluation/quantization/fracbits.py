"""FracBits: a budget in, widths of layers or kernels out, in one learning (Yang and Jin 2020, arXiv:2007.02017).

    L = task loss + kappa |cost / budget - 1|

Widths are numbers between whole ones (`fractional.py`) for the first 80 % of the minibatches, and so is the cost: of
bytes, each weight's bits and 4 for a bias; of bit operations, MACs times both widths. All start at the width that would
meet the budget everywhere, and half a bit more. Then they are rounded, with one offset for all, found by bisection so
that the budget is met as nearly as it can be; what is left of the learning mends the rest.

Built on SAT's layers (arXiv:1912.10207): the first and the last layer keep 8-bit weights, and count. With
free_last=true the last one's widths are learned, too: a policy's head can hold half its weights.

Departures: the cost is relative to the budget, so that kappa means the same for every network (`relative=false` has the
authors' megabytes and billions of bit operations); the offset lies in [-1, 1], since the authors' [-1, 0] cannot mend a
cost below the budget, and its bisection has 20 trials for their 10, whose last steps of 0.002 are coarser than widths
that have learned alike lie apart (in one of three seeds the budget was missed by 2.1 %); widths learn at 20 times the
weights' rate, not the same; learning starts from the float network as it is, where the paper's was clamped and rescaled
first (`SAT` has such a stage, `clamped_steps`); with a budget of bytes inputs have a fixed width. The authors' other
ways of choosing between two widths (Gumbel-softmax), off by default there, are not here.

A network of few layers has few costs: with one width a layer the budget is often missed by more than 1 %, and the
nearest one is taken. With per="kernel" one of bytes is met; one of bit operations may be missed by some percent where
the inputs of a single layer, which have one width, are much of the cost.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from envs.evaluation.probes import layer_macs
from envs.evaluation.quantization.budget import UNITS, Costs, LearnedCost, total, uniform_width
from envs.evaluation.quantization.fractional import FractionalInput, FractionalWeights, RowWeights
from envs.evaluation.quantization.layer import QuantizedLayer, effective_weight, pack_layers, quantizable
from envs.evaluation.quantization.places import Bits, PlacesConfig, named_layers
from envs.evaluation.quantization.rules import FLOAT_BITS, InputRule, WeightRule, require_bits
from envs.evaluation.quantization.swapping import (
    FANS,
    RESCALED,
    Place,
    calibrate,
    few_bits_teaching,
    plan_layers,
    put_layers,
    require_alpha,
    without_decay,
)
from envs.evaluation.quantization.uniform import ClippedInput, UniformWeights, require_calibrated
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, Transform, teach
from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.optim.choice import GroupConfig

MOST_DRAWS = 100_000


@dataclass(frozen=True, kw_only=True)
class FracBitsConfig:
    """FracBits's numbers.

    Attributes:
        kilobytes: the budget in thousands of bytes of the quantized layers' weights and biases; 0 for none.
        bit_operations: the budget in bit operations of one example; 0 for none.
        average: with neither, the bit operations of so many bits everywhere.
        per: "kernel" gives each output's weights a width, "layer" each layer's; inputs have one a layer.
        lowest: the fewest bits; 0 takes kernels out.
        highest: the most.
        input_bits: of inputs, with a budget of bytes; 32 leaves floats.
        allocation: "learned" (the method), "uniform", or "random": of allocations drawn at the budget's cost, to
            compare with.
        draw: which of the random ones.
        kappa: of the cost in the loss.
        relative: the cost over the budget; else in megabytes or billions of bit operations.
        offset: bits above the budget's own width at which widths start.
        width_rate: learning rate of widths, over the weights'; the paper's 1 is for hundreds of thousands of
            minibatches, in a few thousand it moves no width by a bit.
        warm_up: share of the minibatches in which the cost does not count yet.
        harden_at: share after which widths are whole.
        tolerance: of the cost, within which no offset is looked for.
        trials: of the bisection (the authors' code: 10).
        clip: "cgpact" or "pact".
        rescale: which layers' weights, as SAT has it.
        fan: likewise.
        alpha: likewise.
        alpha_share: likewise.
        places: layers whose widths are given.
        free_last: the last layer's widths are learned, too.
        teach: how the network learns.
    """

    kilobytes: float = 0.0
    bit_operations: float = 0.0
    average: float = 3.0
    per: str = "kernel"
    lowest: int = 1
    highest: int = 8
    input_bits: int = 8
    allocation: str = "learned"
    draw: int = 0
    kappa: float = 1.0
    relative: bool = True
    offset: float = 0.5
    width_rate: float = 20.0
    warm_up: float = 0.05
    harden_at: float = 0.8
    tolerance: float = 0.01
    trials: int = 20
    clip: str = "cgpact"
    rescale: str = "bare"
    fan: str = "trained"
    alpha: float = 0.0
    alpha_share: float = 0.7
    places: PlacesConfig = field(default_factory=lambda: PlacesConfig(first=8, last=8))
    free_last: bool = False
    teach: TeachConfig = field(default_factory=few_bits_teaching)

    def __post_init__(self) -> None:
        for name in ("kilobytes", "bit_operations", "kappa", "alpha", "offset"):
            require_finite(name, getattr(self, name), low=0.0)
        for name in ("average", "width_rate", "alpha_share", "tolerance"):
            require_finite(name, getattr(self, name), above=0.0)
        require(
            not (self.kilobytes and self.bit_operations),
            f"kilobytes={self.kilobytes:g} and bit_operations={self.bit_operations:g}: a budget is one of them",
        )
        require_choice("per", self.per, ("kernel", "layer"))
        require_choice("allocation", self.allocation, ("learned", "uniform", "random"))
        require_choice("clip", self.clip, ("cgpact", "pact"))
        require_choice("rescale", self.rescale, RESCALED)
        require_choice("fan", self.fan, FANS)
        require_bits("highest", self.highest, 1)
        require_bits("input_bits", self.input_bits, 1)
        require(
            0 <= self.lowest < self.highest < FLOAT_BITS,
            f"lowest={self.lowest}, highest={self.highest}: use 0 or more, and a larger highest of 16 at most",
        )
        require(self.lowest > 0 or self.per == "kernel", "lowest=0 takes out whole layers; use per=kernel, or lowest=1")
        require(self.trials >= 1 and self.draw >= 0, f"trials={self.trials}, draw={self.draw}: use 1, and 0, or more")
        for name in ("warm_up", "harden_at"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"{name}={value}: use a share from 0 to 1")


class FracBits(Transform):
    """Learned widths of any network of linear layers or convolutions, at a budget."""

    Config = FracBitsConfig
    refuses: ClassVar = {
        "quantized": "quantize a network once",
        "stacked": "its members cannot share widths; quantize a policy of plain layers",
    }
    gives = frozenset({"quantized"})

    config: FracBitsConfig
    planned: Any = None  # what `rebuild` was given last, for `train`

    @property
    def unit(self) -> str:
        """What the budget is in: a key of UNITS."""
        return "bytes" if self.config.kilobytes else "bit_operations"

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return which layers have which costs, and what the budget is.

        Beside `plan_layers`' keys: "free" has the paths whose widths are learned, "costs" path -> weights, outputs,
        biases and MACs, "target" the budget, "start" where widths start; "widths" (path -> bits of each output) and
        "input_widths" (path -> bits) are there once they are whole.
        """
        config, module = self.config, subject.module
        require_alpha(config.alpha, subject)
        usual = Bits(config.highest, config.highest if self.unit == "bit_operations" else config.input_bits)
        plan = plan_layers(subject, usual, config.places, rescale=config.rescale, fan=config.fan)
        layers, macs = quantizable(module), layer_macs(module, subject.example)
        ends = (next(iter(layers)), list(layers)[-1])
        named = named_layers(module, config.places)
        if config.free_last:
            require(ends[1] not in named, f"free_last=true: places.layers names {ends[1]}; leave out one of them")
            plan["layers"][ends[1]] = list(usual)
        given = {*ends[: 1 if config.free_last else 2], *named}
        free = [path for path in plan["layers"] if path not in given]
        require(bool(free), "no layer is left whose width could be learned; there is the first, the last and no other")
        costs = {path: _costs(layers[path], macs.get(path, 0)) for path in plan["layers"]}
        learned = dict.fromkeys((*free, *(path for path in ends[1:] if path not in named)))
        inputs = [path for path in learned if path in plan["layers"]] * (self.unit == "bit_operations")
        made_of = {path: Costs(*each) for path, each in costs.items()}
        fixed = {path: Bits(*bits) for path, bits in plan["layers"].items()}

        def cost(width: float) -> float:
            weights = {path: width if path in free else bits.weights for path, bits in fixed.items()}
            taken = {path: max(1.0, width) if path in inputs else bits.inputs for path, bits in fixed.items()}
            return float(total(self.unit, made_of, weights, taken))

        target = float(1e3 * config.kilobytes or config.bit_operations or cost(config.average))
        least, most = cost(config.lowest), cost(config.highest)
        if not least <= target <= most:
            name, scale, _ = UNITS[self.unit]
            raise UserError(
                f"{name}={target / scale:g}: out of reach; this network takes {least / scale:g} to {most / scale:g}"
            )
        width = uniform_width(cost, target, config.lowest, config.highest)
        plan |= {"free": free, "inputs": inputs, "costs": costs, "target": target, "start": width + config.offset}
        if config.allocation == "learned":
            return plan
        widths = {path: round(width) for path in free}
        widths |= {f"input of {path}": max(1, round(width)) for path in inputs}
        if config.allocation == "random":
            widths = self._drawn(widths, plan, made_of, fixed)
        return plan | {
            "widths": {path: [widths[path]] * costs[path][1] for path in free},
            "input_widths": {path: widths[f"input of {path}"] for path in inputs},
        }

    def _drawn(
        self, names: dict[str, int], plan: dict[str, Any], costs: dict[str, Costs], fixed: dict[str, Bits]
    ) -> dict[str, int]:
        """Return widths drawn evenly, the `draw`-th whose cost is within the tolerance, or the nearest one drawn."""
        config, generator, found = self.config, random.Random(self.config.draw), (float("inf"), names)
        for _ in range(MOST_DRAWS):
            widths = {name: generator.randint(max(1, config.lowest), config.highest) for name in names}
            weights = {path: widths.get(path, bits.weights) for path, bits in fixed.items()}
            inputs = {path: widths.get(f"input of {path}", bits.inputs) for path, bits in fixed.items()}
            error = abs(float(total(self.unit, costs, weights, inputs)) / plan["target"] - 1.0)
            if error < found[0]:
                found = error, widths
            if found[0] <= config.tolerance:
                break
        return found[1]

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Put layers in the places that the plan names, of whole widths where it says them."""
        config, kernel = self.config, self.config.per == "kernel"
        _check(plan, config.highest)
        self.planned = plan
        widths, whole = plan.get("widths"), plan.get("input_widths", {})

        def weight_rule(place: Place, layer: nn.Module) -> WeightRule:
            outputs = effective_weight(layer).shape[0]
            if place.path not in plan["free"]:
                return UniformWeights(place.bits.weights, fan=place.fan)
            if widths is None:
                count, low, high = outputs if kernel else 1, config.lowest, config.highest
                return FractionalWeights(outputs, count, plan["start"], low, high, fan=place.fan)
            if len(widths.get(place.path, ())) != outputs:
                raise UserError(f"its plan is damaged: '{place.path}' has {outputs} outputs")
            return RowWeights(widths[place.path], fan=place.fan)

        def input_rule(place: Place) -> InputRule:
            calibrated = config.clip == "cgpact"
            if place.path in plan["inputs"] and widths is None:
                low, high = max(1, config.lowest), config.highest
                rule = FractionalInput(plan["start"], low, high, signed=place.signed, calibrated=calibrated)
            else:
                bits = whole.get(place.path, place.bits.inputs)
                rule = ClippedInput(bits, signed=place.signed, calibrated=calibrated)
            nn.init.constant_(rule.alpha, config.alpha)
            return rule

        return put_layers(module, plan, weight_rule, input_rule)

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Let weights and widths learn, then weights alone."""
        config, module = self.config, subject.module
        if not config.alpha:
            calibrate(subject, config.alpha_share, config.teach.fit.batch_size, seed)
        require_calibrated(module)
        learned = LearnedCost(module, self.planned, self.unit, config)
        rate = config.width_rate * config.teach.fit.optimizer.learning_rate
        names = tuple(name for name, _ in module.named_parameters() if name.endswith("own.width"))
        own = [GroupConfig(names=names, learning_rate=rate, weight_decay=0.0)] if names else []

        def loss(network: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            error = subject.task.loss(network, batch).mean()
            return {"loss": error + learned.penalty(), "error": error, "cost": learned.cost().detach()}

        teach(
            subject,
            config.teach,
            seed,
            optimizer=without_decay(module, config.teach, *own),
            losses=loss if names else None,
            hooks=[learned.at_share] if names else [],
        )
        learned.at_share(0, 1.0)  # where the learning ended before its share was over

    def decided(self, module: nn.Module, plan: Any) -> Any:
        """Return the plan with whole widths."""
        if "widths" in plan:
            return plan
        layers: dict[str, Any] = {path: module.get_submodule(path) for path in plan["layers"]}
        return plan | {
            "widths": {path: layers[path].weight_rule.widths() for path in plan["free"]},
            "input_widths": {path: layers[path].input_rule.whole() for path in plan["inputs"]},
        }

    def finish(self, module: nn.Module) -> nn.Module:
        """Keep packed codes of whole widths, constants and what stays float."""
        for part in module.modules():
            if isinstance(part, QuantizedLayer) and isinstance(part.input_rule, FractionalInput):
                part.input_rule = part.input_rule.fixed()
        return pack_layers(module)


def _costs(layer: nn.Module, macs: int) -> list[int]:
    weight, bias = effective_weight(layer), getattr(layer, "bias", None)
    return [weight.numel(), weight.shape[0], 0 if bias is None else bias.numel(), macs]


def _check(plan: Any, highest: int) -> None:
    """Raise UserError unless a plan says what is learned, and whole widths as such: it may come from anybody's file."""
    kinds = {"free": list, "inputs": list, "costs": dict, "target": float, "start": float}
    if not (isinstance(plan, dict) and all(isinstance(plan.get(key), kind) for key, kind in kinds.items())):
        raise UserError("its plan is damaged: it does not say which widths are learned")
    rows, inputs = plan.get("widths", {}), plan.get("input_widths", {})
    if not (
        isinstance(rows, dict) and isinstance(inputs, dict) and all(isinstance(row, list) for row in rows.values())
    ):
        raise UserError("its plan is damaged: its widths are none")
    numbers = [width for row in rows.values() for width in row]
    if not all(type(width) is int and 0 <= width <= highest for width in (*numbers, *inputs.values())):
        raise UserError(f"its plan is damaged: widths are whole numbers up to {highest}")
