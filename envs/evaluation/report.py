"""Before, control and after in one table: what a network scores, weighs and costs.

The control is the same network after the same learning with nothing else done to it: what a transform costs shows
against it, not against a network that has learned less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from envs.evaluation.board import show
from envs.evaluation.subject import Subject
from rlsuite.records.json_text import to_json
from rlsuite.statistics.digits import bracketed
from rlsuite.statistics.means import mean_interval

MOST = 1000  # of the first row's; more is of a figure that was nearly 0, and says nothing
COLUMNS = ("score", "kept", "parameters", "bytes", "macs", "bit_operations")


@dataclass(frozen=True)
class Row:
    """One network.

    Attributes:
        name: "before", "control", "after", or what else is compared.
        scores: (E,) as its task gives them.
        costs: named figures, as `probes` and `latency` give them.
    """

    name: str
    scores: np.ndarray
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Some networks of one task, side by side.

    Attributes:
        title: what was done.
        unit: of the scores.
        floor: the score of something that has learned nothing.
        rows: the first is what the others' shares are counted from.
        notes: sentences that belong to the figures.
    """

    title: str
    unit: str
    floor: float
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def kept(self, row: Row) -> float:
        """Return (score - floor) / (the first row's - floor): shares of negative returns would mean nothing."""
        whole = float(self.rows[0].scores.mean()) - self.floor
        return (float(row.scores.mean()) - self.floor) / whole if whole else float("nan")

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON; None for an interval of one score, and for a share of nothing."""
        rows = {}
        for row in self.rows:
            kept = self.kept(row)
            rows[row.name] = {
                "score": float(row.scores.mean()),
                "interval": mean_interval(row.scores).ends,
                "kept": None if math.isnan(kept) else kept,
                "scores": [float(score) for score in row.scores],
                **row.costs,
            }
        return {
            "title": self.title,
            "unit": self.unit,
            "floor": self.floor,
            "rows": rows,
            "notes": list(self.notes),
        }

    def markdown(self) -> str:
        """Return the table, costs also as shares of the first row's."""
        names = list(dict.fromkeys(key for row in self.rows for key in row.costs))
        head = ["", f"score ({self.unit})", "kept", *(name.replace("_", " ") for name in names)]
        lines = [f"# {self.title}", "", _line(head), _line(["---"] * len(head))]
        for row in self.rows:
            low, high, _ = mean_interval(row.scores)
            kept = self.kept(row)
            cells = [row.name, f"{row.scores.mean():.4g}{bracketed(low, high, '.4g')}"]
            cells.append("" if math.isnan(kept) else f"{kept:.3f}")
            for name in names:
                first, own = self.rows[0].costs.get(name), row.costs.get(name)
                share = ""
                if own is not None and first and row is not self.rows[0] and own < MOST * first:
                    share = f" ({own / first:.2f} x)"
                cells.append("" if own is None else f"{_number(own)}{share}")
            lines.append(_line(cells))
        return "\n".join([*lines, *([""] if self.notes else []), *self.notes, ""])

    def write(self, folder: Path, more: Mapping[str, Any] | None = None) -> None:
        """Write report.json, with what plain data stands beside its rows, report.md, and both for TensorBoard."""
        folder.mkdir(parents=True, exist_ok=True)
        plain, table = self.plain(), self.markdown()
        (folder / "report.json").write_text(to_json(plain | dict(more or {}), indent=1) + "\n")
        (folder / "report.md").write_text(table)
        show(folder, plain["rows"], table)


def score_rows(subjects: Mapping[str, Subject], seed: int, costs: Mapping[str, Mapping[str, float]]) -> tuple[Row, ...]:
    """Return a row for each subject, all scored with the same seed."""
    return tuple(
        Row(name, subject.task.score(subject.module, seed), costs.get(name, {})) for name, subject in subjects.items()
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
