"""RBNN (arXiv:2009.13055), small: rotated weights lie nearer to their signs, and networks of one bit learn.

Gaussian filters are rotated, and the cosine with their signs is measured. Then networks of a float first convolution
and three binary ones, each with a shortcut, learn scikit-learn's digits of 8x8 pixels from scratch, in four ways:
signs with the gradient of the clipped identity ("plain"), with the gradient that sharpens ("schedule"), with rotations
as well ("rotation"), and with rotations that pass no gradient, as in the authors' code ("detached"). Last, the second
and third convolution of the shipped painter become binary and learn its strokes.

Claims: the cosine's gains; the schedule is not worse than plain signs; rotations bring every layer's weights nearer to
their signs than the schedule alone, and cost little accuracy; gradients through the rotated weight are worth ten points
in a training as short as this. That rotations gain accuracy is not claimed: it is a claim of long trainings. The
painter's figures are reported. Accuracies are compared by their means over seeds, cosines in the worst layer of the
worst seed. The bars were set before the first run.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from envs.evaluation.probes import count_bit_operations, count_bytes
from envs.evaluation.quantization.binary_layer import SignInput, use_backend
from envs.evaluation.quantization.rbnn import RBNN, RBNNConfig
from envs.evaluation.quantization.rotated import RotatedLayer, angle_report
from envs.evaluation.recipe import network_base, same_bits
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.nn.vision.bi_real import BiRealConfig, BiRealNet
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.painter_subject import painter_subject

TARGET = "envs.evaluation.quantization.rbnn:RBNN"
ARMS: dict[str, dict[str, Any]] = {
    "plain": {"rotate": False, "gradient": "clipped"},
    "schedule": {"rotate": False},
    "rotation": {},
    "detached": {"detached": True},
}
GAUSSIAN = {"16x144": (16, 16), "64x576": (64, 64)}  # filters, channels of 3x3


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        width: channels of all convolutions.
        epochs: of each network, over 1,438 digits; rotations are renewed at each.
        batch_size: pictures of a minibatch.
        learning_rate: of SGD, at the start.
        painter_steps: minibatches from which the painter learns, in each of two rounds.
        scenes: that the painter paints.
        states: canvases labelled in a round.
        small_gain_bar: gain of the cosine of 16 Gaussian filters of 144 weights, at least, in every seed.
        large_gain_bar: likewise of 64 filters of 576 weights.
        flips_bar: how far from a half the share of turned signs may be, in every seed.
        schedule_bar: points that the schedule may be below plain signs.
        cosine_bar: gain of every layer's cosine by rotations, at least.
        gradient_bar: points that gradients through the rotated weight are worth, at least.
        rotation_bar: points that rotations may cost.
    """

    seeds: int = 3
    width: int = 16
    epochs: int = 25
    batch_size: int = 64
    learning_rate: float = 0.05
    painter_steps: int = 50
    scenes: int = 32
    states: int = 1024
    small_gain_bar: float = 0.025
    large_gain_bar: float = 0.010
    flips_bar: float = 0.05
    schedule_bar: float = 0.5
    cosine_bar: float = 0.08
    gradient_bar: float = 10.0
    rotation_bar: float = 3.0

    def __post_init__(self) -> None:
        for name in ("seeds", "width", "epochs", "batch_size", "painter_steps", "scenes", "states"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.learning_rate > 0.0, f"learning_rate={self.learning_rate}: use a number above 0")


DEBUG = Numbers(seeds=1, width=4, epochs=1, batch_size=128, painter_steps=2, scenes=1, states=16)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Rotate, learn, paint, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    inputs = {name: getattr(numbers, name) for name in ("width", "epochs", "batch_size", "learning_rate")}
    gaussian = jobs.grid(gaussian_angles, arms=tuple(GAUSSIAN), seeds=seeds, in_process=True)
    learned = jobs.grid(classify, arms=tuple(ARMS), seeds=seeds, **inputs)
    painting = {name: getattr(numbers, name) for name in ("painter_steps", "scenes", "states")}
    painted = jobs.grid(paint, arms=("painter",), seeds=seeds, **painting)["painter"]
    accuracy = {arm: tuple(one["accuracy"] for one in found) for arm, found in learned.items()}
    cosines = {arm: tuple(tuple(one["cosines"]) for one in found) for arm, found in learned.items()}
    for arm, values in accuracy.items():
        layers = " / ".join(", ".join(f"{value:.3f}" for value in one) for one in cosines[arm])
        print(f"{arm:9} % by seed: {', '.join(f'{value:.1f}' for value in values)}; cosines: {layers}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(gaussian, accuracy, cosines, numbers),
        figures={
            "accuracy": accuracy,
            "cosines": cosines,
            "flips": {arm: [one["flips"] for one in found] for arm, found in learned.items()},
            "gaussian": gaussian,
            "painter": painted,
        },
        full_scale=(
            "python scripts/reproduce.py paper=rbnn seeds=10 epochs=400 width=64 painter_steps=20000 states=50000"
        ),
    )


