"""AdaBits (arXiv:1912.09666), small: one network of 4, 3 and 2 bits, and one actor of 8, 6, 4, 3 and 2.

Four convolutions (16, 32, 64, 128 filters) with batch normalization tell scikit-learn's digits of 8x8 apart. From the
float weights learn: a network of each width for itself; all widths together with shared normalizations and clipping
levels, with switchable normalizations ("vanilla"), and with switchable clipping levels, too ("s-cl", the method); and
the paper's controls: at 4 bits alone, and (one seed) at one width after another, down and up, statistics measured anew.
Levels are "centred". Then TD3's actor of HalfCheetah learns all of its widths from itself, and runs on a battery that
lasts an episode at 4 bits, beside fixed 8 and 2 bits on the same battery.

Claims: at every width and in every seed each joint network is within 2 points of the one of that width alone; at 2 bits
the network of 4 bits alone is 20 points below the joint one, in every seed (one seed was known before). What switchable
clipping levels and normalizations add is printed and not claimed: digits do not show it. The bars were set before the
first run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.subject import JudgeConfig
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_bit_operations, count_bytes
from envs.evaluation.quantization.adabits import load_at
from envs.evaluation.quantization.adaptive import at_width, widths_of
from envs.evaluation.quantization.battery import BatteryConfig, BatteryPolicy
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
from rlsuite.methods import choose
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.subjects import STEPS, subject_of, trained_subjects
from scripts.experiments.training_runs import training_minutes

WIDTHS, ACTOR_WIDTHS, ALONE = (4, 3, 2), (8, 6, 4, 3, 2), (4, 2)
NETWORK = ConvNetConfig(widths=(16, 32, 64, 128), strides=(1, 2, 1, 2), hidden=0, batch_norm=True, pool=True)
JOINT: dict[str, dict[str, Any]] = {
    "shared": {"switch_norm": False, "switch_alpha": False},
    "vanilla": {"switch_alpha": False},
    "s-cl": {},
}
ALPHA = 8.0  # of all clipping levels behind batch normalization at first, as the paper has it
PROGRESSIVE = ("descending", "ascending")
ACTOR, EPISODE = "half_cheetah_td3", 1000


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        float_steps: minibatches that the float network learns from.
        steps: minibatches of each quantized one; of the progressive ones, of each width.
        actor_steps: minibatches of each of the actor's two rounds of learning.
        states: visited for each round.
        episodes: scored.
        training_steps: of the actor; others than the committed ones are for debugging.
        joint_bar: points that a joint network may lose against the one of that width alone, every width and seed.
        direct_bar: points that the network of 4 bits alone is below the joint one at 2 bits, at least, every seed.
    """

    seeds: int = 3
    float_steps: int = 260
    steps: int = 300
    actor_steps: int = 250
    states: int = 10_000
    episodes: int = 5
    training_steps: int = STEPS
    joint_bar: float = 2.0
    direct_bar: float = 20.0

    def __post_init__(self) -> None:
        for name in ("seeds", "float_steps", "steps", "actor_steps", "states", "episodes", "training_steps"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


DEBUG = Numbers(seeds=1, float_steps=2, steps=2, actor_steps=2, states=64, episodes=1, training_steps=300)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Learn, switch, measure, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    inputs: dict[str, Any] = {"float_steps": numbers.float_steps, "steps": numbers.steps}
    found = jobs.grid(tell_digits, arms=("digits",), seeds=seeds, **inputs)["digits"]
    accuracy = {row: tuple(float(one[row]) for one in found) for row in found[0]}
    (progressive,) = jobs.grid(go_on, arms=("digits",), seeds=(0,), **inputs)["digits"]
    print(f"one width after another, seed 0: {progressive}", flush=True)
    (run,) = trained_subjects([ACTOR], jobs, steps=numbers.training_steps).values()
    inputs = {"steps": numbers.actor_steps, "states": numbers.states, "episodes": numbers.episodes}
    actors = jobs.grid(switch_actor, arms=(ACTOR,), seeds=seeds, run=str(run), **inputs)[ACTOR]
    kept = {row: tuple(float(one["kept"][row]) for one in actors) for row in actors[0]["kept"]}
    for name, rows in {"%": accuracy, "kept": kept}.items():
        for row, values in rows.items():
            print(f"{name:5} {row:16} by seed: {', '.join(f'{value:.4g}' for value in values)}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(accuracy, numbers),
        figures={
            "accuracy": accuracy,
            "progressive": progressive,
            "kept": kept,
            "battery": [one["battery"] for one in actors],
            "costs": actors[0]["costs"],
            "subject_minutes": {ACTOR: training_minutes(run)},
        },
        full_scale="python scripts/reproduce.py paper=adabits seeds=10 float_steps=2000 steps=2000 actor_steps=2000",
    )


def claims(accuracy: Mapping[str, tuple[float, ...]], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for accuracies in %, by row and seed."""

    def lost(one: str, other: str) -> tuple[float, ...]:
        return tuple(a - b for a, b in zip(accuracy[one], accuracy[other], strict=True))

    return (
        *(
            Claim(
                statement=f"{arm}: points lost against one width alone, the worst width and seed",
                margin=numbers.joint_bar,
                figures=(max(max(lost(f"alone-{bits}", f"{arm}-{bits}")) for bits in WIDTHS),),
                at_least=False,
            )
            for arm in JOINT
        ),
        Claim(
            statement="2 bits: points of the joint network above the one that learned at 4 bits, the worst seed",
            margin=numbers.direct_bar,
            figures=(min(lost("s-cl-2", "direct-2")),),
        ),
    )


# -- digits --------------------------------------------------------------------------------------------------------


def tell_digits(arm: str, seed: int, folder: Path, float_steps: int, steps: int) -> dict[str, float]:
    """Return the percent of right answers of every row: arm and width."""
    subject = float_subject(seed, float_steps)
    learning = teaching(steps)
    found = {"float": right(subject)}
    for bits in WIDTHS:
        found[f"alone-{bits}"] = right(adapted(subject, {"bits": (bits,), "alpha": ALPHA}, learning, seed))
    for name, changes in (JOINT | {"direct": {"learning": "direct"}}).items():
        found |= at_widths(name, adapted(subject, {"bits": WIDTHS, "alpha": ALPHA, **changes}, learning, seed))
    return found


def go_on(arm: str, seed: int, folder: Path, float_steps: int, steps: int) -> dict[str, float]:
    """Return the percent of right answers at every width after learning at one width after another."""
    subject, found = float_subject(seed, float_steps), {}
    for name in PROGRESSIVE:
        changes = {"bits": WIDTHS, "alpha": ALPHA, "learning": name}
        found |= at_widths(name, adapted(subject, changes, teaching(steps), seed))
    return found


def at_widths(name: str, made: Subject) -> dict[str, float]:
    """Return the percent of right answers of a subject at every width."""
    found = {}
    for bits in WIDTHS:
        with at_width(made.module, bits):
            found[f"{name}-{bits}"] = right(made)
    return found


def digit_subject(seed: int) -> Subject:
    """Return an untrained network for digits."""
    sources = {}
    for part in ("train", "test"):
        tensors = digits(part).tensors
        sources[part] = Arrays({"input": tensors["picture"].float() / 255.0, "label": tensors["label"]})
    task = ClassifierTask(sources["train"], sources["test"], num_classes=10)
    module = ConvNet(1, 8, 10, NETWORK, derive_seed(seed, "weights")).eval()
    base = network_base("conv", channels=1, size=8, outputs=10, config=NETWORK)
    return Subject(module, sources["test"].tensors["input"][:1].clone(), task, base)


def float_subject(seed: int, steps: int) -> Subject:
    """Return a float network that has learned."""
    subject = digit_subject(seed)
    teach(subject, teaching(steps), derive_seed(seed, "float"))
    return subject


def adapted(subject: Subject, changes: Mapping[str, Any], learning: TeachConfig, seed: int) -> Subject:
    """Return a subject after AdaBits with some of its numbers changed."""
    overrides = {f"adabits.{key}": value for key, value in {**changes, "teach": learning}.items()}
    (method,) = choose(EVALUATIONS, ["adabits"], overrides)
    return apply(method, subject, derive_seed(seed, "quantized"))


def teaching(steps: int) -> TeachConfig:
    """Return how networks for digits learn: stochastic gradient descent along half a cosine."""
    optimizer = OptimizerConfig(name="sgd", learning_rate=0.05, momentum=0.9)
    fit = FitConfig(steps=steps, batch_size=64, optimizer=optimizer, schedule=ScheduleConfig(kind="cosine"))
    return TeachConfig(fit=fit, rounds=1)


def right(subject: Subject) -> float:
    """Return the percent of right answers."""
    return float(subject.task.score(subject.module, 0).mean())


# -- the actor -----------------------------------------------------------------------------------------------------


def switch_actor(arm: str, seed: int, folder: Path, run: str, steps: int, states: int, episodes: int) -> dict[str, Any]:
    """Return "kept" by row, "costs" by width, and "battery": return and bit operations by how it is spent."""
    subject = subject_of(run, JudgeConfig(episodes=episodes, states=states, num_threads=1), seed)
    optimizer = OptimizerConfig(learning_rate=1e-3)
    fit = FitConfig(steps=steps, batch_size=256, optimizer=optimizer, schedule=ScheduleConfig(kind="cosine"))
    learning = TeachConfig(fit=fit, rounds=2)
    made = adapted(subject, {"bits": ACTOR_WIDTHS}, learning, seed)
    score, floor = subject.task.score, subject.task.floor
    returns = {"float": float(score(subject.module, seed).mean())}
    costs = {"float": {"bytes": count_bytes(subject), "bit_operations": cost(subject)}, "all": {}}
    for bits in widths_of(made.module):
        with at_width(made.module, bits):
            returns[str(bits)] = float(score(made.module, seed).mean())
            costs[str(bits)] = {"bytes": count_bytes(load_at(made, bits)), "bit_operations": cost(made)}
    costs["all"] = {"bytes": count_bytes(made)}
    for bits in ALONE:
        alone = adapted(subject, {"bits": (bits,)}, learning, seed)
        returns[f"alone-{bits}"] = float(score(alone.module, seed).mean())
    capacity = EPISODE * costs["4"]["bit_operations"]
    battery = {}
    for name, fixed in {"lowered": 0, "8": 8, "2": 2}.items():
        policy = BatteryPolicy(made.copy(), made.example, BatteryConfig(capacity=capacity, fixed=fixed))
        battery[name] = {"return": float(score(policy, seed).mean()), "bit_operations": policy.spent}
    return {
        "kept": {row: (value - floor) / (returns["float"] - floor) for row, value in returns.items()},
        "costs": costs,
        "battery": battery,
    }


def cost(subject: Subject) -> float:
    """Return the bit operations of one example."""
    return float(count_bit_operations(subject.module, subject.example))
