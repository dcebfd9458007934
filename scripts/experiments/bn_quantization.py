"""Optimal quantization for batch normalization (arXiv:2008.13128), small: certificates of digits networks and painters.

Convolutional networks with BatchNorm learn scikit-learn's handwritten digits (8x8) with 2, 3 and 4 bits of weights and
activations (balanced quantization's uniform levels), and the shipped painter is quantized to 8 bits, and to 4 with its
ends at 8 (PAMS). Then all that lies between their layers becomes (A x + B) >> L.

Claims, in every seed: at no sum that a layer's weights allow do the whole numbers give another level than the exact
fractions; choosing A and B together saves a bit of L, on the mean over channels, against rounding each by itself;
A x + B fits 32 bits; and ten paintings have the same strokes as those of the float64 arithmetic. How often float32
arithmetic itself differs is reported and not claimed. The bars were set before the first run.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.balanced import BalancedConfig
from envs.evaluation.quantization.bn_chain import Channels
from envs.evaluation.quantization.bn_fixed_point import BNFixedPoint, BNFixedPointConfig, certify
from envs.evaluation.quantization.integer import Affine, IntegerNetwork, Product, Step, over_channels
from envs.evaluation.quantization.integer_model import IntegerModel
from envs.evaluation.quantization.layer import PackedLayer
from envs.evaluation.quantization.levels import input_codes, input_integers
from envs.evaluation.quantization.pams import PAMSConfig
from envs.evaluation.quantization.places import PlacesConfig
from envs.evaluation.recipe import network_base
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import apply, teach
from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.methods import Method
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.brelu import teaching
from scripts.experiments.painter_subject import PaintingTask, painter_subject, scored_scenes

DIGITS_BITS = (2, 3, 4)
ENDS = PlacesConfig(first=8, last=8)


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        widths: channels of the digits network's convolutions.
        float_steps: minibatches that it learns from as floats.
        steps: minibatches that it learns from quantized.
        painter_bits: of the painter's inner layers; the first and the last have 8.
        paintings: whose strokes are compared.
        canvases: that the painter's quantized copy learns from.
        painter_steps: minibatches of it.
        shift_bar: bits of L that choosing A and B together saves, on the mean over channels.
        bits_bar: of the largest A x + B.
    """

    seeds: int = 3
    widths: tuple[int, ...] = (16, 32)
    float_steps: int = 300
    steps: int = 150
    painter_bits: tuple[int, ...] = (4, 8)
    paintings: int = 10
    canvases: int = 512
    painter_steps: int = 30
    shift_bar: float = 1.0
    bits_bar: float = 32.0

    def __post_init__(self) -> None:
        require(bool(self.painter_bits), "painter_bits=[]: name some, such as [8]")
        for name in ("seeds", "float_steps", "steps", "paintings", "canvases", "painter_steps"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


DEBUG = Numbers(
    seeds=1, widths=(4,), float_steps=5, steps=3, painter_bits=(2,), paintings=1, canvases=32, painter_steps=1
)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Quantize, bring to fixed point, certify, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    arms = [f"digits-{bits}" for bits in DIGITS_BITS]
    inputs = {name: getattr(numbers, name) for name in ("widths", "float_steps", "steps")}
    found: dict[str, Sequence[dict[str, Any]]] = {**jobs.grid(classify, arms=arms, seeds=seeds, **inputs)}
    arms = [f"painter-{bits}" for bits in numbers.painter_bits]
    inputs = {name: getattr(numbers, name) for name in ("paintings", "canvases", "painter_steps")}
    found |= jobs.grid(paint, arms=arms, seeds=seeds, **inputs)
    for arm, each in found.items():
        print(f"{arm}: mean L {[round(mean(one, 'own_shift'), 1) for one in each]}, rounded alone "
              f"{[round(mean(one, 'alone_shift'), 1) for one in each]}, bits {[largest(one) for one in each]}, "
              f"float32 differs {[one['float32_differs'] for one in each]}", flush=True)  # fmt: skip
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={"found": {arm: list(each) for arm, each in found.items()}},
        full_scale="python scripts/reproduce.py paper=bn_quantization seeds=10 widths=[64,128,128] paintings=100",
    )


