"""AdaBits: one network, several widths, chosen while it runs (Jin, Yang and Liao 2019, arXiv:1912.09666).

Built on SAT's layers (arXiv:1912.10207). Joint learning: at every step each width sees the same minibatch, the losses
are added with equal weight, and one step follows. A width has for itself: normalizations, the clipping levels of inputs
(S-CL), and the constant of its weights, whose variance differs from width to width. The first and the last layer keep 8
bits for their weights, and the last takes in the current width's.

With the levels "modified" or "centred" the codes of fewer bits are the first bits of those of more, so a file holds the
codes of the most bits alone. "original" ones need the float weights, which the file then holds.

    with at_width(module, 4): ...                 another width for a while
    four = load_at(subject, 4)                    a network of 4 bits alone, and its file

The paper's controls: learning="direct" learns at the most bits alone, "descending" and "ascending" at one width after
another; what other widths have is copied from there, and the statistics of their normalizations measured anew.

Departures: where no normalization follows a layer, a scale and a shift of each width do; "centred" is the default,
since "modified" weights have a mean of -1/2^k, with which the paper's networks do not converge at 2 bits; learning
starts from the float network as it is, where the paper's is clamped and rescaled first, its normalizations and alphas
copied to every width (`SAT` has such a stage, `clamped_steps`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.adaptive import (
    AdaptiveInput,
    AdaptiveWeights,
    SwitchableAffine,
    SwitchableNorm,
    at_width,
    copy_width,
    narrow,
    set_width,
)
from envs.evaluation.quantization.layer import effective_weight, pack_layers, quantizable
from envs.evaluation.quantization.measure import NORMALIZATIONS, followed_by_normalization
from envs.evaluation.quantization.places import Bits, PlacesConfig, named_layers
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
from envs.evaluation.quantization.uniform import SCHEMES, ClippedInput, UniformWeights, require_calibrated
from envs.evaluation.subject import BATCH_NORMALIZATIONS, Subject
from envs.evaluation.transform import TeachConfig, Transform, teach
from rlsuite.data.minibatches import minibatch
from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.running.seeding import derive_seed

LEARNINGS = ("joint", "direct", "descending", "ascending")


@dataclass(frozen=True, kw_only=True)
class AdaBitsConfig:
    """AdaBits's numbers.

    Attributes:
        bits: the widths, most bits first.
        at: the width that the finished network runs at until another is asked for; 0 for the most bits.
        only: keep that width alone.
        scheme: levels of weights: "centred", "modified" (not with 2 bits) or "original" (needs the float weights).
        switch_norm: normalizations of each width; else shared ones, and no scale and shift.
        switch_alpha: clipping levels of each width (S-CL); else shared ones.
        learning: "joint" (the method), "direct", "descending" or "ascending".
        recalibration: batches that normalizations are measured on, unless learning is joint.
        rescale: which layers' weights, as SAT has it.
        fan: likewise.
        alpha: likewise.
        alpha_share: likewise.
        places: bits of the first and the last layer's weights; others named keep one width.
        teach: how the network learns; each minibatch is seen by every width.
    """

    bits: tuple[int, ...] = (8, 6, 4, 3, 2)
    at: int = 0
    only: bool = False
    scheme: str = "centred"
    switch_norm: bool = True
    switch_alpha: bool = True
    learning: str = "joint"
    recalibration: int = 20
    rescale: str = "bare"
    fan: str = "trained"
    alpha: float = 0.0
    alpha_share: float = 0.7
    places: PlacesConfig = field(default_factory=lambda: PlacesConfig(first=8, last=8))
    teach: TeachConfig = field(default_factory=few_bits_teaching)

    def __post_init__(self) -> None:
        for bits in self.bits:
            require_bits("bits", bits, 1)
        falling = bool(self.bits) and list(self.bits) == sorted(set(self.bits), reverse=True)
        require(
            falling and self.bits[0] != FLOAT_BITS, f"bits={list(self.bits)}: name widths, most first, such as [8,4,2]"
        )
        require(self.at in (0, *self.bits), f"at={self.at}: use one of bits={list(self.bits)}, or 0 for the most")
        require_choice("scheme", self.scheme, SCHEMES)
        require(
            self.scheme != "modified" or min(self.bits) > 2,
            f"scheme=modified: with {min(self.bits)} bits it does not converge; use scheme=centred",
        )
        require_choice("learning", self.learning, LEARNINGS)
        require_choice("rescale", self.rescale, RESCALED)
        require_choice("fan", self.fan, FANS)
        require(self.recalibration >= 1, f"recalibration={self.recalibration}: use 1 batch or more")
        require_finite("alpha", self.alpha, low=0.0)
        require_finite("alpha_share", self.alpha_share, above=0.0)


class AdaBits(Transform):
    """Several widths of any network of linear layers or convolutions, in one set of weights."""

    Config = AdaBitsConfig
    refuses: ClassVar = {
        "quantized": "quantize a network once",
        "stacked": "its members cannot share what a width has; quantize a policy of plain layers",
    }
    gives = frozenset({"quantized"})

    config: AdaBitsConfig

    def plan(self, subject: Subject) -> dict[str, Any]:
        """Return what `plan_layers` does, which layers have all widths, and how wide the affine maps are.

        "adaptive" has the paths whose weights have all widths, "inputs" those whose inputs have; "affine" has path ->
        outputs of the layers with a scale and shift.
        """
        config, layers = self.config, list(quantizable(subject.module))
        require_alpha(config.alpha, subject)
        usual = Bits(config.bits[0], config.bits[0])
        plan = plan_layers(subject, usual, config.places, rescale=config.rescale, fan=config.fan)
        named = named_layers(subject.module, config.places)
        adaptive = [path for path in plan["layers"] if path not in (layers[0], layers[-1]) and path not in named]
        require(bool(adaptive), f"bits={list(config.bits)}: no layer is left whose width could change")
        normalized = followed_by_normalization(subject.module, subject.example)
        bare = [path for path in plan["layers"] if path not in normalized] if config.switch_norm else []
        return plan | {
            "adaptive": adaptive,
            "inputs": [*adaptive, *[path for path in layers[-1:] if path in plan["layers"] and path not in named]],
            "affine": {path: effective_weight(subject.module.get_submodule(path)).shape[0] for path in bare},
        }

    def rebuild(self, module: nn.Module, plan: Any) -> nn.Module:
        """Put layers, normalizations and affine maps in the places that the plan names."""
        config = self.config
        adaptive, inputs, affine = (plan.get(key) if isinstance(plan, dict) else None for key in _OWN)
        if not (isinstance(adaptive, list) and isinstance(inputs, list) and isinstance(affine, dict)):
            raise UserError("its plan is damaged: it does not say what has several widths")

        def weight_rule(place: Place, layer: nn.Module) -> UniformWeights:
            if place.path in adaptive:
                return AdaptiveWeights(config.bits, fan=place.fan, scheme=config.scheme)
            return UniformWeights(place.bits.weights, fan=place.fan, scheme=config.scheme)

        def input_rule(place: Place) -> ClippedInput:
            if place.path in inputs:
                rule = AdaptiveInput(config.bits, signed=place.signed, switch=config.switch_alpha)
            else:
                rule = ClippedInput(place.bits.inputs, signed=place.signed)
            nn.init.constant_(rule.alpha, config.alpha)
            return rule

        if config.switch_norm:
            for path, part in list(module.named_modules()):
                if isinstance(part, NORMALIZATIONS):
                    module.set_submodule(path, SwitchableNorm(part, config.bits))
        device = next(module.parameters()).device
        put_layers(module, plan, weight_rule, input_rule)
        for path, features in affine.items():
            if path not in plan["layers"] or type(features) is not int or features < 1:
                raise UserError(f"its plan is damaged: '{str(path)[:60]}' has no {features} outputs")
            behind = SwitchableAffine(features, config.bits).to(device)
            module.set_submodule(path, nn.Sequential(module.get_submodule(path), behind))
        return module

    def train(self, subject: Subject, before: Subject, seed: int) -> None:
        """Let all widths learn together, or as a control has it."""
        config, module = self.config, subject.module
        if not config.alpha:
            for bits in config.bits if config.switch_alpha else config.bits[:1]:
                with at_width(module, bits):
                    calibrate(subject, config.alpha_share, config.teach.fit.batch_size, seed)
        require_calibrated(module)
        optimizer = without_decay(module, config.teach)
        if config.learning == "joint":
            teach(subject, config.teach, seed, optimizer=optimizer, losses=self._joint(subject))
            return
        order = {"direct": config.bits[:1], "descending": config.bits, "ascending": config.bits[::-1]}[config.learning]
        for place, bits in enumerate(order):
            if place:
                copy_width(module, order[place - 1], bits)
            with at_width(module, bits):
                teach(subject, config.teach, derive_seed(seed, f"width {bits}"), optimizer=optimizer)
        for bits in config.bits:
            if bits not in order:
                copy_width(module, order[-1], bits)
            with at_width(module, bits):
                recalibrate(subject, config.recalibration, config.teach.fit.batch_size, seed)

    def _joint(self, subject: Subject) -> Any:
        """Return the sum of every width's loss, beside each."""

        def loss(network: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            losses = {}
            for bits in self.config.bits:
                with at_width(network, bits):
                    losses[f"loss_{bits}_bits"] = subject.task.loss(network, batch).mean()
            return {"loss": torch.stack(list(losses.values())).sum(), **losses}

        return loss

    def finish(self, module: nn.Module) -> nn.Module:
        """Keep codes of the most bits, or of the one width that is kept, what each width has, and what stays float."""
        config, at = self.config, self.config.at or self.config.bits[0]
        if config.only:
            return pack_layers(narrow(module, at))
        if config.scheme != "original":
            module = pack_layers(module)
        set_width(module, at)
        return module


_OWN = ("adaptive", "inputs", "affine")


def load_at(subject: Subject, bits: int) -> Subject:
    """Return a subject of one width alone, from one that AdaBits made: what a file of that width gives back.

    Raises:
        UserError: if it never learned this width, or keeps float weights.
    """
    *before, step = subject.recipe
    if step.config.get("scheme") == "original":
        raise UserError("scheme=original keeps no codes that could be shifted; use scheme=centred")
    module = narrow(subject.copy(), bits)
    own = step._replace(config={**step.config, "at": bits, "only": True})
    return dataclasses.replace(subject, module=module, recipe=(*before, own))


@torch.no_grad()
def recalibrate(subject: Subject, batches: int, batch_size: int, seed: int) -> None:
    """Measure the statistics of batch normalizations anew, as the mean over batches, at the network's current width."""
    module, source = subject.module, subject.task.source("train")
    switched = [part for part in module.modules() if isinstance(part, SwitchableNorm)]
    found = [part.norms[part.widths.index(part.bits)] for part in switched] or module.modules()
    norms: list[Any] = [part for part in found if isinstance(part, BATCH_NORMALIZATIONS)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over batches
    module.train()
    device = next(module.parameters()).device
    for step in range(batches if norms else 0):
        size = min(batch_size, len(source))
        index = minibatch(derive_seed(seed, "recalibration"), step, len(source), size, "epochs")
        module(source.examples(index)["input"].to(device))
    module.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
