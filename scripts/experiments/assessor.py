"""A semi-supervised assessor of architectures (arXiv:2005.06821), small: few labels, on NAS-Bench-201's table.

The paper's table (NAS-Bench-101) is not at hand. Here labels are CIFAR-10 validation accuracies of NAS-Bench-201
(12-epoch schedule) and cells that are the same network are drawn once, so that no label leaks. For each number of
labels, beside 540 unlabelled cells: the assessor, the same encoder and perceptron from labels alone, the same with
reconstruction of all cells and without the graph, ridge regression on the one-hot code, and MACs. Judged is Kendall's
tau on cells none of them has seen. Then a search: 60 random cells and 40 picks, twenty at a time, each the best
predicted of some drawn; its test accuracy stands beside regularized evolution's after 100 cells (88.62 when the bar was
set; by `compare_searches.py runs=500` 88.57, and 88.72 for local search). All learn 200 minibatches of 200 cells, 67
epochs of 600 cells; of labelled ones the assessor's hold at most 100, those from labels alone up to 200.

Claims: at 60 labels the order is better than from labels alone; better than ridge at 60, 120 and 240, and than MACs at
60; the search is as good as regularized evolution. That the graph is better than reconstruction alone is not claimed.
The bars are our own choices, set before the first run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from envs.evaluation.search.assessor import Assessor, AssessorConfig
from envs.evaluation.search.evaluators import TableEvaluator
from envs.evaluation.search.predictors import ByCost, Predictor, Ridge
from envs.evaluation.search.prefilter import Ranked, RankedConfig
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.nas_bench_201 import NasBench201Space
from envs.evaluation.search.strategy import search
from rlsuite.data.nas_bench_201 import default_path, read_table, row_of
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.metrics.ranking import kendall_tau
from rlsuite.running.seeding import derive_seed

SPACE = NasBench201Space()
VALIDATION, TEST = "cifar10-val", "cifar10-test"


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: draws of cells: 0, 1, ...
        labels: numbers of labelled cells.
        claimed: that of them which is claimed about, with labels alone and MACs.
        against_ridge: those that ridge is compared at.
        others: unlabelled cells.
        unseen: cells that orders are judged on.
        steps: of the assessor's learning, and of the perceptrons'.
        batch_size: cells of a batch (1,024 in the paper, of hundreds of thousands).
        candidates: cells drawn and ranked in each round of the search.
        picks: of them tried.
        trials: cells tried in all.
        labels_margin: Kendall's tau above the perceptron's from labels alone.
        ridge_margin: above ridge's, the smallest over against_ridge.
        macs_margin: above that of MACs.
        accuracy_bar: test accuracy in % of the best cell by validation.
    """

    seeds: int = 6
    labels: tuple[int, ...] = (30, 60, 120, 240)
    claimed: int = 60
    against_ridge: tuple[int, ...] = (60, 120, 240)
    others: int = 540
    unseen: int = 1000
    steps: int = AssessorConfig.steps
    batch_size: int = 200
    candidates: int = 1000
    picks: int = 20
    trials: int = 100
    labels_margin: float = 0.03
    ridge_margin: float = 0.0
    macs_margin: float = 0.0
    accuracy_bar: float = 88.62

    def __post_init__(self) -> None:
        for name in ("seeds", "unseen", "steps", "picks"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(bool(self.labels) and min(self.labels) >= 2, f"labels={list(self.labels)}: use 2 or more, such as [60]")
        known = {self.claimed, *self.against_ridge} <= set(self.labels)
        require(known and bool(self.against_ridge), "claimed and against_ridge: name some of labels")
        require(self.trials > self.claimed, f"trials={self.trials}: use more than claimed={self.claimed}")


DEBUG = Numbers(seeds=1, labels=(20,), claimed=20, against_ridge=(20,), others=30, unseen=50, steps=3, trials=25)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Fit, order, search, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    names = ("labels", "claimed", "others", "unseen", "steps", "batch_size", "candidates", "picks", "trials")
    inputs = {name: getattr(numbers, name) for name in names}
    found = jobs.grid(assess_cells, arms=("table",), seeds=seeds, **inputs)["table"]
    for count in numbers.labels:
        arms = {arm: np.mean([one["tau"][str(count)][arm] for one in found]) for arm in found[0]["tau"][str(count)]}
        degree = np.mean([one["graph"][str(count)]["degree"] for one in found])
        each = ", ".join(f"{arm} {value:.3f}" for arm, value in arms.items())
        print(f"{count} labels, mean tau: {each}; mean degree {degree:.1f}", flush=True)
    print(f"test accuracy after {numbers.trials} trials: {[round(one['test'], 2) for one in found]}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={"by seed": found},
        full_scale="python scripts/reproduce.py paper=assessor labels=[60,120,240,1000] others=10000 unseen=3000",
    )


def claims(found: tuple[dict[str, Any], ...], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for what each draw found."""

    def above(count: int, other: str) -> list[float]:
        taus = [one["tau"][str(count)] for one in found]
        return [each["assessor"] - each[other] for each in taus]

    return (
        Claim(
            statement=f"Kendall's tau at {numbers.claimed} labels above the same from labels alone",
            margin=numbers.labels_margin,
            figures=tuple(above(numbers.claimed, "labels alone")),
        ),
        Claim(
            statement="Kendall's tau above ridge's, the smallest mean over numbers of labels",
            margin=numbers.ridge_margin,
            figures=(min(float(np.mean(above(count, "ridge"))) for count in numbers.against_ridge),),
        ),
        Claim(
            statement=f"Kendall's tau at {numbers.claimed} labels above that of MACs",
            margin=numbers.macs_margin,
            figures=tuple(above(numbers.claimed, "macs")),
        ),
        Claim(
            statement=f"test accuracy in % after {numbers.trials} trials",
            margin=numbers.accuracy_bar,
            figures=tuple(one["test"] for one in found),
        ),
    )


def assess_cells(
    arm: str,
    seed: int,
    folder: Path,
    *,
    labels: tuple[int, ...],
    claimed: int,
    others: int,
    unseen: int,
    steps: int,
    batch_size: int,
    candidates: int,
    picks: int,
    trials: int,
) -> dict[str, Any]:
    """Order unseen cells in every way, and search: "tau" and "graph" by the number of labels, and "test"."""
    torch.set_num_threads(1)
    table = read_table(default_path(), columns=(VALIDATION, TEST))
    accuracy = table.column(VALIDATION)
    rng = np.random.default_rng(derive_seed(seed, "cells"))
    cells = different_cells(max(labels) + others + unseen, rng)
    asked, rest, pool = cells[:unseen], cells[unseen : unseen + others], cells[unseen + others :]
    right = scores_of(asked, accuracy)
    config = AssessorConfig(steps=steps, batch_size=batch_size)
    taus, graphs = {}, {}
    for count in labels:
        tried = pool[:count]
        own = derive_seed(seed, f"{count} labels")
        arms: dict[str, Callable[[], Predictor]] = {
            "assessor": lambda own=own: Assessor(SPACE, config, seed=own),
            "labels alone": lambda own=own: Assessor(SPACE, replace(config, graph=False, reconstruction=0.0), seed=own),
            "ridge": lambda: Ridge(SPACE),
            "macs": lambda: ByCost(lambda one: SPACE.cost(one)["macs"]),
        }
        if count == claimed:
            arms["no graph"] = lambda own=own: Assessor(SPACE, replace(config, graph=False), seed=own)
        taus[str(count)] = {}
        for name, make in arms.items():
            predictor = make()
            predictor.fit(tried, scores_of(tried, accuracy), () if name == "labels alone" else rest)
            taus[str(count)][name] = tau(predictor.predict(asked), right)
            if name == "assessor" and isinstance(predictor, Assessor):
                found = predictor.assess(asked)
                graphs[str(count)] = {
                    "degree": found.degree,
                    "isolated": found.isolated,
                    "spread": found.spread,
                }
    ranked = RankedConfig(labels=claimed, others=others, candidates=candidates, picks=picks)
    strategy = Ranked(
        SPACE,
        lambda number: Assessor(SPACE, config, seed=derive_seed(seed, f"round {number}")),
        ranked,
        seed=derive_seed(seed, "search"),
    )
    outcome = search(SPACE, strategy, TableEvaluator(accuracy), budget=trials, folder=folder / "search")
    test = float(table.column(TEST)[row_of(outcome.best)])
    return {"tau": taus, "graph": graphs, "test": test}


def different_cells(count: int, rng: np.random.Generator) -> list[Architecture]:
    """Return drawn cells that are all different networks, in random order."""
    found: dict[Any, Architecture] = {}
    while len(found) < count:
        one = SPACE.sample(rng)
        found.setdefault(SPACE.canonical(one), one)
    cells = list(found.values())
    return [cells[place] for place in rng.permutation(count)]


def scores_of(cells: list[Architecture], accuracy: np.ndarray) -> np.ndarray:
    """Return the cells' accuracies."""
    return accuracy[[row_of(one) for one in cells]]


def tau(first: np.ndarray, second: np.ndarray) -> float:
    """Return Kendall's tau of two orders; 0 where one has none."""
    found = float(kendall_tau(torch.from_numpy(first)[None].double(), torch.from_numpy(second)[None].double())[0])
    return found if np.isfinite(found) else 0.0
