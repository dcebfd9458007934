"""SAT: scale-adjusted training, few bits where nothing normalizes (Jin, Yang and Liao 2019, arXiv:1912.10207).

Clamping weights to [-1, 1] makes them many times larger than a good start is, and where no normalization follows,
gradients differ by orders from layer to layer (the paper's second rule; its first: the last layer's must be small). So
the quantized weights of such layers are rescaled by a constant, at every step, without gradient; inputs are clipped at
a learned alpha whose gradient counts rounding (CG-PACT). `uniform.py` has the arithmetic.

Places: the first layer has 8-bit weights, and takes pictures as they are (8 bits); the last has 8-bit weights and takes
in what all do. Biases and normalizations stay floats, and like alpha they have no weight decay.

Departures: alpha starts at a share of the largest input of the first batch (the paper's 8 and 10 suit what a
BatchNorm normalized; without one 4 bits up to 10 see only zeros); observations are clipped on both sides and have the
first layer's bits; a layer keeps the variance it has learned (`fan`: with any other a trained policy forgets what it
knew), and one that begins anew may have the fan of its inputs where those are more; the gradient stays out of
max|tanh(W)| (`detach`; the authors' code lets it in); pictures are in [0, 1], not 0 to 255, which a first layer's scale
takes up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import nn

from envs.evaluation.quantization.layer import PackedLayer, pack_layers, quantizable
from envs.evaluation.quantization.places import Bits, PlacesConfig
from envs.evaluation.quantization.rules import FLOAT_BITS, require_bits
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
from envs.evaluation.quantization.uniform import SCHEMES, ClippedInput, UniformWeights, require_calibrated, unrounded
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, Transform, teach
from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.running.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class SATConfig:
    """SAT's numbers.

    Attributes:
        bits: of weights; 32 leaves floats.
        input_bits: of what layers take in; 0 for as many, 32 leaves floats.
        scheme: levels of weights: "original" (the paper), "modified" (whose mean is off) or "centred" (for 2 and 3 bits
            in convolutions).
        rescale: which layers' weights: "bare" (no normalization follows), "last", "all" or "none".
        fan: what the variance is one over: "outputs" (the paper), "larger" of outputs and inputs, or "trained", which
            leaves each layer the variance it has learned; the first two are for networks that begin anew.
        clip: "cgpact", or "pact", whose alpha does not learn from rounding.
        alpha: where every alpha starts, such as 8 behind batch normalization; 0 measures it.
        alpha_share: of the largest input of the first batch, where it is measured.
        detach: leave the largest weight out of the gradient.
        clamped_steps: minibatches before the others in which weights are clamped and rescaled, inputs clipped, and
            nothing is rounded yet: the paper starts from such a network. The alphas it ends with are kept.
        drop_last_scale: keep the last layer's levels without their constant, and the bias divided by it, as the
            authors' code does: the largest output is the same one, the outputs are not.
        places: layers that have other bits.
        teach: how the network learns again.
    """

    bits: int = 4
    input_bits: int = 0
    scheme: str = "original"
    rescale: str = "bare"
    fan: str = "trained"
    clip: str = "cgpact"
    alpha: float = 0.0
    alpha_share: float = 0.7
    detach: bool = True
    clamped_steps: int = 0
    drop_last_scale: bool = False
    places: PlacesConfig = field(default_factory=lambda: PlacesConfig(first=8, last=8))
    teach: TeachConfig = field(default_factory=few_bits_teaching)

    def __post_init__(self) -> None:
        require_bits("bits", self.bits, 1)
        if self.input_bits:
            require_bits("input_bits", self.input_bits, 1)
        require_choice("scheme", self.scheme, SCHEMES)
        require_choice("rescale", self.rescale, RESCALED)
        require_choice("fan", self.fan, FANS)
        require_choice("clip", self.clip, ("cgpact", "pact"))
        require_finite("alpha", self.alpha, low=0.0)
        require_finite("alpha_share", self.alpha_share, above=0.0)
        require(self.clamped_steps >= 0, f"clamped_steps={self.clamped_steps}: use 0 or more")


class SAT(Transform):
    """Quantized weights and inputs of any network of linear layers or convolutions, rescaled where it is needed."""

    Config = SATConfig
    refuses: ClassVar = {"quantized": "quantize a network once"}
    gives = frozenset({"quantized"})

    config: SATConfig

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return which layers are quantized, and how; `plan_layers` says what the keys mean."""
        config = self.config
        if config.drop_last_scale and not isinstance(subject.task, ClassifierTask):
            raise UserError("drop_last_scale=true: outputs are numbers here, not classes; leave it out")
        require_alpha(config.alpha, subject)
        usual = Bits(config.bits, config.input_bits or config.bits)
        plan = plan_layers(subject, usual, config.places, rescale=config.rescale, fan=config.fan)
        last = list(quantizable(subject.module))[-1]
        if config.drop_last_scale and plan["layers"].get(last, [FLOAT_BITS])[0] == FLOAT_BITS:
            raise UserError(f"drop_last_scale=true: weights of {last}, the last layer, stay floats; use places.last=8")
        return plan

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Put quantized layers in the places that the plan names."""
        config = self.config

        def weights(place: Place, layer: nn.Module) -> UniformWeights:
            return UniformWeights(place.bits.weights, fan=place.fan, scheme=config.scheme, detach=config.detach)

        def inputs(place: Place) -> ClippedInput:
            rule = ClippedInput(place.bits.inputs, signed=place.signed, calibrated=config.clip == "cgpact")
            nn.init.constant_(rule.alpha, config.alpha)
            return rule

        return put_layers(module, plan, weights, inputs)

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Measure where alphas start, let the clamped network learn if that is asked for, then the quantized one."""
        config, module = self.config, subject.module
        if config.clamped_steps:
            clamped = replace(config.teach, fit=replace(config.teach.fit, steps=config.clamped_steps))
            with unrounded(module):
                self.calibrate(subject, seed)
                teach(subject, clamped, derive_seed(seed, "clamped"), optimizer=without_decay(module, clamped))
        else:
            self.calibrate(subject, seed)
        require_calibrated(module)
        teach(subject, config.teach, seed, optimizer=without_decay(module, config.teach))

    def calibrate(self, subject: Subject, seed: int) -> None:
        """Set alphas by the first batch, where the config does not set them."""
        if not self.config.alpha:
            calibrate(subject, self.config.alpha_share, self.config.teach.fit.batch_size, seed)

    @torch.no_grad()
    def finish(self, module: nn.Module) -> nn.Module:
        """Keep packed codes, constants and what stays float."""
        module = pack_layers(module)
        if self.config.drop_last_scale:
            packed = [part for part in module.modules() if isinstance(part, PackedLayer)][-1]
            if isinstance(packed.layer.bias, nn.Parameter):
                packed.layer.bias.div_(packed.scale)
            packed.scale.fill_(1.0)
            packed.refresh()
        return module
