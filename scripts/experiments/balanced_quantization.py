"""Balanced quantization (arXiv:1706.07145), small: digits with 2-bit weights and 2-bit inputs.

A float residual network learns scikit-learn's handwritten digits, enlarged to 16x16. From its weights three 2-bit
networks learn on: with uniform levels, and with balanced ones, split at means and at medians.

Claims: in every seed the uniform levels of learned weights carry few bits (the entropy of how often each is used), the
balanced ones almost all of theirs; and the 2-bit networks are about as accurate as the float one. That balanced levels
are more accurate is not claimed: digits are too easy to show it. The bars are our own choices, set before the first
run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from envs.evaluation.probes import count_bit_operations, count_bytes
from envs.evaluation.quantization.balanced import BalancedConfig, effective_bits
from envs.evaluation.recipe import network_base
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, apply, teach
from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.nn.vision.resnet import ResNet20, ResNetConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

SIZE = 16
SPLITS = ("uniform", "mean", "median")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        width: channels of the first of the network's three stages.
        float_steps: minibatches that the float network learns from.
        steps: minibatches of each quantized one.
        batch_size: pictures of a minibatch.
        bits: of weights.
        input_bits: of what layers take in.
        uniform_bar: effective bits of uniform levels, at most, in every seed.
        balanced_bar: effective bits of levels balanced at means, at least, in every seed.
        accuracy_bar: points that a 2-bit network may lose, in every seed.
    """

    seeds: int = 3
    width: int = 16
    float_steps: int = 300
    steps: int = 300
    batch_size: int = 64
    bits: int = 2
    input_bits: int = 2
    uniform_bar: float = 1.4
    balanced_bar: float = 1.9
    accuracy_bar: float = 1.5

    def __post_init__(self) -> None:
        for name in ("seeds", "width", "float_steps", "steps", "batch_size", "bits", "input_bits"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


DEBUG = Numbers(seeds=1, width=4, float_steps=10, steps=5, batch_size=16)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, quantize, measure, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    names = ("width", "float_steps", "steps", "batch_size", "bits", "input_bits")
    inputs = {name: getattr(numbers, name) for name in names}
    found = jobs.grid(classify, arms=("resnet",), seeds=seeds, **inputs)["resnet"]
    accuracy, effective = (
        {arm: tuple(one[name][arm] for one in found) for arm in found[0][name]} for name in ("accuracy", "effective")
    )
    for arm, values in accuracy.items():
        entropy = ", ".join(f"{value:.2f}" for value in effective.get(arm, ()))
        print(f"{arm:8} % by seed: {', '.join(f'{value:.1f}' for value in values)}; effective bits: {entropy or '-'}")
    return Result(
        seeds=seeds,
        claims=claims(accuracy, effective, numbers),
        figures={"accuracy": accuracy, "effective_bits": effective, "costs": found[0]["costs"]},
        full_scale="python scripts/reproduce.py paper=balanced_quantization seeds=10 float_steps=3000 steps=3000",
    )


def claims(
    accuracy: Mapping[str, tuple[float, ...]], effective: Mapping[str, tuple[float, ...]], numbers: Numbers
) -> tuple[Claim, ...]:
    """Return the claims for accuracies in % and effective bits, by arm and seed."""

    def lost(arm: str) -> float:
        return max(float_one - own for float_one, own in zip(accuracy["float"], accuracy[arm], strict=True))

    return (
        Claim(
            statement="effective bits of uniform levels, the worst seed",
            margin=numbers.uniform_bar,
            figures=(max(effective["uniform"]),),
            at_least=False,
        ),
        Claim(
            statement="effective bits of balanced levels, the worst seed",
            margin=numbers.balanced_bar,
            figures=(min(effective["mean"]),),
        ),
        Claim(
            statement="points of accuracy lost by balanced levels, the worst seed",
            margin=numbers.accuracy_bar,
            figures=(lost("mean"),),
            at_least=False,
        ),
        Claim(
            statement="points of accuracy lost by uniform levels, the worst seed",
            margin=numbers.accuracy_bar,
            figures=(lost("uniform"),),
            at_least=False,
        ),
    )


def classify(
    arm: str,
    seed: int,
    folder: Path,
    width: int,
    float_steps: int,
    steps: int,
    batch_size: int,
    bits: int,
    input_bits: int,
) -> dict[str, Any]:
    """Return "accuracy" in %, "effective" bits and "costs" of one seed's networks, by their names."""
    subject = float_subject(seed, ResNetConfig(width=width, depth=1), teaching(float_steps, batch_size))
    subjects, effective = {"float": subject}, {}
    for split in SPLITS:
        config = BalancedConfig(
            bits=bits,
            input_bits=input_bits,
            split=split,
            scale="max",
            limit=1.0,
            teach=teaching(steps, batch_size),
        )
        method = Method("quantization/balanced", config, "envs.evaluation.quantization.balanced:Balanced")
        subjects[split] = apply(method, subject, derive_seed(seed, "quantized"))
        effective[split] = effective_bits(subjects[split].module)[""]
    return {
        "accuracy": {name: float(each.task.score(each.module, 0).mean()) for name, each in subjects.items()},
        "effective": effective,
        "costs": {
            name: {"bytes": count_bytes(each), "bit_operations": count_bit_operations(each.module, each.example)}
            for name, each in subjects.items()
        },
    }


def float_subject(seed: int, config: ResNetConfig, learning: TeachConfig) -> Subject:
    """Return a float residual network that has learned."""
    task = ClassifierTask(_pictures("train"), _pictures("test"), num_classes=10)
    module = ResNet20(1, SIZE, 10, config, derive_seed(seed, "resnet")).eval()
    base = network_base("resnet20", channels=1, size=SIZE, outputs=10, config=config)
    subject = Subject(module, task.source("test").examples(torch.zeros(1, dtype=torch.int64))["input"], task, base)
    teach(subject, learning, derive_seed(seed, "float"))
    return subject


def teaching(steps: int, batch_size: int) -> TeachConfig:
    """Return how all networks learn."""
    optimizer = OptimizerConfig(learning_rate=3e-3)
    return TeachConfig(
        fit=FitConfig(steps=steps, batch_size=batch_size, optimizer=optimizer, schedule=ScheduleConfig(kind="cosine")),
        rounds=1,
    )


def _pictures(part: str) -> Arrays:
    """Return the digits of a part, (M, 1, SIZE, SIZE) in [0, 1], with their labels."""
    found = digits(part).tensors
    large = functional.interpolate(found["picture"].float() / 255.0, size=SIZE, mode="bilinear", align_corners=False)
    return Arrays({"input": large, "label": found["label"]})
