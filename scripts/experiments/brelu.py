"""BReLU (arXiv:2006.11735), small: digits, a half cheetah and the painter on whole numbers alone.

A float residual network learns scikit-learn's handwritten digits (8x8). Its activations then have 3 levels above zero,
or 127, each time with 8-bit weights: "naive" takes the mean over 20 batches of each one's largest activation as bound
and learns nothing; "0.99977" and "0.99" are BReLU with the paper's quantile and with a lower one. TD3's actor of
HalfCheetah (trained once, its minutes apart) and the shipped painter become int8 networks and act.

Claims, in every seed: with 3 levels BReLU beats naive, by more with the lower quantile; with 127 it costs almost
nothing; actor and painter keep their return; and numpy, torch with one and two threads and onnxruntime give the same
bytes. With 127, 15 and 7 levels the arms do not separate on digits, so nothing is claimed there. The bars were set
before the first run, after a trial on another small network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agents.subject import JudgeConfig
from envs.evaluation.probes import count_bytes
from envs.evaluation.quantization.brelu import BReLU, BReLUConfig
from envs.evaluation.quantization.integer_agreement import disagreements
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
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.painter_subject import painter_subject
from scripts.experiments.subjects import STEPS, subject_of, trained_subjects

ACTOR = "half_cheetah_td3"
ARMS = {"3-0.99977": (3, 0.99977), "3-0.99": (3, 0.99), "127-0.99977": (127, 0.99977)}


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        width: channels of the first of the digits network's three stages.
        float_steps: minibatches that it learns from as floats.
        weight_steps: minibatches with quantized weights (digits: 2 epochs).
        steps: minibatches with bounded ReLUs (digits: 5 epochs).
        episodes: of the actor, for each figure.
        states: that the actor's copy learns from, in each of two rounds.
        scenes: that the painter paints, for each figure.
        canvases: that the painter's copy learns from.
        painter_steps: minibatches of the painter with bounded ReLUs; a third of them with quantized weights before.
        agreement: inputs on which backends are compared; of the painter a hundredth.
        training_steps: of the actor's training.
        three_bar: points of BReLU at 0.99977 above naive, 3 levels.
        lower_bar: points of BReLU at 0.99 above naive, 3 levels.
        points_bar: points that 127 levels may cost.
        return_bar: share of return and decibels kept.
    """

    seeds: int = 3
    width: int = 16
    float_steps: int = 675
    weight_steps: int = 45
    steps: int = 112
    episodes: int = 10
    states: int = 4000
    scenes: int = 32
    canvases: int = 2048
    painter_steps: int = 150
    agreement: int = 10_000
    training_steps: int = STEPS
    three_bar: float = 2.0
    lower_bar: float = 4.0
    points_bar: float = 0.6
    return_bar: float = 0.95

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            require(getattr(self, field.name) > 0, f"{field.name}={getattr(self, field.name)}: use more than 0")


