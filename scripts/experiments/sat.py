"""SAT (arXiv:1912.10207), small: policies of few bits, with and without the constant that their weights need.

First a random policy (17 observations, two hidden layers of 256, 6 actions, tanh everywhere) is imitated from 9,000
pairs by networks of ReLUs of 4, 3 and 2 bits that begin anew: with and without rescaling, alpha learned as PACT has it
and as CG-PACT has it, and at 4 bits with the paper's own fan. Their error is the mean square over the variance of the
actions, on 1,000 other pairs. Then TD3's actors of Hopper and HalfCheetah (`subjects.py`; their training is not in the
minutes) are quantized to 8, 6, 4, 3 and 2 bits, each layer with the variance it has learned, and learn from themselves;
what is kept is their return above random actions'. (With the larger fan instead, tried on HalfCheetah before the first
run, 4 bits kept 0.01 of it after the same learning, and 0.14 after four times as much.)

Claims: at 4 bits rescaling takes away nine tenths of the error in every seed; at 2 bits CG-PACT's error is below PACT's
in every seed; at 4 bits both actors keep 95 % of their return. That CG-PACT helps at 4 bits is not claimed. The bars
were set before the first run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents.subject import JudgeConfig
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_bit_operations, count_bytes
from envs.evaluation.recipe import policy_base
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import Batch, over_examples
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.data.arrays import Arrays
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig
from rlsuite.methods import choose
from rlsuite.nn.plain import PlainPolicyConfig, build_plain_policy
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.subjects import STEPS, TASKS, subject_of, trained_subjects
from scripts.experiments.training_runs import training_minutes

WIDTHS, ACTOR_WIDTHS = (4, 3, 2), (8, 6, 4, 3, 2)
STUDENT = PlainPolicyConfig(observation_size=17, action_size=6, squash="none")
TEACHER = PlainPolicyConfig(observation_size=17, action_size=6, activation="tanh")
PAIRS, BATCH_SIZE = 9_000, 256
PARTS = (slice(0, PAIRS), slice(PAIRS, None))
ARMS: dict[str, dict[str, Any]] = {
    "sat+cgpact": {},
    "sat+pact": {"clip": "pact"},
    "plain+cgpact": {"rescale": "none"},
    "plain+pact": {"rescale": "none", "clip": "pact"},
}
PAPERS = "papers-fan"


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        imitation_steps: minibatches of each imitation.
        steps: minibatches of each of an actor's two rounds of learning.
        states: visited for each round.
        episodes: scored.
        training_steps: of the actors; others than the committed ones are for debugging.
        rescaling_bar: error with rescaling over that without, at 4 bits, the worst seed.
        clip_bar: CG-PACT's error over PACT's, at 2 bits, the worst seed.
        return_bar: share of the return kept at 4 bits.
    """

    seeds: int = 3
    imitation_steps: int = 210
    steps: int = 250
    states: int = 10_000
    episodes: int = 10
    training_steps: int = STEPS
    rescaling_bar: float = 0.1
    clip_bar: float = 1.0
    return_bar: float = 0.95

    def __post_init__(self) -> None:
        for name in ("seeds", "imitation_steps", "steps", "states", "episodes", "training_steps"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


DEBUG = Numbers(seeds=1, imitation_steps=2, steps=2, states=64, episodes=1, training_steps=300)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Imitate, quantize, measure, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    errors = by_row(jobs.grid(imitate, arms=("pairs",), seeds=seeds, steps=numbers.imitation_steps)["pairs"])
    actors, minutes = {}, {}
    for name, run in trained_subjects(TASKS, jobs, steps=numbers.training_steps).items():
        inputs = {key: getattr(numbers, key) for key in ("steps", "states", "episodes")}
        actors[name] = jobs.grid(quantize_actor, arms=(name,), seeds=seeds, run=str(run), **inputs)[name]
        minutes[name] = training_minutes(run)
    kept = {name: by_row([one["kept"] for one in found]) for name, found in actors.items()}
    for name, rows in {"error": errors, **kept}.items():
        for row, values in rows.items():
            print(f"{name:18} {row:20} by seed: {', '.join(f'{value:.4g}' for value in values)}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(errors, kept, numbers),
        figures={
            "errors": errors,
            "kept": kept,
            "returns": {name: by_row([one["return"] for one in found]) for name, found in actors.items()},
            "costs": {name: found[0]["costs"] for name, found in actors.items()},
            "subject_minutes": minutes,
        },
        full_scale="python scripts/reproduce.py paper=sat seeds=10 imitation_steps=700 steps=2000 states=20000",
    )


def claims(
    errors: Mapping[str, tuple[float, ...]], kept: Mapping[str, Mapping[str, tuple[float, ...]]], numbers: Numbers
) -> tuple[Claim, ...]:
    """Return the claims for errors by row and seed, and shares kept by actor, row and seed."""

    def ratio(one: str, other: str) -> float:
        return max(a / b for a, b in zip(errors[one], errors[other], strict=True))

    return (
        Claim(
            statement="4 bits: error with rescaling over that without, the worst seed",
            margin=numbers.rescaling_bar,
            figures=(ratio("4-sat+cgpact", "4-plain+cgpact"),),
            at_least=False,
        ),
        Claim(
            statement="2 bits: CG-PACT's error over PACT's, the worst seed",
            margin=numbers.clip_bar,
            figures=(ratio("2-sat+cgpact", "2-sat+pact"),),
            at_least=False,
        ),
        *(
            Claim(statement=f"4 bits: share of the return kept, {name}", margin=numbers.return_bar, figures=rows["4"])
            for name, rows in kept.items()
        ),
    )


def by_row(found: Any) -> dict[str, tuple[float, ...]]:
    """Return row -> figures by seed, from figures by row of each seed."""
    return {row: tuple(float(one[row]) for one in found) for row in found[0]}


# -- imitating a random policy -------------------------------------------------------------------------------------


class Pairs:
    """Observations and the actions their actions; the score is the error over the variance of actions, negated.

    Args:
        train: with "input" and "action".
        test: others.
    """

    interactive = False
    unit = "-error"
    box: tuple[float, float] | None = None
    floor = -1.0  # of whoever knows the mean action

    def __init__(self, train: Arrays, test: Arrays) -> None:
        self.splits = {"train": train, "test": test}
        self.variance = train.tensors["action"].var(0).mean()

    def source(self, split: str) -> Arrays:
        """Return the pairs of a split."""
        return self.splits[split]

    def visited(self, module: nn.Module, seed: int) -> Arrays:
        """Raise TypeError: pairs do not depend on who looks at them."""
        raise TypeError("this task is not interactive")

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the mean square (B,) of the differences over the variance."""
        return (module(batch["input"]) - batch["action"]).square().mean(1) / self.variance

    def score(self, module: nn.Module, seed: int) -> Any:
        """Return the negated errors (E,) of the test's pairs."""
        found = over_examples(
            module, self.splits["test"], lambda output, batch: (output - batch["action"]).square().mean(1)
        )
        return -(found / self.variance).double().numpy()


@torch.no_grad()
def pairs(seed: int) -> Pairs:
    """Return pairs of a random policy."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "observations"))
    observation = torch.randn(PAIRS + 1_000, TEACHER.observation_size, generator=generator)
    action = build_plain_policy(TEACHER, seed=derive_seed(seed, "teacher"))(observation)
    train, test = (Arrays({"input": observation[one], "action": action[one]}) for one in PARTS)
    return Pairs(train, test)


def imitate(arm: str, seed: int, folder: Path, steps: int) -> dict[str, float]:
    """Return the error of every row: bits and arm."""
    task = pairs(seed)
    module = build_plain_policy(STUDENT, seed=derive_seed(seed, "student"))
    subject = Subject(module, task.source("test").tensors["input"][:1], task, policy_base(STUDENT))
    learning = teaching(steps, rounds=1)
    rows = {
        f"{bits}-{name}": {"bits": bits, "fan": "larger", **changes}
        for bits in WIDTHS
        for name, changes in ARMS.items()
    }
    rows[f"4-{PAPERS}"] = {"bits": 4, "fan": "outputs"}
    rows["float"] = {"bits": 32}
    return {
        row: -float(task.score(quantized(subject, changes, learning, seed).module, 0).mean())
        for row, changes in rows.items()
    }


def quantize_actor(
    arm: str, seed: int, folder: Path, run: str, steps: int, states: int, episodes: int
) -> dict[str, Any]:
    """Return "kept", "return" and "costs" of a trained actor at every width, by bits; "float" is before."""
    subject = subject_of(run, JudgeConfig(episodes=episodes, states=states, num_threads=1), seed)
    learning = teaching(steps, rounds=2)
    rows = {"float": subject}
    rows |= {str(bits): quantized(subject, {"bits": bits}, learning, seed) for bits in ACTOR_WIDTHS}
    returns = {row: float(one.task.score(one.module, seed).mean()) for row, one in rows.items()}
    floor = subject.task.floor
    return {
        "return": returns,
        "kept": {row: (value - floor) / (returns["float"] - floor) for row, value in returns.items()},
        "costs": {
            row: {"bytes": count_bytes(one), "bit_operations": count_bit_operations(one.module, one.example)}
            for row, one in rows.items()
        },
    }


def quantized(subject: Subject, changes: Mapping[str, Any], learning: TeachConfig, seed: int) -> Subject:
    """Return a subject after SAT with some of its numbers changed."""
    overrides = {f"sat.{key}": value for key, value in {**changes, "teach": learning}.items()}
    if changes["bits"] == 32:
        overrides |= {"sat.places": {"first": 32, "last": 32}}
    (method,) = choose(EVALUATIONS, ["sat"], overrides)
    return apply(method, subject, derive_seed(seed, "quantized"))


def teaching(steps: int, *, rounds: int) -> TeachConfig:
    """Return how all networks learn here."""
    fit = FitConfig(
        steps=steps,
        batch_size=BATCH_SIZE,
        optimizer=OptimizerConfig(learning_rate=1e-3),
        schedule=ScheduleConfig(kind="cosine"),
    )
    return TeachConfig(fit=fit, rounds=rounds)
