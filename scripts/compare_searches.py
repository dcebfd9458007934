"""Compare search strategies on NAS-Bench-201's table: ``python scripts/compare_searches.py runs=500``.

For each data set: the test accuracy of the best row by validation after 100 and 200 different rows, the mean over runs
(random search in closed form), and how much of the volume under the true front of CIFAR-10's validation accuracy
against MACs is found. The table is read from the folder that RLSUITE_DATA names, or from table=FILE.

The last line printed is JSON.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from envs.evaluation.search.evaluators import TableEvaluator
from envs.evaluation.search.evolution import RegularizedEvolution
from envs.evaluation.search.local_search import LocalSearch
from envs.evaluation.search.nsga import NSGA2
from envs.evaluation.search.pareto import hypervolume
from envs.evaluation.search.random import RandomSearch, expected_best
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.nas_bench_201 import NasBench201Space
from envs.evaluation.search.strategy import search
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.data.nas_bench_201 import DATASETS, NUM_CELLS, NasBench201, cell_of, default_path, read_table, row_of
from rlsuite.errors import require
from rlsuite.records.json_text import to_json

BUDGETS = (100, 200)
REFERENCE = np.array([-50.0, 1.0])  # validation accuracy of 50 %, the MACs of the cell of six 3 x 3 convolutions


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What to compare.

    Attributes:
        runs: seeds of each strategy.
        table: NAS-Bench-201's CSV file; empty: the one in the folder that RLSUITE_DATA names.
        parallel: processes.
    """

    runs: int = 500
    table: str = ""
    parallel: int = 2

    def __post_init__(self) -> None:
        require(self.runs >= 1, f"runs={self.runs}: use 1 or more")
        require(self.parallel >= 1, f"parallel={self.parallel}: use 1 or more")


class RowSpace(NasBench201Space):
    """The table's space where every row is a network of its own, as published comparisons count them."""

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture itself."""
        return architecture


@command(CompareConfig)
def main(arguments: list[str]) -> int:
    """Run the comparison."""
    config: CompareConfig = script_config(CompareConfig, arguments)
    columns = tuple(f"{data}-{split}" for data in DATASETS for split in ("val", "test"))
    table = read_table(config.table or default_path(), columns=columns)
    seeds = np.array_split(np.arange(config.runs), config.parallel)
    results: dict[str, Any] = {"runs": config.runs}
    with ProcessPoolExecutor(config.parallel) as pool:
        for data in DATASETS:
            validation, test = table.column(f"{data}-val"), table.column(f"{data}-test")
            results[data] = {"random": [expected_best(validation, test, budget) for budget in BUDGETS]}
            for kind in (RegularizedEvolution, LocalSearch):
                found = np.concatenate(list(pool.map(partial(best_tests, kind, validation, test), seeds)))
                results[data][kind.__name__] = found.mean(axis=0).tolist()
        results["hypervolume"] = volumes(table, seeds, pool)
    print_table(results)
    print(to_json(results))
    return 0


def best_tests(kind: Any, validation: np.ndarray, test: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Return the test accuracy (seeds, budgets) of the best row by validation, for one strategy."""
    space, found = RowSpace(), []
    for seed in seeds:
        judged = search(space, kind(space, seed=int(seed)), TableEvaluator(validation), budget=max(BUDGETS)).judged
        rows = np.fromiter(dict.fromkeys(row_of(architecture) for architecture, _ in judged), dtype=int)
        found.append([test[best_of(validation, rows[:budget])] for budget in BUDGETS])
    return np.asarray(found)


def best_of(validation: np.ndarray, rows: np.ndarray) -> int:
    """Return the row of the highest validation accuracy, the first of equals."""
    return int(rows[validation[rows].argmax()])


def volumes(table: NasBench201, seeds: list[np.ndarray], pool: ProcessPoolExecutor) -> dict[str, list[float]]:
    """Return the share of the true front's volume that random search and NSGA-II find at each budget."""
    space = RowSpace()
    macs = np.array([space.cost(cell_of(row))["macs"] for row in range(NUM_CELLS)])
    objectives = np.stack([-table.column("cifar10-val"), macs / macs.max()], axis=1)
    work = partial(found_volumes, objectives)
    whole = hypervolume(objectives, REFERENCE)
    return {
        name: (np.concatenate(list(pool.map(partial(work, name), seeds))).mean(axis=0) / whole).tolist()
        for name in ("random", "NSGA2")
    }


def found_volumes(objectives: np.ndarray, name: str, seeds: np.ndarray) -> np.ndarray:
    """Return volumes (seeds, budgets) of what one strategy has seen."""
    space, found = RowSpace(), []
    for seed in seeds.tolist():
        if name == "random":
            strategy: Any = RandomSearch(space, seed=seed)
        else:
            strategy = NSGA2(space, lambda architecture: objectives[row_of(architecture), 1], seed=seed)
        judged = search(space, strategy, TableEvaluator(-objectives[:, 0]), budget=max(BUDGETS)).judged
        rows = np.fromiter(dict.fromkeys(row_of(architecture) for architecture, _ in judged), dtype=int)
        found.append([hypervolume(objectives[rows[:budget]], REFERENCE) for budget in BUDGETS])
    return np.asarray(found)


def print_table(results: dict[str, Any]) -> None:
    """Print the accuracies and volumes as Markdown."""
    strategies = ("random", "RegularizedEvolution", "LocalSearch")
    print(f"| after {BUDGETS[0]} / {BUDGETS[1]} rows | {' | '.join(DATASETS)} |\n|---|{'---|' * len(DATASETS)}")
    for name in strategies:
        cells = (" / ".join(f"{value:.2f}" for value in results[data][name]) for data in DATASETS)
        print(f"| {name} | {' | '.join(cells)} |")
    for name, shares in results["hypervolume"].items():
        print(f"share of the true front's volume, {name}: {' / '.join(f'{share:.3f}' for share in shares)}")


if __name__ == "__main__":
    sys.exit(main())
