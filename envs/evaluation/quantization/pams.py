"""PAMS: the largest activation becomes a number that is learned (Li et al. 2020, arXiv:2011.04212).

    q(x; a) = round(clip(x, -a, a) n / a) a / n,  n = 2^(bits - 1) - 1

Weights take a = max|W| at every step; each place where activations are quantized has an a of its own, started at a
moving average of the largest absolute activations and learned with its own learning rate beside the weights, while the
feature maps of the float network teach those of the quantized one ("structured knowledge transfer").

Departures: the average is taken before the learning, over batches of the float activations, not during the first
epoch of it; the shortcut's quantizer also feeds the branch (placement="faithful" leaves the branch as the authors' code
has it), so that convolutions see whole numbers; policies learn from their float copy's actions.

Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.quantization.layer import QuantizedLayer, pack_layers
from envs.evaluation.quantization.places import Bits, PlacesConfig, bits_of_layers, bits_of_plan
from envs.evaluation.quantization.rules import (
    FLOAT_BITS,
    SMALLEST_SCALE,
    MaxAbsInput,
    MaxAbsWeights,
    SymmetricInput,
    from_integers,
    require_bits,
)
from envs.evaluation.quantization.through import through
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, Transform, teach
from rlsuite.data.minibatches import minibatch
from rlsuite.errors import UserError, require, require_choice, require_finite
from rlsuite.fit import FitConfig
from rlsuite.nn.vision.doors import sites
from rlsuite.nn.vision.edsr import EDSR, ResidualBlock
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

LOWEST_BITS = 2
START = 10.0  # of a max scale that nothing has been measured for (the authors' code)
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


class MaxScale(SymmetricInput):
    """Activations clipped at a learned number, alpha: the parameterized max scale."""

    def __init__(self, bits: int) -> None:
        super().__init__(bits)
        self.alpha = nn.Parameter(torch.tensor(START))
        self.decay: float | None = None  # while it is being measured
        self.measured = False

    def scale(self, inputs: Tensor) -> Tensor:
        """Return alpha (), kept above zero; one that has fallen below can still come back."""
        return through(self.alpha.clamp_min(SMALLEST_SCALE), self.alpha)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return quantized inputs; alpha learns from what is clipped, and from the rounding of what is not."""
        if self.decay is not None:
            self._measure(inputs, self.decay)
            return inputs
        scale = self.scale(inputs)
        integers, fixed = self.integers(inputs.detach())
        quantized = from_integers(integers, fixed.detach(), self.bits)
        clipped = torch.maximum(torch.minimum(inputs, scale), -scale)
        rounding = (quantized - clipped).detach() / fixed.detach()
        return through(quantized, clipped + scale * rounding)

    @torch.no_grad()
    def _measure(self, inputs: Tensor, decay: float) -> None:
        """Take the mean over the batch of each example's largest absolute input into the moving average."""
        largest = inputs.abs().flatten(1).amax(1).mean()
        self.alpha.copy_(decay * self.alpha + (1.0 - decay) * largest if self.measured else largest)
        self.measured = True


@contextlib.contextmanager
def measuring(module: nn.Module, decay: float) -> Iterator[None]:
    """Let every max scale of a network measure what comes by, for a while; nothing of it is left in its state."""
    scales = [part for part in module.modules() if isinstance(part, MaxScale)]
    for part in scales:
        part.decay, part.measured = decay, False
    try:
        yield
    finally:
        for part in scales:
            part.decay = None


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
        _features(module, self.config.features)
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
        path = _features(before.module, config.features) if config.structure_weight else ""
        if not path:
            teach(subject, config.teach, seed, optimizer=optimizer)
            return
        task, teacher = subject.task, before.module
        with _caught(subject.module, path) as own, _caught(teacher, path) as wanted:

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


def structure_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean square difference () of two feature maps' (B, C, H, W) spatial attention.

    Attention is the mean over channels of squares, normalized over the pixels of each picture. The paper writes a sum;
    the authors' code takes the mean, which their weight of 1000 goes with.
    """

    def attention(features: Tensor) -> Tensor:
        return functional.normalize(features.square().mean(1).flatten(1), dim=1)

    return (attention(student) - attention(teacher)).square().mean()


def _features(module: nn.Module, named: str) -> str:
    """Return the path of the module that the compared feature maps go into, or ""."""
    paths = {path: part for path, part in module.named_modules() if path}
    if named:
        require(named in paths, f"features={named}: the network has no such module; some are: {', '.join(paths)[:80]}")
        return named
    for path, part in module.named_modules():
        if isinstance(part, EDSR):
            return f"{path}.tail".lstrip(".")
        if isinstance(part, nn.Flatten):
            return path
    return ""


@contextlib.contextmanager
def _caught(module: nn.Module, path: str) -> Iterator[list[Tensor]]:
    """Give a list that holds what last went into a module of a network."""
    found: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found[:] = [inputs[0]]

    handle = module.get_submodule(path).register_forward_pre_hook(keep)
    try:
        yield found
    finally:
        handle.remove()
