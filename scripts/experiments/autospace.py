"""AutoSpace (arXiv:2103.11833), small: cells that evolved are a better space than random cells.

Four layers learn scikit-learn's digits; cells of each layer evolve. Then twelve random networks are drawn from each
space and trained alike: from the four best cells of each layer, from the random cells that evolution began with, from
inverted residuals alone (kernels 3, 5, 7, expansions 3, 6), and from the four best cells of an evolution without the
reference. They are judged on the test digits; evolution sees the training digits alone.

The reference stands in no list: people designed it, and a list that holds it is better for that. All spaces' networks
have the same MACs, at most 10 % off; which, is chosen before any is trained: those at which the space with the fewest
such networks has the most. In both evolutions the cells learn for as many rounds; with a reference it learns alone
before, for 60 minibatches that the other evolution does not have.

Claims: the evolved space's mean is higher than the random cells', and its spread smaller; its worst network is no worse
than without the reference. That it beats inverted residuals, whose shape people found, is not claimed. The bars are set
before the first run. Cost is not equal: evolving takes as long as training about ten of the networks, which is printed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.evaluation.search.cell_evolution import CELLS, Evolution, EvolveConfig
from envs.evaluation.search.door import replaced
from envs.evaluation.search.evaluators import TrainedEvaluator, halves
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.chain import ChainConfig
from envs.evaluation.search.spaces.graph_cell import Graph, ListedChainConfig, ListedChainSpace, Rows
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.running.seeding import derive_seed
from scripts.experiments.cars import BATCH_SIZE, CLASSES, SIZE, digit_subject, teaching

CHAIN = ChainConfig(widths=(8, 8, 16, 16), stem=8)
ENDS: dict[str, Any] = {"channels": 1, "size": SIZE, "outputs": CLASSES}
RESIDUALS = tuple(Graph((k, 1, 2, 1, 1, 2), 2, (0, 0), e).row() for k in (5, 7, 9) for e in (3, 6))


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...
        digits: to learn from, of 1,438; 0 for all.
        population: cells of each layer.
        drawn: of them in each round.
        rounds: of evolution.
        steps: minibatches of each.
        alone: minibatches of the reference by itself.
        top: cells of each layer that are offered.
        networks: drawn from each space.
        epochs: of each one's training.
        mean_margin: right digits in % of the evolved space's mean over the random cells', at least.
        spread_margin: of the random cells' standard deviation over the evolved space's, at least.
        worst_margin: of the worst network over that without the reference, at least.
    """

    seeds: int = 3
    digits: int = 0
    population: int = 16
    drawn: int = 3
    rounds: int = 20
    steps: int = 20
    alone: int = 60
    top: int = 4
    networks: int = 12
    epochs: int = 5
    mean_margin: float = 1.0
    spread_margin: float = 0.0
    worst_margin: float = 0.0

    def __post_init__(self) -> None:
        for name in ("seeds", "rounds", "steps", "epochs"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.networks >= 2, f"networks={self.networks}: use 2 or more")
        require(
            self.digits == 0 or self.digits >= 2 * BATCH_SIZE, f"digits={self.digits}: use {2 * BATCH_SIZE} or more"
        )
        require(1 <= self.top <= self.population, f"top={self.top}: use 1 to population")


DEBUG = Numbers(seeds=1, digits=128, population=4, drawn=2, rounds=1, steps=2, alone=2, top=2, networks=2, epochs=1)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Evolve, train networks of each space, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    names = ("digits", "population", "drawn", "rounds", "steps", "alone", "top", "networks", "epochs")
    found = jobs.grid(
        evolve_and_judge, arms=("digits",), seeds=seeds, **{name: getattr(numbers, name) for name in names}
    )["digits"]
    for seed, one in zip(seeds, found, strict=True):
        for arm, tests in one["tests"].items():
            macs = one["macs"][arm]
            print(
                f"seed {seed}, {arm}: right answers in %: mean {np.mean(tests):.2f}, spread {np.std(tests):.2f}, worst"
                f" {min(tests):.2f}; {min(macs):,.0f} to {max(macs):,.0f} MACs",
                flush=True,
            )
        counts = ", ".join(f"{arm} {count}" for arm, count in one["within"].items())
        print(f"seed {seed}: {one['target']:,.0f} MACs wanted; of the networks drawn within 10 %: {counts}", flush=True)
        print(f"seed {seed}: layers whose reference is ahead of all cells: {one['reference ahead']}", flush=True)
        for arm, losses in one["losses"].items():
            rose = np.mean(np.diff(losses) >= 0) if len(losses) > 1 else 0.0
            print(f"seed {seed}, {arm}: first round's loss {losses[0]:.2f}; {rose:.0%} of rounds did not lower it")
        print(f"seed {seed}: CPU seconds {one['seconds']}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={"by seed": found},
        full_scale="python scripts/reproduce.py paper=autospace population=32 drawn=4 rounds=600 steps=100 epochs=50",
    )


