"""Interpolatron (arXiv:1805.06753), small: mixing the last steps, by fixed weights and by least squares.

Three places where gradient descent, or value iteration, is the plain scheme and its last images are mixed instead:
quadratics of curvatures 0.01 to 1; a network 64-64-10 of tanh that learns scikit-learn's digits, whole batches and
minibatches of 64, each optimizer at the best of its own rates; and tables of values (mixed_values.py), where a Bellman
sweep takes the step's place, with and without rejecting mixtures that a sweep would lower somewhere.

Claims: on quadratics two taps stand rates of 2.5 and 3.5, at which descent diverges, and Anderson's weights converge
where descent has hardly begun. On digits in whole batches Anderson's weights end at a fifth of the loss of momentum and
Adam, and two taps at rate 2 at nine tenths of descent's best, which itself diverges there. On tables mixing takes a
twentieth of value iteration's iterations (random ones), 0.4 and with rejection 0.2 of them (a chain); with rejection an
iteration is two sweeps, which are reported beside them (the bar is of iterations; at first sweeps were counted). That
two taps beat momentum and Adam, which the paper finds on networks of 98 and 200 layers, is not claimed: minibatches are
reported, the networks are out of reach of a CPU. The bars were set before the first run.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.data.arrays import Arrays
from rlsuite.data.digits import digits
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.fit import FitConfig, NonFiniteLossError, fit, held_out_loss
from rlsuite.nn.vision.blocks import draw_weights
from rlsuite.optim.choice import OptimizerConfig, make_optimizer
from rlsuite.optim.mixing import MixingConfig
from rlsuite.running.seeding import derive_seed
from scripts.experiments.mixed_values import chain, counts_needed, random_table

DIVERGED = 1e9  # stands for losses that are no numbers any more
TWO, HALVES, FOUR = (2.0, 1.0), (1.0, 1.0), (4.0, 3.0, 2.0, 1.0)
QUADRATIC = {
    "descent-2.5": (2.5, MixingConfig()),
    "descent-3.5": (3.5, MixingConfig()),
    "two-2.5": (2.5, MixingConfig(kind="interpolatron", taps=TWO)),
    "two-3.5": (3.5, MixingConfig(kind="interpolatron", taps=TWO)),
    "halves-2.5": (2.5, MixingConfig(kind="interpolatron", taps=HALVES)),
    "halves-3.5": (3.5, MixingConfig(kind="interpolatron", taps=HALVES)),
    "descent-1": (1.0, MixingConfig()),
    "anderson-1": (1.0, MixingConfig(kind="anderson", history=6, ridge=1e-10)),
}
OPTIMIZERS = {
    "descent": (OptimizerConfig(name="sgd", momentum=0.0), (0.3, 1.0, 2.0)),
    "momentum": (OptimizerConfig(name="sgd", momentum=0.9), (0.1, 0.3, 1.0)),
    "adam": (OptimizerConfig(name="adam"), (0.01, 0.03, 0.1)),
    "two": (
        OptimizerConfig(name="sgd", momentum=0.0, mixing=MixingConfig(kind="interpolatron", taps=TWO)),
        (1.0, 1.5, 2.0),
    ),
    "four": (
        OptimizerConfig(name="sgd", momentum=0.0, mixing=MixingConfig(kind="interpolatron", taps=FOUR)),
        (1.0, 1.5, 2.0),
    ),
}
WHOLE = OPTIMIZERS | {
    "anderson": (OptimizerConfig(name="sgd", momentum=0.0, mixing=MixingConfig(kind="anderson")), (0.3, 1.0, 2.0)),
}
_STEPWISE = MixingConfig(kind="anderson", ridge=1e-2)
_AVERAGED = MixingConfig(kind="anderson", ridge=1e-2, relaxation=0.5, history=10, every=10, averaged=True)
SMALL = OPTIMIZERS | {
    "anderson": (OptimizerConfig(name="sgd", momentum=0.0, mixing=_STEPWISE), (0.3, 1.0, 2.0)),
    "averaged": (OptimizerConfig(name="sgd", momentum=0.0, mixing=_AVERAGED), (0.3, 1.0, 2.0)),
}
TABLES = tuple(f"{table}-{scheme}" for table in ("random", "chain") for scheme in ("plain", "mixed", "rejecting"))


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        quadratic_steps: steps on quadratics at rates above 2.
        whole_steps: steps on all digits.
        small_steps: steps on minibatches of 64.
        states: of each table.
        actions: of random tables.
        stable_bar: share of the way left by two taps, at rates at which descent diverges.
        early_bar: likewise by Anderson's weights after 60 steps.
        late_bar: and after 120.
        diverged_bar: what is divergence on quadratics, in ways from the start.
        anderson_bar: share of the best loss of momentum and Adam.
        two_bar: share of descent's best loss, by two taps at rate 2.
        unstable_bar: loss of descent at rate 2.
        random_bar: share of value iteration's iterations on random tables.
        chain_bar: likewise on a chain.
        rejecting_bar: and there with rejection.
    """

    seeds: int = 3
    quadratic_steps: int = 400
    whole_steps: int = 150
    small_steps: int = 300
    states: int = 100
    actions: int = 50
    stable_bar: float = 1e-2
    early_bar: float = 1e-3
    late_bar: float = 1e-6
    diverged_bar: float = 1e6
    anderson_bar: float = 0.2
    two_bar: float = 0.9
    unstable_bar: float = 1.0
    random_bar: float = 0.05
    chain_bar: float = 0.4
    rejecting_bar: float = 0.2

    def __post_init__(self) -> None:
        for name in ("seeds", "quadratic_steps", "whole_steps", "small_steps", "actions"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.states >= 2, f"states={self.states}: use 2 or more")


