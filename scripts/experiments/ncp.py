"""NCP (arXiv:2103.13253), small: network codes moved along a predictor's gradient, on NAS-Bench-201's table.

The paper's own benchmark (NAS-Bench-MR, about 2,500 networks on each of nine tasks) is not at hand. Here 200 random
cells of NAS-Bench-201 are labelled with the validation accuracy of one data set (12-epoch schedule), the code is
one-hot, and each data set is a task. The predictor is compared with ridge regression on cells it has not seen. Then
codes are edited from the middle of all codes: for one task, with MACs as a cost, for all tasks at once, and for one
task from another task's code. What an edited code is worth is read from the table, by validation accuracy; each arm's
single choice is the one its predictor thinks best.

Claims: order of unseen cells better than ridge's; edited codes at least as good as the best of 70 random ones by the
same predictor; with a cost fewer MACs for a point at most; a transferred start no worse than a fresh one. That a joint
code is better than every single one is not claimed: the columns agree too well (their Kendall tau is about 0.8). The
bars are our own choices, set before the first run, whose predictor was one network (tau 0.042 above ridge's, edited
codes 0.8 points below the best of random ones): editing finds where one network is wrong, so three are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from envs.evaluation.search.metric_table import scored_table
from envs.evaluation.search.ncp import CodePredictor, EditConfig, PredictorConfig, propagate, select
from envs.evaluation.search.predictors import Ridge
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.nas_bench_201 import NasBench201Space
from rlsuite.data.nas_bench_201 import DATASETS, NUM_CELLS, cell_of, default_path, read_table, row_of
from rlsuite.errors import require
from rlsuite.experiment import Claim, Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.metrics.ranking import kendall_tau
from rlsuite.running.seeding import derive_seed

SPACE = NasBench201Space()


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The experiment's numbers.

    Attributes:
        seeds: how many: 0, 1, ...; each draws cells of its own.
        labels: cells with a label.
        unseen: cells that the order is judged on.
        epochs: of the predictor.
        members: networks whose mean the predictor is (1 in the paper).
        steps: of editing.
        cost_weight: of MACs, in the arm that has them.
        random: codes that the random arm's predictor chooses from; as many as editing passes.
        tau_margin: Kendall's tau above ridge's, mean over data sets.
        edited_margin: points of the edited code above the best of random ones, mean over data sets.
        macs_share: of the MACs without a cost that are left with one, at most.
        cost_margin: points that this may cost, as what is left over, at least.
        transfer_margin: points of a start at another task's code above the fresh start's, mean over pairs.
    """

    seeds: int = 3
    labels: int = 200
    unseen: int = 1000
    epochs: int = 200
    members: int = 3
    steps: int = 70
    cost_weight: float = 0.5
    random: int = 70
    tau_margin: float = 0.05
    edited_margin: float = 0.0
    macs_share: float = 0.8
    cost_margin: float = -1.0
    transfer_margin: float = 0.0

    def __post_init__(self) -> None:
        for name in ("seeds", "unseen", "epochs", "members", "steps", "random"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.labels >= 4, f"labels={self.labels}: use 4 or more")
        require(self.labels + self.unseen <= NUM_CELLS, f"labels and unseen: the table has {NUM_CELLS} cells")


DEBUG = Numbers(seeds=1, labels=40, unseen=100, epochs=10, members=1, steps=10, random=10)


def run(numbers: Numbers, jobs: Jobs) -> Result:
    """Fit, edit, read the table, and test the claims."""
    seeds = tuple(range(numbers.seeds))
    names = ("labels", "unseen", "epochs", "members", "steps", "cost_weight", "random")
    inputs = {name: getattr(numbers, name) for name in names}
    found = jobs.grid(edit_codes, arms=("table",), seeds=seeds, in_process=True, **inputs)["table"]
    for seed, one in zip(seeds, found, strict=True):
        for data in DATASETS:
            codes = one["codes"][data]
            arms = ", ".join(
                f"{arm} {each['accuracy']:.2f} ({each['macs'] / 1e6:.0f} M)" for arm, each in codes.items()
            )
            taus = ", ".join(f"{name} {value:.3f}" for name, value in one["tau"][data].items())
            print(f"seed {seed}, {data}, % and MACs: {arms}; tau: {taus}", flush=True)
    return Result(
        seeds=seeds,
        claims=claims(found, numbers),
        figures={"by seed": found},
        full_scale="python scripts/reproduce.py paper=ncp seeds=10 labels=1000",
    )