DEBUG = Numbers(
    seeds=1,
    width=4,
    float_steps=10,
    weight_steps=3,
    steps=3,
    episodes=2,
    states=100,
    scenes=2,
    canvases=64,
    painter_steps=3,
    agreement=200,
    training_steps=600,
)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, become whole numbers, measure, and test the claims."""
    seeds = tuple(range(numbers.seeds))

    def inputs(*names: str) -> dict[str, Any]:
        return {name: getattr(numbers, name) for name in names}

    names = ("width", "float_steps", "weight_steps", "steps", "agreement")
    found = jobs.grid(classify, arms=("digits",), seeds=seeds, **inputs(*names))["digits"]
    accuracy = {arm: tuple(one["accuracy"][arm] for one in found) for arm in found[0]["accuracy"]}
    policy = str(trained_subjects([ACTOR], jobs, steps=numbers.training_steps)[ACTOR])
    actors = jobs.grid(act, arms=(ACTOR,), seeds=seeds, run=policy, **inputs("episodes", "states", "agreement"))[ACTOR]
    names = ("scenes", "canvases", "painter_steps", "agreement")
    painters = jobs.grid(paint, arms=("painter",), seeds=seeds, **inputs(*names))["painter"]
    for arm, values in accuracy.items():
        print(f"{arm:12} % by seed: {', '.join(f'{value:.1f}' for value in values)}", flush=True)
    for name, each in (("actor", actors), ("painter", painters)):
        print(f"{name}: {[one['score'] for one in each]}, kept {[round(one['kept'], 3) for one in each]}", flush=True)
    differing = sum(one["disagreements"] for one in (*found, *actors, *painters))
    kept = {"actor": tuple(one["kept"] for one in actors), "painter": tuple(one["kept"] for one in painters)}
    return Result(
        seeds=seeds,
        claims=claims(accuracy, kept, differing, numbers),
        figures={
            "accuracy": accuracy,
            "kept": kept,
            "scores": {"actor": [one["score"] for one in actors], "painter": [one["score"] for one in painters]},
            "costs": {"digits": found[0]["bytes"], "actor": actors[0]["bytes"], "painter": painters[0]["bytes"]},
            "disagreements": differing,
        },
        full_scale="python scripts/reproduce.py paper=brelu seeds=10 episodes=100 states=20000 scenes=500 steps=1000",
    )


def claims(
    accuracy: Mapping[str, tuple[float, ...]], kept: Mapping[str, tuple[float, ...]], differing: int, numbers: Numbers
) -> tuple[Claim, ...]:
    """Return the claims for accuracies in % by arm and seed, shares kept, and inputs that backends differ at."""

    def above(arm: str) -> float:
        return min(own - naive for own, naive in zip(accuracy[arm], accuracy["3-naive"], strict=True))

    lost = max(own - levels for own, levels in zip(accuracy["float"], accuracy["127-0.99977"], strict=True))
    return (
        Claim(
            statement="3 levels: points of BReLU (0.99977) above naive, the worst seed",
            margin=numbers.three_bar,
            figures=(above("3-0.99977"),),
        ),
        Claim(
            statement="3 levels: points of BReLU (0.99) above naive, the worst seed",
            margin=numbers.lower_bar,
            figures=(above("3-0.99"),),
        ),
        Claim(
            statement="127 levels: points lost by BReLU, the worst seed",
            margin=numbers.points_bar,
            figures=(lost,),
            at_least=False,
        ),
        *(
            Claim(
                statement=f"share kept by the int8 {name}, the worst seed", margin=numbers.return_bar, figures=(worst,)
            )
            for name, worst in ((name, min(shares)) for name, shares in kept.items())
        ),
        Claim(
            statement="inputs at which numpy, torch and onnxruntime differ",
            margin=0.0,
            figures=(float(differing),),
            at_least=False,
        ),
    )


def classify(
    arm: str, seed: int, folder: Path, width: int, float_steps: int, weight_steps: int, steps: int, agreement: int
) -> dict[str, Any]:
    """Return "accuracy" in % by arm, "bytes" and "disagreements" of one seed's digits networks."""
    subject = digits_subject(seed, width, float_steps)
    subjects = {"float": subject, "3-naive": naive(subject, 3, seed), "127-naive": naive(subject, 127, seed)}
    for name, (levels, quantile) in ARMS.items():
        weights, bounded = (teaching(each, 64, 3e-4) for each in (weight_steps, steps))
        config = BReLUConfig(levels=levels, quantile=quantile, weights=weights, teach=bounded)
        subjects[name] = apply(method(config), subject, derive_seed(seed, "bounded"))
    last: Any = subjects["127-0.99977"].module
    return {
        "accuracy": {name: float(each.task.score(each.module, 0).mean()) for name, each in subjects.items()},
        "bytes": {name: count_bytes(subjects[name]) for name in ("float", "127-0.99977")},
        "disagreements": disagreements(last.network, count=max(1, agreement // 10), seed=seed),
    }


def naive(subject: Subject, levels: int, seed: int) -> Subject:
    """Return a subject on whole numbers whose bounds cut no batch on the mean, and that has learned nothing."""
    transform = BReLU(config=BReLUConfig(levels=levels, quantile=1.0, teach=teaching(1, 64, 3e-4)))
    changed = dataclasses.replace(subject, module=transform.rebuild(subject.copy(), transform.plan(subject)))
    transform.deploy(changed.module, transform.bound(changed, derive_seed(seed, "naive")))
    return dataclasses.replace(changed, module=transform.finish(changed.module).eval())


def act(arm: str, seed: int, folder: Path, run: str, episodes: int, states: int, agreement: int) -> dict[str, Any]:
    """Return "score" before and after, "kept", "bytes" and "disagreements" of the trained actor on whole numbers."""
    subject = subject_of(run, JudgeConfig(episodes=episodes, states=states, num_threads=1), seed)
    config = BReLUConfig(weights=teaching(200, 256, 1e-4), teach=teaching(400, 256, 1e-4, rounds=2))
    return judged(subject, config, seed, agreement)


def paint(
    arm: str, seed: int, folder: Path, scenes: int, canvases: int, painter_steps: int, agreement: int
) -> dict[str, Any]:
    """Return what `act` returns, of the painter; its scores are decibels."""
    subject = painter_subject(scenes=scenes, states=canvases, seed=seed)
    weights = teaching(max(1, painter_steps // 3), 64, 1e-4)
    config = BReLUConfig(weights=weights, teach=teaching(painter_steps, 64, 1e-4))
    return judged(subject, config, seed, max(1, agreement // 100))


def judged(subject: Subject, config: BReLUConfig, seed: int, agreement: int) -> dict[str, Any]:
    """Return "score" before and after, "kept", "bytes" and "disagreements" of a policy on whole numbers."""
    changed = apply(method(config), subject, derive_seed(seed, "bounded"))
    before, after = (float(each.task.score(each.module, seed).mean()) for each in (subject, changed))
    model: Any = changed.module
    floor = subject.task.floor
    return {
        "score": [round(before, 3), round(after, 3)],
        "kept": (after - floor) / (before - floor),
        "bytes": {"float": count_bytes(subject), "int8": count_bytes(changed)},
        "disagreements": disagreements(model.network, count=agreement, seed=seed),
    }


def digits_subject(seed: int, width: int, steps: int) -> Subject:
    """Return a float residual network that has learned digits of 8x8 pixels."""

    def pictures(part: str) -> Arrays:
        found = digits(part).tensors
        return Arrays({"input": found["picture"].float() / 255.0, "label": found["label"]})

    task = ClassifierTask(pictures("train"), pictures("test"), num_classes=10)
    config = ResNetConfig(width=width, depth=1)
    module = ResNet20(1, 8, 10, config, derive_seed(seed, "resnet")).eval()
    base = network_base("resnet20", channels=1, size=8, outputs=10, config=config)
    example = task.source("test").examples(torch.zeros(1, dtype=torch.int64))["input"]
    subject = Subject(module, example, task, base)
    teach(subject, teaching(steps, 64, 1e-3), derive_seed(seed, "float"))
    return subject


def teaching(steps: int, batch_size: int, learning_rate: float, *, rounds: int = 1) -> TeachConfig:
    """Return how a network learns."""
    optimizer = OptimizerConfig(learning_rate=learning_rate)
    return TeachConfig(fit=FitConfig(steps=steps, batch_size=batch_size, optimizer=optimizer), rounds=rounds)


def method(config: BReLUConfig) -> Method:
    """Return configured BReLU."""
    return Method("quantization/brelu", config, "envs.evaluation.quantization.brelu:BReLU")