def claims(found: tuple[dict[str, Any], ...], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for what each seed found."""
    tests = [one["tests"] for one in found]
    return (
        Claim(
            statement="mean of right digits in %, evolved cells' networks over random cells'",
            margin=numbers.mean_margin,
            figures=tuple(float(np.mean(one["evolved"]) - np.mean(one["random cells"])) for one in tests),
        ),
        Claim(
            statement="standard deviation, random cells' networks over evolved cells'",
            margin=numbers.spread_margin,
            figures=tuple(float(np.std(one["random cells"]) - np.std(one["evolved"])) for one in tests),
        ),
        Claim(
            statement="worst network, evolved with the reference over without",
            margin=numbers.worst_margin,
            figures=tuple(float(min(one["evolved"]) - min(one["no reference"])) for one in tests),
        ),
    )


def evolve_and_judge(
    arm: str,
    seed: int,
    folder: Path,
    *,
    digits: int,
    population: int,
    drawn: int,
    rounds: int,
    steps: int,
    alone: int,
    top: int,
    networks: int,
    epochs: int,
) -> dict[str, Any]:
    """Evolve twice, train networks of each space.

    Returns:
        "tests" and "macs" of each arm's networks, "target" MACs, how many of each space's drawn networks are "within"
        10 % of them, "losses" of rounds, "cells" of each layer, layers whose "reference [is] ahead", and "seconds".
    """
    subject = digit_subject(digits)
    config = EvolveConfig(
        population=population, drawn=drawn, rounds=rounds, steps=steps, alone=alone, uniform=rounds // 5
    )
    lists: dict[str, tuple[Rows, ...]] = {}
    losses, seconds, ahead = {}, {}, 0
    for name, reference in (("evolved", True), ("no reference", False)):
        began = time.process_time()
        evolution = Evolution(CHAIN, ENDS, halves(subject.task, seed), replace(config, reference=reference), seed=seed)
        if reference:
            first = [[CELLS.graph(cell).row() for cell in one.cells] for one in evolution.populations]
            lists["random cells"] = tuple(map(tuple, first))
        evolution.run(folder / name.replace(" ", "-"))
        if reference:
            ahead = sum(bool(one.reference >= one.fitness.max()) for one in evolution.populations)
        lists[name], losses[name] = evolution.learned_space(top, reference=False), evolution.losses
        seconds[name] = round(time.process_time() - began, 1)
    lists["inverted residuals"] = (RESIDUALS,) * len(CHAIN.widths)
    spaces = {
        name: ListedChainSpace(ListedChainConfig(chain=CHAIN, cells=cells), **ENDS) for name, cells in lists.items()
    }
    rng = np.random.default_rng(derive_seed(seed, "networks"))
    costs = {name: drawn_costs(space, 100 * networks, rng) for name, space in spaces.items()}
    target = shared_macs([np.array(list(each.values())) for each in costs.values()])
    tests, macs = {}, {}
    began = time.process_time()
    for name, space in spaces.items():
        chosen = near(costs[name], target, networks)
        trainer = TrainedEvaluator(space, subject, replaced, teaching(epochs, subject), seed=seed)
        tests[name], macs[name] = trainer.score(chosen), [costs[name][one] for one in chosen]
    seconds["networks"] = round(time.process_time() - began, 1)
    return {
        "tests": tests,
        "macs": macs,
        "target": target,
        "within": {name: within(np.array(list(each.values())), target) for name, each in costs.items()},
        "losses": losses,
        "reference ahead": ahead,
        "seconds": seconds,
        "cells": lists,
    }


def drawn_costs(space: ListedChainSpace, count: int, rng: np.random.Generator) -> dict[Architecture, float]:
    """Return the MACs of random networks, all unlike, of so many draws."""
    drawn = dict.fromkeys(space.sample(rng) for _ in range(count))
    return {one: space.cost(one)["macs"] for one in drawn}


def within(macs: np.ndarray, target: float) -> int:
    """Return how many of some MACs (N,) are at most 10 % off a target."""
    return int((np.abs(macs / target - 1.0) <= 0.1).sum())


def shared_macs(macs: list[np.ndarray]) -> float:
    """Return the MACs, of those that occur, within 10 % of which the space with the fewest networks has the most.

    Of several equally good ones the median.
    """
    targets = np.unique(np.concatenate(macs))
    least = np.array([min(within(each, target) for each in macs) for target in targets])
    best = targets[least == least.max()]
    return float(best[len(best) // 2])


def near(macs: dict[Architecture, float], target: float, count: int) -> list[Architecture]:
    """Return the first networks whose MACs are at most 10 % off; where there are too few, the nearest others."""
    off = {one: abs(cost / target - 1.0) for one, cost in macs.items()}
    inside = [one for one in macs if off[one] <= 0.1][:count]
    others = sorted((one for one in macs if one not in inside), key=lambda one: off[one])
    return [*inside, *others[: count - len(inside)]]
