"""A report in TensorBoard: its table as a text, and every figure of its rows as a card.

A row is a run of its own beside the others ("evaluations/pams/after"), so that TensorBoard overlays them. Rows that
have an eps are points of one curve, an attack's, at steps of a thousandth.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlsuite.records.tensorboard import EventFile

STEPS_OF_EPS = 1000


def show(folder: Path, rows: Mapping[str, Mapping[str, Any]], table: str) -> None:
    """Write event files.

    Args:
        folder: the report's.
        rows: name -> figures; what is no number is left out.
        table: Markdown.
    """
    curves: dict[str, dict[int, dict[str, float]]] = {}
    for name, row in rows.items():
        eps = row.get("eps")
        curve = name if eps is None else name.removesuffix(f" {eps:g}")
        figures = {f"evaluation/{key}": float(value) for key, value in row.items() if isinstance(value, int | float)}
        curves.setdefault(curve, {})[0 if eps is None else round(STEPS_OF_EPS * eps)] = figures
    for number, (curve, points) in enumerate(curves.items()):
        events = EventFile(folder / curve, resume_step=None, note=print)
        if number == 0:
            events.text(0, "evaluation/report", table)
        for step, figures in points.items():
            events.scalars(step, figures)
        events.close()
