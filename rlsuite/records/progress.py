"""What a person sees while a run goes on: a table that stays in place on a terminal, plain lines elsewhere.

Records come from `rlsuite.records.monitor.Monitor`. These names of a "train" record have rows of their own:
``episodes``, ``return_mean``, ``success_rate``, ``failed_episodes``, and the throughputs ``steps_per_second`` (stepping
alone), ``steps_per_second_act`` (stepping and acting) and ``steps_per_second_update`` (stepping, acting, updating).
Names that contain "loss" are listed as losses; every number of an "evaluate" record is shown.
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
        self._start = (start_step, start_elapsed_s)
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

    def time_left_s(self) -> float | None:
        """Return the seconds left at the mean pace of this process; None before its first step."""
        steps, seconds = self._step - self._start[0], self._elapsed_s - self._start[1]
        if steps <= 0 or seconds <= 0:
            return None
        return max(self._total_steps - self._step, 0) * seconds / steps

    def line(self, kind: str, values: Mapping[str, float]) -> str:
        """Return a record as one line, `` | `` between its fields."""
        fields = [self._steps(), kind]
        if kind == "train":
            fields += [f"{label} {_number(values[key])}" for key, label in _ROWS.items() if key in values]
            fields += [f"{key} {_number(value)}" for key, value in _losses(values).items()]
            fields.append(f"left {_duration(self.time_left_s())}")
        else:
            fields += [f"{key} {_number(value)}" for key, value in values.items()]
        return " | ".join(fields)

    def table(self) -> Table:
        """Return the newest number of every name as a rich table."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        table.add_column(justify="right")
        table.add_row("steps", self._steps().removeprefix("step "))
        train = self._latest.get("train", {})
        for key, label in _ROWS.items():
            if key in train:
                table.add_row(label, _number(train[key]))
        for key, value in _losses(train).items():
            table.add_row(Text(printable(key)), _number(value))
        for kind, values in self._latest.items():
            if kind != "train":
                for key, value in values.items():
                    table.add_row(Text(printable(f"{kind}: {key}")), _number(value))
        table.add_row("time", _duration(self._elapsed_s))
        table.add_row("time left", _duration(self.time_left_s()))
        return table

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


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m{rest:02d}s" if hours else f"{minutes}m{rest:02d}s"