def claims(found: tuple[dict[str, Any], ...], numbers: Numbers) -> tuple[Claim, ...]:
    """Return the claims for what each seed found."""

    def mean(value: Any) -> tuple[float, ...]:
        return tuple(float(np.mean([value(one, data) for data in DATASETS])) for one in found)

    def minus(arm: str, other: str) -> tuple[float, ...]:
        return mean(lambda one, data: one["codes"][data][arm]["accuracy"] - one["codes"][data][other]["accuracy"])

    return (
        Claim(
            statement="Kendall's tau on unseen cells above ridge's, mean over data sets",
            margin=numbers.tau_margin,
            figures=mean(lambda one, data: one["tau"][data]["predictor"] - one["tau"][data]["ridge"]),
        ),
        Claim(
            statement=f"edited code above the best of {numbers.random} random ones by the same predictor, points",
            margin=numbers.edited_margin,
            figures=minus("edited", "random"),
        ),
        Claim(
            statement="MACs with a cost, as a share of those without",
            margin=numbers.macs_share,
            figures=mean(lambda one, data: one["codes"][data]["cost"]["macs"] / one["codes"][data]["edited"]["macs"]),
            at_least=False,
        ),
        Claim(
            statement="edited with a cost above edited without, points",
            margin=numbers.cost_margin,
            figures=minus("cost", "edited"),
        ),
        Claim(
            statement="a start at another task's code above a fresh start, points",
            margin=numbers.transfer_margin,
            figures=minus("transferred", "edited"),
        ),
    )


def edit_codes(
    arm: str,
    seed: int,
    folder: Path,
    *,
    labels: int,
    unseen: int,
    epochs: int,
    members: int,
    steps: int,
    cost_weight: float,
    random: int,
) -> dict[str, Any]:
    """Fit a predictor of each data set, edit in every way: "tau" and "codes" by data set."""
    torch.set_num_threads(1)
    table = read_table(default_path(), columns=tuple(f"{data}-val" for data in DATASETS))
    rng = np.random.default_rng(derive_seed(seed, "cells"))
    rows = rng.permutation(NUM_CELLS)
    learned, asked = ([cell_of(int(row)) for row in part] for part in (rows[:labels], rows[labels : labels + unseen]))
    drawn = [cell_of(int(row)) for row in rng.permutation(NUM_CELLS)[:random]]
    truth = {data: table.column(f"{data}-val") for data in DATASETS}
    predictors, taus = {}, {}
    for data in DATASETS:
        scores = truth[data][[row_of(one) for one in learned]]
        predictor = CodePredictor(SPACE, PredictorConfig(epochs=epochs, members=members), seed=derive_seed(seed, data))
        held_out = predictor.fit_table(scored_table(SPACE, learned, scores)).tau
        ridge = Ridge(SPACE)
        ridge.fit(learned, scores)
        right = truth[data][[row_of(one) for one in asked]]
        taus[data] = {
            "predictor": tau(predictor.predict(asked), right),
            "ridge": tau(ridge.predict(asked), right),
            "held out": held_out,
        }
        predictors[data] = predictor
    plain, cheap = EditConfig(steps=steps), EditConfig(steps=steps, cost_weight=cost_weight)
    middle, found = SPACE.middle(), {}

    def best(tasks: list[CodePredictor], start: np.ndarray, config: EditConfig) -> Architecture:
        chosen = select(tasks, propagate(tasks, start, config))
        assert chosen is not None
        return chosen.architecture

    joint = best(list(predictors.values()), middle, plain)
    edited = {data: best([predictors[data]], middle, plain) for data in DATASETS}
    for place, data in enumerate(DATASETS):
        own, before = predictors[data], DATASETS[place - 1]
        told = own.predict(drawn)
        choices = {
            "edited": edited[data],
            "cost": best([own], middle, cheap),
            "transferred": best([own], SPACE.encode(edited[before]), plain),
            "joint": joint,
            "random": drawn[int(told.argmax())],
        }
        found[data] = {name: figures(one, truth[data]) for name, one in choices.items()}
    return {"tau": taus, "codes": found}


def figures(architecture: Architecture, accuracy: np.ndarray) -> dict[str, Any]:
    """Return what the table and the space say of a code."""
    return {
        "cell": list(architecture),
        "accuracy": float(accuracy[row_of(architecture)]),
        "macs": SPACE.cost(architecture)["macs"],
    }


def tau(first: np.ndarray, second: np.ndarray) -> float:
    """Return Kendall's tau of two orders."""
    return float(kendall_tau(torch.from_numpy(first)[None].double(), torch.from_numpy(second)[None].double())[0])
