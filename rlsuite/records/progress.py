"""What a person sees while a run goes on: a table that stays in place on a terminal, plain lines elsewhere.

Records come from `rlsuite.records.monitor.Monitor`. These names of a "train" record have rows of their own:
``episodes``, ``return_mean``, ``success_rate``, ``failed_episodes``, and the throughputs ``steps_per_second`` (stepping
alone), ``steps_per_second_act`` (stepping and acting) and ``steps_per_second_update`` (stepping, acting, updating).
Names that contain "loss" are listed as losses; every number of an "evaluate" record is shown, and the course of the
return so far as a line of bars. Nothing that is drawn in place is wider or higher than the terminal.

The time left is told from when learning begins: the steps before the first update are far quicker than those after it.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlsuite.errors import printable
from rlsuite.records.sparkline import BARS, PLAIN, sparkline

_ROWS = {
    "episodes": "episodes",
    "return_mean": "return",
    "success_rate": "success",
    "failed_episodes": "failed episodes",
    "steps_per_second": "steps/s: step",
    "steps_per_second_act": "steps/s: step + act",
    "steps_per_second_update": "steps/s: step + act + update",
}
_MAX_LOSSES = 12
_CURVE_WIDTH = 32
_SPARE_LINES = 4  # of the terminal, for what was printed above the table and the prompt below
_GAP = 2


class _Console(Console):
    """A console whose reader may go away, as `head` does: it falls silent and the run goes on."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress:
    """Show the newest figures of a run.

    On a terminal a rich table is drawn in place at most four times a second, by the caller's own thread.
    Elsewhere each record becomes one line; of "train" records at most one a second is printed.

    Args:
        total_steps: environment steps of the whole run.
        start_step: environment steps already done when this process started.
        start_elapsed_s: seconds already spent then.
        console: where to draw; default: standard output.
        line_interval_s: seconds between two lines of "train" records.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        start_step: int = 0,
        start_elapsed_s: float = 0.0,
        console: Console | None = None,
        line_interval_s: float = 1.0,
    ) -> None:
        self._total_steps = total_steps
        self._pace_from: tuple[int, float] | None = (start_step, start_elapsed_s)  # None: learning has not begun
        self._returns: dict[str, list[float]] = {"evaluate": [], "train": []}
        self._step, self._elapsed_s = start_step, start_elapsed_s
        self._latest: dict[str, dict[str, float]] = {}
        self._console = console if console is not None else _Console(file=sys.stdout)
        self._line_interval_s = line_interval_s
        self._last_line_s = -math.inf
        self._held_line = ""
        self._live: Live | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()
        self._last_draw_s = -math.inf

    def update(self, step: int, elapsed_s: float, kind: str, values: Mapping[str, float]) -> None:
        """Show one record: `step` environment steps after `elapsed_s` seconds, its kind and its numbers."""
        self._step, self._elapsed_s = step, elapsed_s
        # An interval in which no episode ended has no return: the table goes on showing the last one.
        self._latest[kind] = self._latest.get(kind, {}) | dict(values)
        self._follow(kind, values)
        now = time.monotonic()
        if self._live is not None:
            if now - self._last_draw_s >= 0.25:
                self._live.update(self.table(), refresh=True)
                self._last_draw_s = now
            return
        line = self.line(kind, values)
        if kind == "train" and now - self._last_line_s < self._line_interval_s:
            self._held_line = line
            return
        if kind == "train":
            self._last_line_s, self._held_line = now, ""
        self._print(line)

    def note(self, text: str) -> None:
        """Print a line of text (above the table, where there is one)."""
        self._print(text)

    def close(self) -> None:
        """Show the last figures and give the terminal back. May be called twice."""
        if self._live is not None:
            if self._latest:
                self._live.update(self.table(), refresh=True)
            self._live.stop()
            self._live = None
        elif self._held_line:
            self._print(self._held_line)
        self._held_line = ""

    def _follow(self, kind: str, values: Mapping[str, float]) -> None:
        """Take note of the return, and of whether learning has begun."""
        name = {"evaluate": "mean", "train": "return_mean"}.get(kind, "")
        if name in values:
            self._returns[kind].append(values[name])
        if kind == "train" and "updates" in values:
            if values["updates"] <= 0:
                self._pace_from = None
            elif self._pace_from is None:
                self._pace_from = (self._step, self._elapsed_s)

    def time_left_s(self) -> float | None:
        """Return the seconds left at the mean pace of this process since learning began; None if that is unknown."""
        if self._pace_from is None:
            return None
        steps, seconds = self._step - self._pace_from[0], self._elapsed_s - self._pace_from[1]
        if steps <= 0 or seconds <= 0:
            return None
        return max(self._total_steps - self._step, 0) * seconds / steps

    def line(self, kind: str, values: Mapping[str, float]) -> str:
        """Return a record as one line, `` | `` between its fields."""
        fields = [self._steps(), kind]
        if kind == "train":
            fields += [f"{label} {_number(values[key])}" for key, label in _ROWS.items() if key in values]
            fields += [f"{key} {_number(value)}" for key, value in _losses(values).items()]
            fields.append(f"left {duration(self.time_left_s())}")
        else:
            fields += [f"{key} {_number(value)}" for key, value in values.items()]
        return " | ".join(fields)

    def table(self) -> Table:
        """Return the newest number of every name as a rich table, side by side where they are too many."""
        rows = self._rows()
        height = max(self._console.height - _SPARE_LINES, 1)
        rows = rows[: 2 * height]
        columns = 1 if len(rows) <= height else 2
        length = -(-len(rows) // columns)
        table = Table.grid(padding=(0, _GAP))
        for _ in range(columns):
            table.add_column(style="bold", no_wrap=True, overflow="ellipsis")
            table.add_column(justify="right", no_wrap=True, overflow="ellipsis")
        for place in range(length):
            cells = [text for row in rows[place::length] for text in row]
            table.add_row(*(Text(printable(text)) for text in cells))
        return table

    def _rows(self) -> list[tuple[str, str]]:
        """Return names and numbers in the order of the table: what a small terminal has no room for comes last."""
        train = self._latest.get("train", {})
        rows = [("steps", self._steps().removeprefix("step "))]
        rows += [("time", duration(self._elapsed_s)), ("time left", duration(self.time_left_s()))]
        if curve := self._curve():
            rows.append(curve)
        rows += [(label, _number(train[key])) for key, label in _ROWS.items() if key in train]
        for kind, values in self._latest.items():
            if kind != "train":
                rows += [(f"{kind}: {key}", _number(value)) for key, value in values.items()]
        return rows + [(key, _number(value)) for key, value in _losses(train).items()]

    def _curve(self) -> tuple[str, str] | None:
        """Return the course of the return: of the evaluations, and until there are two of them that of training."""
        kind = "evaluate" if len(self._returns["evaluate"]) > 1 else "train"
        values = self._returns[kind]
        if len(values) < 2:
            return None
        width = min(_CURVE_WIDTH, self._console.width // 3)
        bars = BARS if self._console.encoding.lower().startswith("utf") else PLAIN
        name = {"evaluate": "evaluation return", "train": "training return"}[kind]
        return name, sparkline(values, width, bars)

    def _steps(self) -> str:
        share = 100 * self._step / self._total_steps if self._total_steps else 100.0
        return f"step {self._step:,}/{self._total_steps:,} ({share:.1f} %)"

    def _print(self, text: str) -> None:
        self._console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def _losses(values: Mapping[str, float]) -> dict[str, float]:
    chosen = [(key, value) for key, value in values.items() if "loss" in key and key not in _ROWS]
    return dict(chosen[:_MAX_LOSSES])


def _number(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds: float | None) -> str:
    """Return seconds in words, such as 1h02m03s; None is "unknown"."""
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m{rest:02d}s" if hours else f"{minutes}m{rest:02d}s"
