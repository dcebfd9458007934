"""Disout (arXiv:2002.11022), small: does distorting features while a network learns help it on what it has not seen?

Digits: four convolutions learn from 200 of scikit-learn's digits and are asked for the other 1,597, distorted behind
the last two (maps of 4x4). Reaching: a policy imitates a scripted expert of Reacher from few pictures, distorted behind
two of its three convolutions and its hidden linear layer; judged by its error where the expert goes from other starts,
and by its return as it was seen in training and in uneven light that it never saw. Standing still and the expert are
rows, and the claims about policies stand under another: that plain learning comes half of the way between. All learn
plainly, with dropout, with DropBlock (the same blocks, zeros in them) and with Disout.

Claims: on digits Disout does no harm (the paper's gains of 0.3 to 1.9 points are of CIFAR and below the noise of
digits, so no gain is claimed there); its distortions are smaller than the features they replace, in every place and
seed; a policy taught with it errs less on states it was not taught on than one taught plainly, and loses no return. The
bars are our own choices, set before the first run. The paper's own comparison is CIFAR's, hours of a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from envs.evaluation.attacks.light import HarmonicLight, LightConfig
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.recipe import network_base
from envs.evaluation.regularization.disout import DisoutConfig, relative_sizes
from envs.evaluation.regularization.gap import measure_gap
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, apply, teach
from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits
from rlsuite.data.joined import Joined
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.reaching import (
    Still,
    ends_of_the_scale,
    learned_claim,
    learned_share,
    reach_learning,
    reach_student,
    reach_task,
)

NAME = "regularization/disout"
NETWORK = ConvNetConfig(widths=(32, 32, 64, 64), strides=(1, 2, 1, 1), hidden=0, batch_norm=True)
DIGIT_LAYERS = ("body.5.0", "body.7.0")
REACH_LAYERS = ("network.body.3.0", "network.body.5.0", "network.body.8")
ARMS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "dropout": {"alpha": 0.0, "block": 1},
    "dropblock": {"alpha": 0.0, "block": 3},
    "disout": {"alpha": 5.0, "block": 3},
}


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        digit_seeds: how many networks of digits: 0, 1, ...
        digits: pictures they learn from.
        epochs: how often they see each of them.
        digit_probability: p of all arms on digits.
        seeds: how many policies.
        size: pixels a side of what they see.
        states: pictures of each of two rounds.
        steps: minibatches of each round.
        probability: p of all arms on policies, the paper's.
        episodes: by which policies are scored.
        light: amplitude of the unseen light, as a share of the pictures' range.
        learned_bar: how much of the way from standing still to the expert plain learning comes, at least.
        harm_bar: right digits in %, Disout's minus those without, on the mean of the seeds, at least.
        size_bar: deviation of a distortion over that of the features it replaces, the largest of all, at most.
        error_bar: the policies' test error with Disout over that without, on the mean, at most.
        return_bar: return of the policy taught with Disout, minus that without, as seen in training, on the mean, at
            least.
    """

    digit_seeds: int = 5
    digits: int = 200
    epochs: int = 60
    digit_probability: float = 0.15
    seeds: int = 3
    size: int = 24
    states: int = 2000
    steps: int = 400
    probability: float = 0.09
    episodes: int = 50
    light: float = 0.2
    learned_bar: float = 0.5
    harm_bar: float = -0.5
    size_bar: float = 1.0
    error_bar: float = 1.0
    return_bar: float = -0.5

    def __post_init__(self) -> None:
        for name in ("digit_seeds", "epochs", "seeds", "states", "steps", "episodes"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(50 <= self.digits <= 1400, f"digits={self.digits}: use 50 to 1400")


DEBUG = Numbers(digit_seeds=1, digits=50, epochs=1, seeds=1, states=32, steps=2, episodes=2)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Teach, judge, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    inputs = {"probability": numbers.digit_probability, "digits": numbers.digits, "epochs": numbers.epochs}
    told = jobs.grid(tell_digits, arms=("digits",), seeds=range(numbers.digit_seeds), **inputs)["digits"]
    names = ("probability", "size", "states", "steps", "episodes", "light")
    inputs = {name: getattr(numbers, name) for name in names}
    reached = jobs.grid(reach, arms=("reach",), seeds=seeds, **inputs)["reach"]
    right = by_arm(told, "right")
    keys = ("train_error", "test_error", "return", "lit")
    policies = {key: by_arm(reached, key) for key in keys}
    for name in ARMS:
        shown = ", ".join(f"{key} {np.mean(policies[key][name]):.3g}" for key in keys)
        print(f"{name:10} digits {np.mean(right[name]):.2f} %; reaching, means: {shown}", flush=True)
    ends = {key: tuple(one["ends"][key] for one in reached) for key in ("still", "expert", "still_error")}
    print(f"standing still, and the expert: {ends}", flush=True)
    sizes = [size for one in (*told, *reached) for size in one["sizes"].values()]
    return Result(
        seeds=seeds,
        claims=claims(right, policies, max(sizes), ends, numbers),
        figures={
            "right": right,
            "reaching": policies,
            "ends": ends,
            "sizes": [one["sizes"] for one in (*told, *reached)],
        },
        full_scale="python scripts/reproduce.py paper=disout digit_seeds=20 seeds=10 episodes=200",
    )


def by_arm(found: tuple[dict[str, Any], ...], key: str) -> dict[str, tuple[float, ...]]:
    """Return arm -> a figure of each seed."""
    return {name: tuple(one["rows"][name][key] for one in found) for name in ARMS}


def claims(
    right: Mapping[str, tuple[float, ...]],
    policies: Mapping[str, Mapping[str, tuple[float, ...]]],
    largest: float,
    ends: Mapping[str, tuple[float, ...]],
    numbers: Numbers,
) -> tuple[Claim, ...]:
    """Return the claims for right digits by arm and seed, policies' figures sizes, and ends by key and seed."""

    def pairs(figures: Mapping[str, tuple[float, ...]]) -> list[tuple[float, float]]:
        return list(zip(figures["disout"], figures["none"], strict=True))

    returns = policies["return"]["none"]
    shares = tuple(
        learned_share(score, {"still": still, "expert": expert})
        for score, still, expert in zip(returns, ends["still"], ends["expert"], strict=True)
    )
    return (
        Claim(
            statement="right digits in %, with Disout minus without",
            margin=numbers.harm_bar,
            figures=tuple(own - plain for own, plain in pairs(right)),
        ),
        Claim(
            statement="deviation of a distortion over that of the features it replaces, the largest",
            margin=numbers.size_bar,
            figures=(largest,),
            at_least=False,
        ),
        learned_claim(shares, numbers.learned_bar),
        Claim(
            statement="a policy's error on states it was not taught on, with Disout over without",
            margin=numbers.error_bar,
            figures=tuple(own / plain for own, plain in pairs(policies["test_error"])),
            at_least=False,
        ),
        Claim(
            statement="return of a policy, with Disout minus without",
            margin=numbers.return_bar,
            figures=tuple(own - plain for own, plain in pairs(policies["return"])),
        ),
    )


def tell_digits(arm: str, seed: int, folder: Path, *, probability: float, digits: int, epochs: int) -> dict[str, Any]:
    """Return "rows": arm -> "right" digits in %; and "sizes" of Disout's distortions."""
    torch.set_num_threads(1)
    subject = digit_subject(seed, digits)
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.05, weight_decay=5e-4)
    steps = epochs * digits // 50
    fit = FitConfig(steps=steps, batch_size=50, optimizer=optimizer, schedule=ScheduleConfig(kind="cosine"))
    made = taught(subject, probability, DIGIT_LAYERS, TeachConfig(fit=fit, rounds=1), seed)
    rows = {name: {"right": float(one.task.score(one.module, 0).mean())} for name, one in made.items()}
    return {"rows": rows, "sizes": sizes_of(made["disout"])}