DEBUG = Numbers(seeds=1, quadratic_steps=20, whole_steps=3, small_steps=3, states=5, actions=2)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Descend, learn, sweep, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    ways = jobs.grid(descend, arms=QUADRATIC, seeds=seeds, in_process=True, steps=numbers.quadratic_steps)
    whole = jobs.grid(learn, arms=arms(WHOLE), seeds=seeds, in_process=True, steps=numbers.whole_steps, batch_size=0)
    small = jobs.grid(
        learn_by_minibatches, arms=arms(SMALL), seeds=seeds, in_process=True, steps=numbers.small_steps, batch_size=64
    )
    sizes = {"states": numbers.states, "actions": numbers.actions}
    counts = jobs.grid(iterate, arms=TABLES, seeds=seeds, in_process=True, **sizes)
    for title, found in (("whole batches", whole), ("minibatches", small)):
        for arm, values in found.items():
            print(f"{title}: {arm}: loss {', '.join(f'{value:.3g}' for value in values)}", flush=True)
    for arm, found in counts.items():
        shown = ", ".join(f"{one['iterations']} ({one['sweeps']})" for one in found)
        print(f"tables: {arm}: iterations (sweeps) {shown}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(ways, whole, counts, numbers),
        figures={"quadratic": ways, "whole batches": whole, "minibatches": small, "tables": counts},
        full_scale="python scripts/reproduce.py paper=interpolatron seeds=10 whole_steps=1000 small_steps=5000",
    )


def claims(
    ways: Mapping[str, Sequence[Mapping[str, float]]],
    whole: Mapping[str, Sequence[float]],
    counts: Mapping[str, Sequence[Mapping[str, int]]],
    numbers: Numbers,
) -> tuple[Claim, ...]:
    """Return the claims for shares of the way left, losses in whole batches, and iterations, by arm and seed."""
    rows = []
    for rate in ("2.5", "3.5"):
        left = {arm: tuple(one["last"] for one in ways[f"{arm}-{rate}"]) for arm in ("descent", "two")}
        rows += [
            claim(
                f"quadratic, rate {rate}: descent, in ways from the start", numbers.diverged_bar, min(left["descent"])
            ),
            claim(f"quadratic, rate {rate}: two taps, share of the way left", -numbers.stable_bar, max(left["two"])),
        ]
    for steps, bar in (("60", numbers.early_bar), ("120", numbers.late_bar)):
        worst = max(one[steps] for one in ways["anderson-1"])
        rows.append(claim(f"quadratic, Anderson's weights, {steps} steps: share of the way left", -bar, worst))
    best = {name: lowest(whole, name) for name in WHOLE}
    rows += [
        claim(
            "digits: Anderson's loss, in losses of the better of momentum and Adam",
            -numbers.anderson_bar,
            best["anderson"] / min(best["momentum"], best["adam"]),
        ),
        claim(
            "digits: loss of two taps at rate 2, in losses of descent's best rate",
            -numbers.two_bar,
            mean(whole["two-2.0"]) / best["descent"],
        ),
        claim("digits: loss of descent at rate 2", numbers.unstable_bar, mean(whole["descent-2.0"])),
    ]
    for arm, bar in (
        ("random-mixed", numbers.random_bar),
        ("random-rejecting", numbers.random_bar),
        ("chain-mixed", numbers.chain_bar),
        ("chain-rejecting", numbers.rejecting_bar),
    ):
        table = arm.partition("-")[0]
        pairs = zip(counts[arm], counts[f"{table}-plain"], strict=True)
        worst = max(one["iterations"] / plain["iterations"] for one, plain in pairs)
        rows.append(claim(f"tables, {arm}: share of value iteration's iterations, the worst seed", -bar, worst))
    return tuple(rows)


