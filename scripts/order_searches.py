"""What inherited scores are worth, and what searches must beat: ``python scripts/order_searches.py document=true``.

For each search with a supernet of cells, on scikit-learn's digits: Kendall's tau of the scores that twelve random
architectures inherit against those after learning anew; what was found beside random search at equal total cost and
the largest network. Every search is a job that is kept in folder=, so a stopped command goes on. Written are output=
and, with document=true, the table in page=.

The last line printed is JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import require
from rlsuite.experiment.jobs import Jobs
from rlsuite.experiment.results import commit, write_whole
from rlsuite.records.files import require_writable
from rlsuite.records.json_text import to_json
from rlsuite.records.pages import put_between
from scripts.experiments.inherited import SEARCHES, order
from scripts.judge_searches import line

MARKS = ("<!-- orders, by scripts/order_searches.py -->", "<!-- end of orders -->")


@dataclass(frozen=True, kw_only=True)
class OrderSearchesConfig:
    """How much is learned, and where it is kept.

    Attributes:
        digits: to learn from, of 1,438.
        tries: T of the eliminations; half of CARS's generations.
        networks: random ones.
        taught_epochs: of each network's learning anew.
        seed: of everything.
        parallel: jobs at a time; 0: in this process.
        folder: where jobs are kept.
        output: the figures.
        page: the page whose table is written.
        document: write it.
    """

    digits: int = 720
    tries: int = 1
    networks: int = 12
    taught_epochs: int = 8
    seed: int = 0
    parallel: int = 1
    folder: str = "runs/orders"
    output: str = "docs/results/search_orders.json"
    page: str = "docs/evaluation.md"
    document: bool = False

    def __post_init__(self) -> None:
        for name in ("tries", "taught_epochs"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.digits >= 128, f"digits={self.digits}: use 128 or more")
        require(self.networks >= 2, f"networks={self.networks}: use 2 or more")
        require(self.parallel >= 0, f"parallel={self.parallel}: use 0 (in this process) or more")
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


@command(OrderSearchesConfig)
def main(arguments: list[str]) -> int:
    """Search, learn anew, and write."""
    config: OrderSearchesConfig = script_config(OrderSearchesConfig, arguments)
    require_writable(Path(config.output))
    inputs = {name: getattr(config, name) for name in ("digits", "tries", "networks", "taught_epochs")}
    found = Jobs(Path(config.folder), config.parallel).grid(order, arms=SEARCHES, seeds=(config.seed,), **inputs)
    rows = {name: each[0] for name, each in found.items()}
    said = {"config": vars(config), "commit": commit(), "searches": rows}
    write_whole(Path(config.output), to_json(said, indent=1) + "\n")
    lines = table(rows)
    print("\n".join(lines))
    if config.document:
        put_between(Path(config.page), MARKS, "\n".join(["", *lines, ""]))
    print(to_json({"output": config.output, "tau": {name: row["tau"] for name, row in rows.items()}}))
    return 0


def table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the rows as Markdown."""
    arms = list(next(iter(rows.values()))["arms"])
    head = ["search", "tau", *arms, "networks for the search's cost", "CPU s"]
    lines = [line(head), line(["---"] * len(head))]
    for name, row in rows.items():
        figures = [f"{row['arms'][arm]:.1f}" for arm in arms]
        cost = f"{row['cost']['random networks']}"
        lines.append(line([f"`{name}`", f"{row['tau']:.2f}", *figures, cost, f"{row['seconds']:.0f}"]))
    return lines


if __name__ == "__main__":
    sys.exit(main())