def claims(found: Mapping[str, Sequence[Mapping[str, Any]]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for what `classify` and `paint` return, by arm and seed."""
    rows = []
    for arm, each in found.items():
        saved = min(mean(one, "alone_shift") - mean(one, "own_shift") for one in each)
        wrong = sum(layer["mismatches"] for one in each for layer in one["layers"])
        rows += [
            Claim(statement=f"{arm}: sums with another level", margin=0.0, figures=(float(wrong),), at_least=False),
            Claim(statement=f"{arm}: bits of L saved, the worst seed", margin=numbers.shift_bar, figures=(saved,)),
            Claim(
                statement=f"{arm}: bits of A x + B, the worst seed",
                margin=numbers.bits_bar,
                figures=(float(max(largest(one) for one in each)),),
                at_least=False,
            ),
        ]
        if "strokes_differ" in each[0]:
            differing = float(sum(one["strokes_differ"] for one in each))
            statement = f"{arm}: numbers of strokes that differ"
            rows.append(Claim(statement=statement, margin=0.0, figures=(differing,), at_least=False))
    return tuple(rows)


def mean(one: Mapping[str, Any], name: str) -> float:
    """Return the mean over all channels of a figure of layers."""
    layers = one["layers"]
    return sum(layer[name] * layer["channels"] for layer in layers) / sum(layer["channels"] for layer in layers)


def largest(one: Mapping[str, Any]) -> int:
    """Return the bits of the largest A x + B of all layers."""
    return max(layer["accumulator_bits"] for layer in one["layers"])


def classify(
    arm: str, seed: int, folder: Path, widths: tuple[int, ...], float_steps: int, steps: int
) -> dict[str, Any]:
    """Return "layers" (certificates), "accuracy" in % and "float32_differs" of a digits network with few bits."""
    bits = int(arm.partition("-")[2])
    subject = digits_subject(seed, tuple(widths), float_steps)
    few = PlacesConfig(first=max(bits, 4), last=max(bits, 4))
    config = BalancedConfig(
        bits=bits, input_bits=bits, split="uniform", scale="max", places=few, teach=teaching(steps, 64, 1e-3)
    )
    kind = "envs.evaluation.quantization.balanced:Balanced"
    quantized = apply(Method("quantization/balanced", config, kind), subject, derive_seed(seed, "quantized"))
    model, channels = fixed(quantized)
    test = subject.task.source("test").examples(torch.arange(len(subject.task.source("test"))))["input"]
    with torch.no_grad():
        predictions = [one(test).argmax(1) for one in (quantized.module, model)]
    return {
        "layers": certificates(channels),
        "accuracy": {
            name: float(subject.task.score(one, 0).mean())
            for name, one in {"float": subject.module, "quantized": quantized.module, "integer": model}.items()
        },
        "predictions_differ": int((predictions[0] != predictions[1]).sum()),
        "float32_differs": float32_differs(quantized.module, model, test),
    }


def paint(arm: str, seed: int, folder: Path, paintings: int, canvases: int, painter_steps: int) -> dict[str, Any]:
    """Return what `classify` does of a painter, "strokes_differ" in place of "accuracy"."""
    bits = int(arm.partition("-")[2])
    subject = painter_subject(scenes=paintings, states=canvases, seed=seed)
    config = PAMSConfig(
        bits=bits, places=ENDS, structure_weight=0.0, calibration=5, teach=teaching(painter_steps, 64, 1e-4)
    )
    quantized = apply(
        Method("quantization/pams", config, "envs.evaluation.quantization.pams:PAMS"),
        subject,
        derive_seed(seed, "quantized"),
    )
    model, channels = fixed(quantized)
    task: Any = subject.task
    strokes = [strokes_of(task, one, paintings, seed) for one in (model, reference(model, channels))]
    with torch.no_grad():
        states = subject.task.source("test").examples(torch.arange(min(64, canvases)))["input"]
    return {
        "layers": certificates(channels),
        "strokes_differ": int((strokes[0] != strokes[1]).sum()),
        "strokes": strokes[0].numel(),
        "decibels": {
            name: float(task.score(one, seed).mean())
            for name, one in {"float": subject.module, "quantized": quantized.module, "integer": model}.items()
        },
        "float32_differs": float32_differs(quantized.module, model, states),
    }


def fixed(quantized: Subject) -> tuple[IntegerModel, list[Channels]]:
    """Return a quantized subject's integer model, and what was found between its layers."""
    transform = BNFixedPoint(config=BNFixedPointConfig())
    changed = dataclasses.replace(quantized, module=transform.rebuild(quantized.copy(), transform.plan(quantized)))
    channels = transform.solve(changed)
    model = transform.finish(changed.module).eval()
    assert isinstance(model, IntegerModel)
    return model, channels


def certificates(channels: Sequence[Channels]) -> list[dict[str, Any]]:
    """Return the certificate of each layer as plain data, with its number of channels."""
    return [{**dataclasses.asdict(certify(one)), "channels": len(one.stairs)} for one in channels]


class FloatAffine(Step):
    """clip(floor(a x + b)) in float64, in the place of a step of whole numbers."""

    def __init__(self, step: Affine, found: Channels) -> None:
        super().__init__(*step.sources)
        self.step = step
        self.a, self.b = (
            torch.tensor([float(getattr(one, name)) for one in found.stairs], dtype=torch.float64) for name in "ab"
        )
        self.shift = found.stairs[0].low - int(step.low)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map what the step maps."""
        levels = (inputs.double() * over_channels(self.a, inputs) + over_channels(self.b, inputs)).floor() - self.shift
        kept = levels.clamp(float(self.step.low), float(self.step.high))
        return kept.to(torch.int8 if self.step.narrow else torch.int32)


def reference(model: IntegerModel, channels: Sequence[Channels]) -> IntegerModel:
    """Return a copy of a model that computes in float64 what lies between its layers."""
    model = copy.deepcopy(model)
    left = list(channels)
    for number, step in enumerate(model.network.steps):
        if isinstance(step, Affine):
            model.network.steps[number] = FloatAffine(step, left.pop(0))
    return model


def strokes_of(task: PaintingTask, policy: nn.Module, paintings: int, seed: int) -> Tensor:
    """Return all strokes of some paintings."""
    strokes: list[Tensor] = []
    task.paint(policy, scored_scenes(paintings, task.size, seed), lambda _, action: strokes.append(action))
    return torch.stack(strokes)


@torch.no_grad()
def float32_differs(module: nn.Module, model: IntegerModel, inputs: Tensor) -> dict[str, int]:
    """Return the "activations" that the float32 network rounds to other levels than the whole numbers have, "of" all.

    Each network goes its own way, so that what differs once may differ on.
    """
    seen: list[Tensor] = []
    handles = []
    for part in module.modules():
        if isinstance(part, PackedLayer):

            def note(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
                assert isinstance(layer, PackedLayer)
                assert layer.input_rule is not None
                seen.append(input_integers(layer.input_rule, given[0]) - input_codes(layer).shift)

            handles.append(part.register_forward_pre_hook(note))
    try:
        module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    values = taken_in(model.network, model.enter(inputs))
    pairs = list(zip(seen, values, strict=True))
    return {
        "activations": sum(int((one != other).sum()) for one, other in pairs),
        "of": sum(one.numel() for one, _ in pairs),
    }


def taken_in(network: IntegerNetwork, inputs: Tensor) -> list[Tensor]:
    """Return what every layer of an integer network takes in."""
    values = network.values(inputs)
    return [values[step.sources[0]] for step in network.steps if isinstance(step, Product)]


def digits_subject(seed: int, widths: tuple[int, ...], steps: int) -> Subject:
    """Return a float convolutional network with BatchNorm that has learned digits of 8x8 pixels."""

    def pictures(part: str) -> Arrays:
        found = digits(part).tensors
        return Arrays({"input": found["picture"].float() / 255.0, "label": found["label"]})

    task = ClassifierTask(pictures("train"), pictures("test"), num_classes=10)
    config = ConvNetConfig(widths=widths, hidden=0, batch_norm=True)
    module = ConvNet(1, 8, 10, config, derive_seed(seed, "digits")).eval()
    base = network_base("conv", channels=1, size=8, outputs=10, config=config)
    example = task.source("test").examples(torch.zeros(1, dtype=torch.int64))["input"]
    subject = Subject(module, example, task, base)
    teach(subject, teaching(steps, 64, 3e-3), derive_seed(seed, "float"))
    return subject
