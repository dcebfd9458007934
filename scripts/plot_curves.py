"""Plot learning curves of many runs: ``python scripts/plot_curves.py runs=runs output=curves.png``.

A panel for each task: the interquartile mean over seeds with its 95 % bootstrap band, over environment steps or, with
x=minutes, over the wall clock of training. With several tasks also performance profiles of the last evaluations, each
task's returns divided by the best group's. by= groups runs, such as by=agent.name,agent.num_pairs. A table is printed,
how likely a run of one group ends above one of another, and what could not be drawn.

The evaluations of every run go to a data file (data=), from which alone the figure can be drawn again:
``python scripts/plot_curves.py runs=curves.json output=again.png``.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlsuite.cli import run_script
from rlsuite.config.compose import script_config
from rlsuite.config.help import describe
from rlsuite.errors import UserError, printable, require, require_choice
from rlsuite.extras import import_extra
from rlsuite.statistics.curves import METRICS, Curve, left_out, make_curves, read_runs, write_data
from rlsuite.statistics.estimates import (
    performance_profile,
    probability_of_improvement,
    probability_of_improvement_interval,
)

AXES = {"steps": "environment steps", "minutes": "minutes of training"}
MAX_COLUMNS = 4
MAX_PAIRS = 10  # of groups compared


@dataclass(frozen=True, kw_only=True)
class PlotConfig:
    """What is plotted.

    Attributes:
        runs: run directories, directories with runs below them, or data files.
        output: the picture; .png, .svg or .pdf.
        data: the data file that is written; default: beside the picture, unless it is drawn from data files alone.
        by: config keys that make the groups; runs of a data file keep theirs.
        x: steps or minutes.
        y: return, or of tasks with goals success.
    """

    runs: tuple[str, ...] = ("runs",)
    output: str = "curves.png"
    data: str = ""
    by: tuple[str, ...] = ("agent.name",)
    x: str = "steps"
    y: str = "return"

    def __post_init__(self) -> None:
        suffix = Path(self.output).suffix
        require(suffix in (".png", ".svg", ".pdf"), f"output={self.output}: use a name ending in .png, .svg or .pdf")
        require(self.data == "" or self.data.endswith(".json"), f"data={self.data}: use a name ending in .json")
        require_choice("x", self.x, AXES)
        require_choice("y", self.y, METRICS)


def main(arguments: list[str]) -> int:
    """Read, plot, write."""
    if "--help" in arguments or "-h" in arguments:
        print("\n".join([__doc__ or "", *describe(PlotConfig)]))
        return 0
    script = script_config(PlotConfig, arguments)
    runs = read_runs(script.runs, script.by)
    curves = make_curves(runs, script.y)
    lines = [*table(curves, 1 if script.y == "return" else 3), *improvements(curves), *left_out(runs)]
    print("\n".join(map(printable, lines)))
    old = [run.name for run in runs if run.with_evaluation]
    if old:
        print(f"minutes of {len(old)} runs include their evaluations (no train_s in their logs), such as {old[0]}")
    output = Path(script.output)
    draw(curves, output, script.x, script.y)
    if not script.data and all(path.endswith(".json") for path in script.runs):
        print(output)  # drawn from data files: there is nothing new to keep
        return 0
    data = Path(script.data) if script.data else output.with_suffix(".json")
    write_data(runs, data)
    print(f"{output} and {data}")
    return 0


def table(curves: Sequence[Curve], digits: int = 1) -> list[str]:
    """Return the last evaluations as lines of text, with so many digits behind the point."""
    head = ("mean", "95 % interval", "iqm", "minutes")
    lines = [f"{'task':24} {'label':32} {'steps':>10} {'seeds':>5} " + "{:>8} {:>18} {:>8} {:>8}".format(*head)]
    for curve in curves:
        mean, low, high, middle = (
            f"{value:.{digits}f}" for value in (curve.last_mean, *curve.last_interval, curve.center[-1])
        )
        lines.append(
            f"{curve.task:24} {curve.label:32} {curve.steps[-1]:>10,} {len(curve.returns):>5} {mean:>8} "
            f"{f'[{low}, {high}]':>18} {middle:>8} {curve.minutes[-1]:>8.1f}"
        )
    return lines


def improvements(curves: Sequence[Curve]) -> list[str]:
    """Return how likely a run of one group ends above one of another.

    That is for groups of three runs or more, which ran on the same tasks: fewer cannot tell how sure it is.
    """
    scores: dict[str, dict[str, np.ndarray]] = {}
    for curve in curves:
        scores.setdefault(curve.label, {})[curve.task] = curve.returns[:, -1]
    lines = []
    for first, second in itertools.combinations(scores, 2):
        if scores[first].keys() != scores[second].keys():
            continue
        one, two = (
            np.stack([of[task][: min(map(len, of.values()))] for task in sorted(of)], axis=1)
            for of in (scores[first], scores[second])
        )
        if min(len(one), len(two)) < 3:
            continue
        chance, (low, high) = probability_of_improvement(one, two), probability_of_improvement_interval(one, two)
        lines.append(f"P({first} > {second}) = {chance:.2f}, 95 % interval [{low:.2f}, {high:.2f}]")
    return lines[:MAX_PAIRS]


def draw(curves: Sequence[Curve], output: Path, x: str = "steps", y: str = "return") -> None:
    """Draw a panel for each task, and one of performance profiles where there are several."""
    import_extra("matplotlib", "plot_curves.py").use("Agg")
    from matplotlib import pyplot

    tasks = sorted({curve.task for curve in curves})
    labels = sorted({curve.label for curve in curves})
    colors = {label: f"C{place % 10}" for place, label in enumerate(labels)}
    if len(tasks) > 1 and min(curve.center[-1] for curve in curves) <= 0:
        print("no performance profile: a share of the best means nothing where a group's last value is 0 or less")
    profiles = len(tasks) > 1 and min(curve.center[-1] for curve in curves) > 0  # shares of a best below 0 mean nothing
    panels = len(tasks) + profiles
    columns = min(panels, MAX_COLUMNS)
    rows = -(-panels // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.5 * columns, 3.6 * rows), squeeze=False)
    for axis in axes.flat[panels:]:
        axis.set_axis_off()
    for axis, task in zip(axes.flat, tasks, strict=False):
        for curve in (curve for curve in curves if curve.task == task):
            color, places = colors[curve.label], getattr(curve, x)
            axis.plot(places, curve.center, color=color)
            axis.fill_between(places, curve.low, curve.high, color=color, alpha=0.2, linewidth=0)
        axis.set(xlabel=AXES[x], ylabel=f"{y}, interquartile mean")
        axis.set_title(printable(task), parse_math=False)  # a name may hold any letter, and $ is none of mathematics
    if profiles:
        draw_profiles(axes.flat[panels - 1], curves, colors, y)
    # One legend below all panels: long labels would hide the curves.
    handles = [pyplot.Line2D([], [], color=colors[label]) for label in labels]
    shown = [printable(label) for label in labels]
    legend = figure.legend(handles, shown, loc="upper center", bbox_to_anchor=(0.5, 0.0), fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.tight_layout()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=120, bbox_inches="tight")
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}); choose another output=") from None
    pyplot.close(figure)


def draw_profiles(axis: Any, curves: Sequence[Curve], colors: dict[str, str], y: str) -> None:
    """Draw, for groups that ran on every task, the share of runs above each fraction of the best group's."""
    tasks = sorted({curve.task for curve in curves})
    best = {task: max(curve.center[-1] for curve in curves if curve.task == task) for task in tasks}
    thresholds = np.linspace(0.0, 1.2, 61)
    for label, color in colors.items():
        mine = {curve.task: curve for curve in curves if curve.label == label}
        if set(mine) != set(tasks):
            continue
        seeds = min(len(curve.returns) for curve in mine.values())
        scores = np.stack([mine[task].returns[:seeds, -1] / best[task] for task in tasks], axis=1)
        profile = performance_profile(scores, thresholds)
        axis.plot(thresholds, profile.fraction, color=color)
        axis.fill_between(thresholds, profile.low, profile.high, color=color, alpha=0.2, linewidth=0)
    axis.set(title="performance profile", xlabel=f"{y} / best group's", ylabel="share of runs above")


if __name__ == "__main__":
    sys.exit(run_script(main))
