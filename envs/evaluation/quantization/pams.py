"""PAMS: the largest activation becomes a number that is learned (Li et al. 2020, arXiv:2011.04212).

    q(x; a) = round(clip(x, -a, a) n / a) a / n,  n = 2^(bits - 1) - 1

Weights take a = max|W| at every step; each place where activations are quantized has an a of its own, started at a
moving average of the largest absolute activations and learned with its own learning rate beside the weights, while the
feature maps of the float network teach those of the quantized one ("structured knowledge transfer").

Departures: the average is taken before the learning, over batches of the float activations, not during the first
epoch of it; the shortcut's quantizer also feeds the branch (placement="faithful" leaves the branch as the authors' code
has it), so that convolutions see whole numbers; policies learn from their float copy's actions; alphas keep the
authors' rate of 1e-2, though pictures are in [0, 1] and not 0 to 255: next to alpha, a step of Adam is about 255 times
theirs.

Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.layer import QuantizedLayer, pack_layers
from envs.evaluation.quantization.max_scale import MaxScale, measuring
from envs.evaluation.quantization.places import Bits, PlacesConfig, bits_of_layers, bits_of_plan
from envs.evaluation.quantization.rules import (
    FLOAT_BITS,
    MaxAbsInput,
    MaxAbsWeights,
    SymmetricInput,
    require_bits,
)
from envs.evaluation.quantization.structure import caught, compared_features, structure_loss
from envs.evaluation.quantization.uniform import require_finite_weights
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, Transform, teach
from rlsuite.data.minibatches import minibatch
from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.fit import FitConfig
from rlsuite.nn.vision.doors import sites
from rlsuite.nn.vision.edsr import ResidualBlock
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

LOWEST_BITS = 2
HUNG = "pams"
PLACEMENTS = ("auto", "layers", "integer", "faithful")


@dataclass(frozen=True, kw_only=True)
class PAMSConfig:
    """PAMS's numbers.

    Attributes:
        bits: of weights and activations, sign included; the paper has 8 and 4, and 32 leaves floats.
        placement: "layers" quantizes what every layer takes in; "integer" quantizes residual blocks without
            normalization (EDSR's) at their input, between their convolutions and before their sum; "faithful" the same
            with the shortcut alone at the input, as the authors' code; "auto" takes "integer" where there are such.
        max_scale: "learned", or "largest" for each example's largest activation, what the paper starts from.
        alpha_learning_rate: of learned max scales (the authors' code).
        calibration: batches that their start is measured on.
        calibration_decay: of the moving average over these batches, which starts at the first.
        structure_weight: of the difference between feature maps; the paper's 1000 counts beside errors of pixels up
            to 255, here up to 1. 0 leaves it out.
        features: path of the module that the compared maps (B, C, H, W) go into; "" finds EDSR's tail, or what flattens
            a picture's features; where there is neither, none are compared.
        places: with placement=layers, those that have other bits; the first and the last stay floats.
        teach: how the network learns again.
    """

    bits: int = 8
    placement: str = "auto"
    max_scale: str = "learned"
    alpha_learning_rate: float = 1e-2
    calibration: int = 20
    calibration_decay: float = 0.9997
    structure_weight: float = 1000.0 / 255.0
    features: str = ""
    places: PlacesConfig = field(default_factory=PlacesConfig)
    teach: TeachConfig = field(
        default_factory=lambda: TeachConfig(
            fit=FitConfig(
                batch_size=256,
                optimizer=OptimizerConfig(learning_rate=1e-4),
                schedule=ScheduleConfig(kind="cosine", final=0.1),
            )
        )
    )

    def __post_init__(self) -> None:
        require_bits("bits", self.bits, LOWEST_BITS)
        require_choice("placement", self.placement, PLACEMENTS)
        require_choice("max_scale", self.max_scale, ("learned", "largest"))
        require_finite("alpha_learning_rate", self.alpha_learning_rate, above=0.0)
        require(self.calibration >= 1, f"calibration={self.calibration}: use 1 batch or more")
        decay = self.calibration_decay
        require(0.0 <= decay < 1.0, f"calibration_decay={decay}: use 0 or more, and less than 1")
        require_finite("structure_weight", self.structure_weight, low=0.0)


class PAMS(Transform):
    """Quantized weights and activations of any network of linear layers or convolutions."""

    Config = PAMSConfig
    refuses: ClassVar = {"quantized": "quantize a network once"}
    gives = frozenset({"quantized"})

    config: PAMSConfig

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return where how many bits are.

        "layers" has path -> [bits of weights, of inputs], "sites" has path -> bits, and "at" has a layer's path -> the
        site at which its inputs are quantized.
        """
        module, bits = subject.module, self.config.bits
        require_finite_weights(module)
        compared_features(module, subject.example, self.config.features)
        blocks = {path: part for path, part in module.named_modules() if isinstance(part, ResidualBlock)}
        placement = self.config.placement
        if placement == "auto":
            placement = "integer" if blocks else "layers"
        if placement == "layers" or bits == FLOAT_BITS:
            layers = bits_of_layers(module, Bits(bits, bits), self.config.places, lowest=LOWEST_BITS)
            return {"layers": {path: list(each) for path, each in layers.items()}, "sites": {}, "at": {}}
        require(bool(blocks), f"placement={placement}: the network has no residual blocks; use placement=layers")
        plan: dict[str, Any] = {"layers": {}, "sites": {}, "at": {}}
        for path in blocks:
            plan["layers"][f"{path}.first"] = [bits, bits if placement == "integer" else FLOAT_BITS]
            plan["layers"][f"{path}.second"] = [bits, bits]
            plan["sites"][f"{path}.branch"] = bits
            plan["sites"][f"{path}.{'input' if placement == 'integer' else 'skip'}"] = bits
            if placement == "integer":
                plan["at"][f"{path}.first"] = f"{path}.input"
        return plan

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Put quantized layers and quantizers in the places that the plan names."""
        layers, places = bits_of_plan(module, plan, lowest=LOWEST_BITS), sites(module)
        hung, at, device = plan.get("sites"), plan.get("at"), next(module.parameters()).device
        if not (isinstance(hung, dict) and isinstance(at, dict) and at.keys() <= layers.keys()):
            raise UserError("its plan is damaged: its sites are not said")
        for path, bits in hung.items():
            if path not in places or type(bits) is not int:
                raise UserError(f"its plan is damaged: there is no site '{str(path)[:60]}'")
            require_bits(f"bits of {path}", bits, LOWEST_BITS)
            places[path].hang(HUNG, self._input_rule(bits).to(device))
        for path, bits in layers.items():
            own = bits.inputs != FLOAT_BITS and path not in at
            quantized = QuantizedLayer(
                module.get_submodule(path),
                None if bits.weights == FLOAT_BITS else MaxAbsWeights(bits.weights),
                self._input_rule(bits.inputs).to(device) if own else None,
                input_bits=bits.inputs,
            )
            module.set_submodule(path, quantized)
        return module

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Measure where max scales start, then let them, the weights and the feature maps learn."""
        self.calibrate(subject, seed)
        config = self.config
        optimizer = config.teach.fit.optimizer
        if any(isinstance(part, MaxScale) for part in subject.module.modules()):
            group = GroupConfig(names=("*alpha",), learning_rate=config.alpha_learning_rate, weight_decay=0.0)
            optimizer = replace(optimizer, groups=(group, *optimizer.groups))
        path = compared_features(before.module, before.example, config.features)
        if not (path and config.structure_weight):
            teach(subject, config.teach, seed, optimizer=optimizer)
            return
        task, teacher = subject.task, before.module
        with caught(subject.module, path) as own, caught(teacher, path) as wanted:

            def loss(network: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
                error = task.loss(network, batch).mean()
                with torch.no_grad():
                    teacher(batch["input"])
                structure = structure_loss(own[-1], wanted[-1])
                return {"loss": error + config.structure_weight * structure, "error": error, "structure": structure}

            teach(subject, config.teach, seed, optimizer=optimizer, losses=loss)

    @torch.no_grad()
    def calibrate(self, subject: Subject, seed: int) -> None:
        """Start the max scales at the moving average of what they will see."""
        config, source = self.config, subject.task.source("train")
        require(len(source) >= 1, "there are no examples to measure on; give the task some")
        device = next(subject.module.parameters()).device
        with measuring(subject.module.eval(), config.calibration_decay):
            for step in range(config.calibration):
                size = min(config.teach.fit.batch_size, len(source))
                index = minibatch(derive_seed(seed, "calibration"), step, len(source), size, "epochs")
                subject.module(source.examples(index)["input"].to(device))

    def finish(self, module: nn.Module) -> nn.Module:
        """Keep packed codes, scales and what stays float."""
        return pack_layers(module)

    def _input_rule(self, bits: int) -> SymmetricInput:
        return MaxScale(bits) if self.config.max_scale == "learned" else MaxAbsInput(bits)