def claim(statement: str, bar: float, figure: float) -> Claim:
    """Return a claim of one figure; a bar below 0 is one to stay under."""
    return Claim(statement=statement, margin=abs(bar), figures=(float(figure),), at_least=bar >= 0)


def mean(values: Sequence[float]) -> float:
    """Return the mean over seeds."""
    return sum(values) / len(values)


def lowest(found: Mapping[str, Sequence[float]], name: str) -> float:
    """Return the mean loss of an optimizer at the best of its rates."""
    return min(mean(values) for arm, values in found.items() if arm.rpartition("-")[0] == name)


def arms(optimizers: Mapping[str, tuple[OptimizerConfig, tuple[float, ...]]]) -> tuple[str, ...]:
    """Return every optimizer at each of its rates."""
    return tuple(f"{name}-{rate}" for name, (_, rates) in optimizers.items() for rate in rates)


def descend(arm: str, seed: int, folder: Path, steps: int) -> dict[str, float]:
    """Return the largest of twenty distances from the minimum, in starts, after 60, 120 and all steps ("last")."""
    rate, mixing = QUADRATIC[arm]
    curvatures = torch.linspace(0.01, 1.0, 20, dtype=torch.float64)
    generator = torch.Generator().manual_seed(derive_seed(seed, "start"))
    point = nn.Parameter(torch.randn(20, dtype=torch.float64, generator=generator))
    start, found = point.detach().abs().max(), {}
    optimizer = make_optimizer(
        {"point": point}, OptimizerConfig(name="sgd", momentum=0.0, learning_rate=rate, mixing=mixing)
    )
    for step in range(1, max(120, steps) + 1):
        point.grad = curvatures * point.detach()
        optimizer.step()
        if step in (60, 120, steps):
            left = float(point.detach().abs().max() / start)
            found |= {str(step): left} | ({"last": left} if step == steps else {})
    return found


def learn_by_minibatches(arm: str, seed: int, folder: Path, steps: int, batch_size: int) -> float:
    """As `learn`, on minibatches and with the optimizers for these."""
    return learned(SMALL, arm, seed, steps, batch_size)


def learn(arm: str, seed: int, folder: Path, steps: int, batch_size: int) -> float:
    """Return the loss over all digits learned from, at the end; batch_size=0 is all of them."""
    return learned(WHOLE, arm, seed, steps, batch_size)


def learned(
    optimizers: Mapping[str, tuple[OptimizerConfig, tuple[float, ...]]],
    arm: str,
    seed: int,
    steps: int,
    batch_size: int,
) -> float:
    """Return the loss over all digits learned from, after some steps of one optimizer at one rate."""
    name, _, rate = arm.rpartition("-")
    source = examples()
    module = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    draw_weights(module, derive_seed(seed, "network"))
    optimizer = replace(optimizers[name][0], learning_rate=float(rate))
    config = FitConfig(steps=steps, batch_size=batch_size or len(source), optimizer=optimizer)
    try:
        fit(module, cross_entropy, source, config, seed=seed)
    except NonFiniteLossError:
        return DIVERGED
    return held_out_loss(module, cross_entropy, source, len(source))


@functools.cache
def examples() -> Arrays:
    """Return the digits learned from, as rows of pixels; read once, for a hundred short fits."""
    found = digits("train").tensors
    return Arrays({"input": found["picture"].flatten(1).float() / 255.0, "label": found["label"]})


def cross_entropy(module: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean loss over a minibatch."""
    return {"loss": functional.cross_entropy(module(batch["input"]), batch["label"])}


def iterate(arm: str, seed: int, folder: Path, states: int, actions: int) -> dict[str, int]:
    """Return how many "iterations" and "sweeps" a table takes; the chain is the same for all seeds."""
    table, _, scheme = arm.partition("-")
    chosen = random_table(states, actions, derive_seed(seed, "table")) if table == "random" else chain(states)
    iterations, sweeps = counts_needed(chosen, scheme)
    return {"iterations": iterations, "sweeps": sweeps}