def claims(
    gaussian: Mapping[str, Any],
    accuracy: Mapping[str, tuple[float, ...]],
    cosines: Mapping[str, tuple[tuple[float, ...], ...]],
    numbers: Numbers,
) -> tuple[Claim, ...]:
    """Return the claims for the Gaussian filters' angles, and accuracies in % and cosines by arm and seed."""

    def mean(arm: str) -> float:
        return sum(accuracy[arm]) / len(accuracy[arm])

    def gain(name: str) -> float:
        return min(one["after"] - one["before"] for one in gaussian[name])

    turned = max(abs(one["flipped"] - 0.5) for found in gaussian.values() for one in found)
    nearer = min(
        own - other
        for rotated, scheduled in zip(cosines["rotation"], cosines["schedule"], strict=True)
        for own, other in zip(rotated, scheduled, strict=True)
    )
    return (
        Claim(
            statement="16 Gaussian filters of 144 weights: gain of the cosine, the worst seed",
            margin=numbers.small_gain_bar,
            figures=(gain("16x144"),),
        ),
        Claim(
            statement="64 Gaussian filters of 576 weights: gain of the cosine, the worst seed",
            margin=numbers.large_gain_bar,
            figures=(gain("64x576"),),
        ),
        Claim(
            statement="Gaussian filters: how far from a half the share of turned signs is, the worst seed",
            margin=numbers.flips_bar,
            figures=(turned,),
            at_least=False,
        ),
        Claim(
            statement="points that the sharpened gradient is below the clipped one",
            margin=numbers.schedule_bar,
            figures=(mean("plain") - mean("schedule"),),
            at_least=False,
        ),
        Claim(
            statement="gain of the cosine by rotations, the worst layer of the worst seed",
            margin=numbers.cosine_bar,
            figures=(nearer,),
        ),
        Claim(
            statement="points of the paper's gradient above the detached one",
            margin=numbers.gradient_bar,
            figures=(mean("rotation") - mean("detached"),),
        ),
        Claim(
            statement="points lost by rotations",
            margin=numbers.rotation_bar,
            figures=(mean("schedule") - mean("rotation"),),
            at_least=False,
        ),
    )


def gaussian_angles(arm: str, seed: int, folder: Path) -> dict[str, float]:
    """Return the mean cosine of Gaussian filters with their signs before and after three cycles, and turned signs."""
    filters, channels = GAUSSIAN[arm]
    generator = torch.Generator().manual_seed(derive_seed(seed, "gaussian"))
    layer = nn.Conv2d(channels, filters, 3, bias=False)
    with torch.no_grad():
        layer.weight.normal_(generator=generator)
    rotated = RotatedLayer(layer, SignInput(centred=True))
    rotated.draw_rotation(generator)
    rotated.improve_rotation()
    (angle,) = angle_report(nn.Sequential(rotated)).values()
    return angle._asdict()


def classify(
    arm: str, seed: int, folder: Path, width: int, epochs: int, batch_size: int, learning_rate: float
) -> dict[str, Any]:
    """Return "accuracy" in %, and the learned layers' "cosines" and "flips", of one network."""
    task = ClassifierTask(_pictures("train"), _pictures("test"), num_classes=10)
    config = BiRealConfig(stem=width, widths=(width,) * 3)
    module = BiRealNet(1, 8, 10, config, derive_seed(seed, "network")).eval()
    base = network_base("bi_real", channels=1, size=8, outputs=10, config=config)
    subject = Subject(module, task.source("test").examples(torch.zeros(1, dtype=torch.int64))["input"], task, base)
    steps = epochs * -(-len(task.source("train")) // batch_size)
    changed = RBNNConfig(epochs=epochs, teach=teaching(steps, batch_size, learning_rate), **ARMS[arm])
    transform, before = RBNN(config=changed), subject.copy()
    plan = transform.plan(subject)
    learned = Subject(transform.rebuild(before, plan), subject.example, task, base)
    transform.train(learned, subject, derive_seed(seed, "learned"))
    angles = angle_report(learned.module).values()
    module = transform.finish(learned.module)
    return {
        "accuracy": float(task.score(module, 0).mean()),
        "cosines": [angle.after for angle in angles],
        "flips": [angle.flipped for angle in angles],
    }


def paint(arm: str, seed: int, folder: Path, painter_steps: int, scenes: int, states: int) -> dict[str, Any]:
    """Return dB and costs of the shipped painter and of one with binary convolutions, and whether backends agree."""
    subject = painter_subject(scenes=scenes, states=states, seed=seed)
    config = RBNNConfig(teach=painter_teaching(painter_steps))
    changed = apply(Method("quantization/rbnn", config, TARGET), subject, derive_seed(seed, "painter"))
    counting = use_backend(copy.deepcopy(changed.module), "popcount")
    pictures = subject.task.source("test").examples(torch.arange(min(8, states)))["input"]
    with torch.no_grad():
        agree = same_bits(counting(pictures), changed.module(pictures))
    return {
        name: {
            "psnr": float(one.task.score(one.module, 0).mean()),
            "bytes": count_bytes(one),
            "bit_operations": count_bit_operations(one.module, one.example),
        }
        for name, one in {"float": subject, "binary": changed}.items()
    } | {"floor": subject.task.floor, "backends_agree": agree, "layers": list(changed.recipe[-1].plan["layers"])}


def teaching(steps: int, batch_size: int, learning_rate: float) -> TeachConfig:
    """Return how all digit networks learn: SGD with the paper's weight decay, a cosine to 0."""
    optimizer = OptimizerConfig(name="sgd", learning_rate=learning_rate, weight_decay=1e-4)
    schedule = ScheduleConfig(kind="cosine")
    return TeachConfig(
        fit=FitConfig(steps=steps, batch_size=batch_size, optimizer=optimizer, schedule=schedule), rounds=1
    )


def painter_teaching(steps: int) -> TeachConfig:
    """Return how painters learn: a trained network's other layers want smaller steps, and Adam."""
    optimizer, schedule = OptimizerConfig(learning_rate=1e-3), ScheduleConfig(kind="cosine")
    return TeachConfig(fit=FitConfig(steps=steps, batch_size=64, optimizer=optimizer, schedule=schedule), rounds=2)


def _pictures(part: str) -> Arrays:
    """Return the digits of a part, (M, 1, 8, 8) in [0, 1], with their labels."""
    found = digits(part).tensors
    return Arrays({"input": found["picture"].float() / 255.0, "label": found["label"]})
