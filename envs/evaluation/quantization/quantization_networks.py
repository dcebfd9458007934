"""Quantization Networks: quantizers that are soft at first and harden while they learn (Yang et al. 2019, 1911.09464).

Weights are staircases of sigmoids (`staircase.py`) whose temperature rises in equal steps over the learning,
T = (e + 1) T0 in epoch e, while alpha, beta and the weights learn together; what is kept are the hard steps. Inputs
come second, on the network whose weights have learned: their staircases start at samples of what comes in, and the
temperature rises once more. A code has ceil(log2 levels) bits, a layer one alpha.

The first layer and the last stay floats. Statistics of BatchNorm stand still while inputs learn, and are estimated anew
with the hard steps at the end, since a network is used with these (`renormalize`).

Departures: "epochs" are equal parts of the learning; beta is kept above 0; inputs that may be negative have levels on
both sides of 0, where the paper has ReLUs before every quantizer; rates are scaled by the fit's schedule, which the
authors' code leaves constant for alpha and beta; weights decay by 1e-4 in both stages, where the authors' code has 1e-5
in the second.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.codes import index_bits
from envs.evaluation.quantization.layer import QuantizedLayer, effective_weight, pack_layers
from envs.evaluation.quantization.measure import measure_inputs
from envs.evaluation.quantization.places import Bits, PlacesConfig, bits_of_layers, bits_of_plan
from envs.evaluation.quantization.rules import FLOAT_BITS, require_bits
from envs.evaluation.quantization.staircase import (
    LEVELS,
    SMALLEST_BETA,
    StepInput,
    StepWeights,
    set_temperature,
    staircases,
)
from envs.evaluation.subject import BATCH_NORMALIZATIONS, Subject
from envs.evaluation.transform import TeachConfig, Transform, teach
from rlsuite.data.minibatches import minibatch
from rlsuite.data.source import Source
from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.fit import FitConfig, Hook
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

FLOAT = "float"
LARGEST_INPUT_BITS = 6  # a staircase of 63 steps; each costs a sigmoid an input
QUANTIZERS = ("*.staircase.*",)


@dataclass(frozen=True, kw_only=True)
class QuantizationNetworksConfig:
    """Quantization Networks' numbers.

    Attributes:
        levels: of weights: "binary" (1 bit), "ternary" (2), "pm2" or "pm4" (3: up to 2 or 4 on both sides), "float".
        input_bits: of what layers take in, 1 to 6; 32 leaves floats, and there is no second stage.
        first_temperature: T0; T = (e + 1) T0.
        largest_temperature: which T stays at.
        epochs: equal parts of each stage, after which T rises.
        beta: where it starts; null for 5 p / (4 q), p the largest level and q the largest value.
        learn_thresholds: whether steps move, too (the paper; in the authors' code they do not).
        blunt: take gradients from sigmoids at T = 1, T times (the authors' code, for binary and ternary weights).
        input_share: of the minibatches, which inputs learn in, where both are quantized.
        input_clip_norm: of gradients in that stage; the first has teach.fit.clip_norm.
        other_rate: factor on the learning rate of all but the quantizers in that stage.
        freeze_norms: statistics of BatchNorm stand still in that stage.
        renormalize: minibatches from which they are estimated anew in the end; 0 leaves them.
        places: layers that stay floats (bits of 32), or whose inputs do; the first and the last do.
        teach: how the network learns.
    """

    levels: str = "ternary"
    input_bits: int = 4
    first_temperature: float = 10.0
    largest_temperature: float = 2000.0
    epochs: int = 25
    beta: float | None = None
    learn_thresholds: bool = False
    blunt: bool = False
    input_share: float = 0.5
    input_clip_norm: float = 20.0
    other_rate: float = 0.1
    freeze_norms: bool = True
    renormalize: int = 20
    places: PlacesConfig = field(default_factory=PlacesConfig)
    teach: TeachConfig = field(
        default_factory=lambda: TeachConfig(
            fit=FitConfig(
                steps=2000,
                batch_size=256,
                optimizer=OptimizerConfig(name="sgd", learning_rate=5e-3, weight_decay=1e-4),
                schedule=ScheduleConfig(kind="cosine"),
                clip_norm=5.0,
            )
        )
    )

    def __post_init__(self) -> None:
        require_choice("levels", self.levels, (*LEVELS, FLOAT))
        require_bits("input_bits", self.input_bits, 1)
        fits = self.input_bits <= LARGEST_INPUT_BITS or self.input_bits == FLOAT_BITS
        require(fits, f"input_bits={self.input_bits}: use 1 to {LARGEST_INPUT_BITS}, or {FLOAT_BITS} for floats")
        both_float = self.levels == FLOAT and self.input_bits == FLOAT_BITS
        require(not both_float, "levels=float and input_bits=32: there is nothing to quantize; give one of them less")
        require_finite("first_temperature", self.first_temperature, above=0.0)
        require_finite("largest_temperature", self.largest_temperature, low=self.first_temperature)
        require(self.epochs >= 1, f"epochs={self.epochs}: use 1 or more")
        if self.beta is not None:
            require_finite("beta", self.beta, above=0.0)
        require(0.0 < self.input_share < 1.0, f"input_share={self.input_share}: use a number between 0 and 1")
        require_finite("input_clip_norm", self.input_clip_norm, low=0.0)
        require_finite("other_rate", self.other_rate, low=0.0)
        require(self.renormalize >= 0, f"renormalize={self.renormalize}: use 0 (leave them) or more")
        for group in self.teach.fit.optimizer.groups:
            own = all(any(part in name for part in ("alpha", "beta", "threshold", "staircase")) for name in group.names)
            require(
                not (own and group.weight_decay),
                f"weight_decay={group.weight_decay} on {', '.join(group.names)}: quantizers' scales have none; use 0",
            )


class QuantizationNetworks(Transform):
    """Weights of a few levels, and inputs of a few bits, for any network of linear layers or convolutions."""

    Config = QuantizationNetworksConfig
    refuses: ClassVar = {"quantized": "quantize a network once"}
    gives = frozenset({"quantized"})

    config: QuantizationNetworksConfig

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return "layers": path -> [bits of weights, of inputs], and "signed": which take in negatives."""
        module = subject.module
        weights = FLOAT_BITS if self.config.levels == FLOAT else index_bits(len(LEVELS[self.config.levels]))
        layers = bits_of_layers(module, Bits(weights, self.config.input_bits), self.config.places)
        for path, bits in layers.items():
            require(
                bits.weights in (weights, FLOAT_BITS)
                and (bits.inputs <= LARGEST_INPUT_BITS or bits.inputs == FLOAT_BITS),
                f"bits of {path}: {bits.weights} and {bits.inputs}; weights have {weights} bits by levels=, or 32, and "
                f"inputs 1 to {LARGEST_INPUT_BITS}, or 32",
            )
            weight = effective_weight(module.get_submodule(path))
            require(bool(torch.isfinite(weight).all()), f"{path}: its weights are not finite; train the network again")
        rounded = [path for path, bits in layers.items() if bits.inputs != FLOAT_BITS]
        negative = measure_inputs(subject, rounded, lambda inputs: bool(inputs.min() < 0.0))
        return {
            "layers": {path: list(bits) for path, bits in layers.items()},
            "signed": [path for path, found in negative.items() if found],
        }

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Put quantized layers in the places that the plan names."""
        layers, signed, config = bits_of_plan(module, plan), plan.get("signed"), self.config
        if not (isinstance(signed, list) and {*signed} <= layers.keys()):
            raise UserError("its plan is damaged: which layers take in negative numbers is not said")
        options = {"learn_thresholds": config.learn_thresholds, "blunt": config.blunt}
        for path, bits in layers.items():
            if bits.weights != FLOAT_BITS and config.levels == FLOAT:
                raise UserError(f"its plan is damaged: '{path}' has {bits.weights} bits and no levels")
            layer = module.get_submodule(path)
            quantized = QuantizedLayer(
                layer,
                None if bits.weights == FLOAT_BITS else StepWeights(LEVELS[config.levels], **options),
                None if bits.inputs == FLOAT_BITS else StepInput(bits.inputs, signed=path in signed, **options),
            )
            module.set_submodule(path, quantized.to(effective_weight(layer).device))
        return module

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Let the weights learn, then the inputs; estimate the statistics of norms anew."""
        config, module = self.config, subject.module
        layers = [(path, part) for path, part in module.named_modules() if isinstance(part, QuantizedLayer)]
        weights = [(path, part) for path, part in layers if isinstance(part.weight_rule, StepWeights)]
        inputs = {path: part.input_rule for path, part in layers if isinstance(part.input_rule, StepInput)}
        steps = config.teach.fit.steps
        second = round(config.input_share * steps) if weights and inputs else steps if inputs else 0
        for rule in inputs.values():
            rule.passing = True
        for path, part in weights:
            _start(path, part.weight_rule, part.learned_weight, config.beta)
        if weights:
            self._learn(subject, max(1, steps - second), derive_seed(seed, "weights"), inputs=False)
        if inputs:
            samples = measure_inputs(subject, inputs, lambda values: values)
            for path, rule in inputs.items():
                rule.passing = False
                _start(path, rule, samples[path], config.beta)
            self._learn(subject, max(1, second), derive_seed(seed, "inputs"), inputs=True)
        if config.renormalize:
            estimate_norms(module, subject.task.source("train"), config.renormalize, config.teach.fit.batch_size, seed)

    def _learn(self, subject: Subject, steps: int, seed: int, *, inputs: bool) -> None:
        """Let one stage of the learning pass."""
        config, module = self.config, subject.module
        optimizer = stage_optimizer(config.teach.fit.optimizer, module, config.other_rate if inputs else 1.0)
        clip_norm = config.input_clip_norm if inputs else config.teach.fit.clip_norm
        learning = replace(config.teach, fit=replace(config.teach.fit, steps=steps, clip_norm=clip_norm))
        hooks = [self.hook(module)]
        if inputs and config.freeze_norms:
            hooks.append(lambda *_: freeze_norms(module))
        teach(subject, learning, seed, optimizer=optimizer, hooks=hooks)

    def hook(self, module: nn.Module) -> Hook:
        """Return what `rlsuite.fit.fit` is to call: the temperature is a function of the share done."""
        return lambda _, share: set_temperature(module, self.temperature(share))

    def temperature(self, share: float) -> float:
        """Return T when a share of a stage is done."""
        config = self.config
        epoch = min(int(share * config.epochs + 1e-9), config.epochs - 1)
        return min((epoch + 1) * config.first_temperature, config.largest_temperature)

    def finish(self, module: nn.Module) -> nn.Module:
        """Keep packed codes, an alpha a layer, the staircases of inputs, and what stays float."""
        with torch.no_grad():
            for part in staircases(module):
                part.beta.clamp_(min=SMALLEST_BETA)
        return pack_layers(module)


def _start(path: str, rule: Any, values: Tensor, beta: float | None) -> None:
    try:
        rule.staircase.start(values, beta)
    except UserError as error:
        raise UserError(f"{path}: {error}; leave it out by places.layers") from None


def stage_optimizer(optimizer: OptimizerConfig, module: nn.Module, other_rate: float) -> OptimizerConfig:
    """Return an optimizer whose quantizers have no weight decay and their own rate, all else `other_rate` times it."""
    named = [name for name, _ in module.named_parameters()]
    own = any(fnmatch.fnmatchcase(name, pattern) for name in named for pattern in QUANTIZERS)
    group = GroupConfig(names=QUANTIZERS, learning_rate=optimizer.learning_rate, weight_decay=0.0)
    slower = tuple(
        replace(each, learning_rate=None if each.learning_rate is None else other_rate * each.learning_rate)
        for each in optimizer.groups
    )
    groups = (group, *slower) if own else slower
    return replace(optimizer, learning_rate=max(other_rate * optimizer.learning_rate, 1e-12), groups=groups)


def norms(module: nn.Module) -> Iterator[nn.Module]:
    """Return all batch normalizations of a network."""
    return (part for part in module.modules() if isinstance(part, BATCH_NORMALIZATIONS))


def freeze_norms(module: nn.Module) -> None:
    """Let all batch normalizations of a network use their statistics as they are, until it is in another mode."""
    for norm in norms(module):
        norm.eval()


@torch.no_grad()
def estimate_norms(module: nn.Module, source: Source, batches: int, batch_size: int, seed: int) -> None:
    """Estimate all running statistics anew: means over some minibatches, the rest of the network in evaluation mode."""
    found: list[Any] = list(norms(module.eval()))
    if not found:
        return
    momenta, device = [norm.momentum for norm in found], next(module.parameters()).device
    for norm in found:
        norm.reset_running_stats()
        norm.momentum = None  # a mean over all batches
        norm.train()
    for step in range(batches):
        size = min(batch_size, len(source))
        index = minibatch(derive_seed(seed, "norms"), step, len(source), size, "epochs")
        module(source.examples(index)["input"].to(device))
    for norm, momentum in zip(found, momenta, strict=True):
        norm.momentum = momentum
    module.eval()