def reach(arm: str, seed: int, folder: Path, *, light: float, **numbers: Any) -> dict[str, Any]:
    """Return "rows": arm -> errors, return and return in unseen light; "sizes" of Disout's distortions; and "ends".

    These are the returns of standing "still" and of the "expert", and the test error of the first.
    """
    torch.set_num_threads(1)
    probability, steps = numbers.pop("probability"), numbers.pop("steps")
    task = reach_task(**numbers, seed=derive_seed(seed, "reaching"))
    student = reach_student(task, seed)
    made = taught(student, probability, REACH_LAYERS, reach_learning(steps), seed)
    rows = {name: {**measure_gap(one), **returns(task, one, light)} for name, one in made.items()}
    still = measure_gap(replace(student, module=Still()))["test_error"]
    ends = {**ends_of_the_scale(task.episodes, 0), "still_error": still}
    return {"rows": rows, "sizes": sizes_of(made["disout"]), "ends": ends}


def returns(task: PolicyTask, subject: Subject, light: float) -> dict[str, float]:
    """Return the mean "return" as a policy saw the task in training, and "lit" in uneven light."""
    lit = task.score(subject.module, 0, seen=lambda env: HarmonicLight(env, LightConfig(eps=light)))
    return {"return": float(task.score(subject.module, 0).mean()), "lit": float(lit.mean())}


def taught(
    subject: Subject, probability: float, layers: tuple[str, ...], learning: TeachConfig, seed: int
) -> dict[str, Subject]:
    """Return arm -> the network taught its way; all see the same minibatches."""
    made, seed = {}, derive_seed(seed, "taught")
    for name, own in ARMS.items():
        if own is None:
            made[name] = replace(subject, module=subject.copy())
            teach(made[name], learning, seed)
            continue
        config = DisoutConfig(probability=probability, layers=layers, teach=learning, **own)
        made[name] = apply(Method(NAME, config, EVALUATIONS[NAME]), subject, seed)
    return made


def sizes_of(subject: Subject) -> dict[str, float]:
    """Return how large the distortions of a network taught with Disout are, by place; see `relative_sizes`."""
    step = subject.recipe[-1]
    return relative_sizes(subject.module, step.plan["next"], step.config["alpha"])


def digit_subject(seed: int, count: int) -> Subject:
    """Return an untrained network for digits of 8x8, that is to learn from the first so many."""
    parts = []
    for part in ("train", "test"):
        found = digits(part).tensors
        parts.append(Arrays({"input": found["picture"].float() / 255.0, "label": found["label"]}))
    whole = Joined(parts).examples(torch.arange(sum(map(len, parts))))
    train, test = ({name: value[part] for name, value in whole.items()} for part in (slice(count), slice(count, None)))
    task = ClassifierTask(Arrays(train), Arrays(test), num_classes=10)
    module = ConvNet(1, 8, 10, NETWORK, derive_seed(seed, "weights")).eval()
    base = network_base("conv", channels=1, size=8, outputs=10, config=NETWORK)
    return Subject(module, test["input"][:1].clone(), task, base)
