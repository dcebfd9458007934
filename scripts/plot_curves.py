"""Plot learning curves of many runs: ``python scripts/plot_curves.py runs=runs output=curves.png``.

A panel for each task: the mean over seeds with its 95 % band by Student's t and each seed as a thin line, from ten
seeds on the interquartile mean with a bootstrap band; over environment steps or, with x=minutes, over the wall clock of
training. With several tasks also performance profiles at the last common step, each task's returns divided by the best
group's. by= groups runs, such as by=agent.name,agent.num_pairs; groups whose configs differ otherwise are split. A
table is printed, how likely a run of one group ends above one of another at equal steps, and what could not be drawn
(docs/statistics.md).

The evaluations of every run go to a data file (data=), from which alone the figure can be drawn again:
``python scripts/plot_curves.py runs=curves.json output=again.png``.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import UserError, printable, require, require_choice
from rlsuite.extras import import_extra
from rlsuite.records.files import require_writable
from rlsuite.statistics.curves import Curve, left_out, make_curves
from rlsuite.statistics.digits import shown
from rlsuite.statistics.estimates import interquartile_mean, performance_profile
from rlsuite.statistics.improvement import FEWEST_RUNS, improvement
from rlsuite.statistics.means import BOOTSTRAP, FEWEST_FOR_BOOTSTRAP, NONE, STUDENT, expanded_level
from rlsuite.statistics.runs import METRICS, Run, read_runs, write_data

AXES = {"steps": "environment steps", "minutes": "minutes of training"}
MAX_COLUMNS = 4
BANDS = {
    STUDENT: "mean, 95 % band by Student's t",
    BOOTSTRAP: "interquartile mean, 95 % bootstrap band",
    NONE: "one seed",
}


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


@command(PlotConfig)
def main(arguments: list[str]) -> int:
    """Read, plot, write."""
    script = script_config(PlotConfig, arguments)
    output = Path(script.output)
    require_writable(output)
    if script.data:
        require_writable(Path(script.data), "data")
    runs = with_metric(read_runs(script.runs, script.by), script.y)
    curves = make_curves(runs, script.y)
    lines = [*table(curves, 1 if script.y == "return" else 3), *improvements(curves), *left_out(runs)]
    print("\n".join(map(printable, lines)))
    old = [run.name for run in runs if run.with_evaluation]
    if old:
        such = printable(old[0])
        print(f"minutes of {len(old)} runs include their evaluations (no train_s in their logs), such as {such}")
    draw(curves, output, script.x, script.y)
    if not script.data and all(path.endswith(".json") for path in script.runs):
        print(output)  # drawn from data files: there is nothing new to keep
        return 0
    data = Path(script.data) if script.data else output.with_suffix(".json")
    write_data(runs, data)
    print(f"{output} and {data}")
    return 0


def with_metric(runs: list[Run], metric: str) -> list[Run]:
    """Return the runs that have a metric, unless none has it; name the tasks whose panels are left out."""
    kept = [run for run in runs if run.has(metric)]
    if not kept:
        return runs  # to be refused with the name of one
    empty = sorted({run.task for run in runs} - {run.task for run in kept})
    if empty:
        print(printable(f"no panel for {', '.join(empty)}: no run there has {metric} in its evaluations"))
    short = [run.name for run in runs if run.task not in empty and not run.has(metric)]
    if short:
        print(printable(f"left out, without {metric} in their evaluations: {', '.join(short)}"))
    return kept


def table(curves: Sequence[Curve], digits: int = 1) -> list[str]:
    """Return the last evaluations as lines of text, with so many digits behind the point."""
    head = ("mean", "95 % interval", "by", "iqm", "minutes")
    form = "{:>9} {:>22} {:11} {:>9} {:>8}"
    lines = [f"{'task':24} {'label':32} {'steps':>10} {'seeds':>5} " + form.format(*head)]
    for curve in curves:
        low, high, kind = curve.last_interval
        mean, middle = shown(curve.last_mean, digits), shown(curve.last_middle, digits)
        interval = "-" if kind == NONE else f"[{shown(low, digits)}, {shown(high, digits)}]"
        minutes = f"{curve.minutes[-1]:.1f}"
        lines.append(
            f"{curve.task:24} {curve.label:32} {curve.steps[-1]:>10,} {len(curve.seeds):>5} "
            + form.format(mean, interval, "-" if kind == NONE else kind, middle, minutes)
        )
    return lines


def improvements(curves: Sequence[Curve]) -> list[str]:
    """Return a line for each two groups: how likely a run of one ends above one of the other, or why that is not said.

    They are compared on the tasks both ran on with FEWEST_RUNS seeds or more (fewer cannot tell two algorithms apart),
    on each with the seeds it has and at the largest step that all runs of both were evaluated at. A last line names the
    groups with fewer.
    """
    groups: dict[str, dict[str, Curve]] = {}
    few: dict[str, list[str]] = {}
    for curve in curves:
        if len(curve.seeds) >= FEWEST_RUNS:
            groups.setdefault(curve.label, {})[curve.task] = curve
        else:
            few.setdefault(curve.label, []).append(f"{curve.task} {len(curve.seeds)}")
    lines = [compared(first, second, groups) for first, second in itertools.combinations(groups, 2)]
    if few and len(groups | few) > 1:
        named = "; ".join(f"{label}: {', '.join(tasks)}" for label, tasks in few.items())
        lines.append(f"P(A > B) is not said of fewer than {FEWEST_RUNS} seeds ({named})")
    return lines


def compared(first: str, second: str, groups: Mapping[str, Mapping[str, Curve]]) -> str:
    """Return the line for two groups, each task -> curve."""
    one, two = groups[first], groups[second]
    steps = {task: last_common([one[task], two[task]]) for task in sorted(one.keys() & two.keys())}
    apart = sorted({*(one.keys() ^ two.keys()), *(task for task, step in steps.items() if step is None)})
    at = {task: step for task, step in steps.items() if step is not None}
    if not at:
        return f"{first} and {second} are not compared: they have no task with a common step"
    chance, (low, high), p_value = improvement(
        {task: one[task].at(step) for task, step in at.items()}, {task: two[task].at(step) for task, step in at.items()}
    )
    where = [
        f"{task} at step {step:,}, {len(one[task].seeds)} and {len(two[task].seeds)} seeds" for task, step in at.items()
    ]
    without = [f"without {', '.join(apart)}"] if apart else []
    return (
        f"P({first} > {second}) = {chance:.2f}, 95 % score interval [{low:.2f}, {high:.2f}], exact two-sided p = "
        f"{p_value:.3f} ({'; '.join([*where, *without])})"
    )


def last_common(curves: Sequence[Curve]) -> int | None:
    """Return the largest step that all curves have, or None."""
    return max(set(curves[0].steps.tolist()).intersection(*(curve.steps.tolist() for curve in curves)), default=None)


def draw(curves: Sequence[Curve], output: Path, x: str = "steps", y: str = "return") -> None:
    """Draw a panel for each task, and one of performance profiles where there are several."""
    import_extra("matplotlib", "plot_curves.py").use("Agg")
    from matplotlib import pyplot

    tasks = sorted({curve.task for curve in curves})
    labels = sorted({curve.label for curve in curves})
    colors = {label: f"C{place % 10}" for place, label in enumerate(labels)}
    profiles = profile_scores(curves) if len(tasks) > 1 else {}
    panels = len(tasks) + bool(profiles)
    columns = min(panels, MAX_COLUMNS)
    rows = -(-panels // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.5 * columns, 3.6 * rows), squeeze=False)
    for axis in axes.flat[panels:]:
        axis.set_axis_off()
    for axis, task in zip(axes.flat, tasks, strict=False):
        draw_task(axis, [curve for curve in curves if curve.task == task], colors, x, y)
    if profiles:
        draw_profiles(axes.flat[panels - 1], profiles, colors, y)
    # One legend below all panels: long labels would hide the curves.
    handles = [pyplot.Line2D([], [], color=colors[label]) for label in labels]
    between = {curve.label for curve in curves if curve.interpolated}
    names = [printable(label) + (" (interpolated)" if label in between else "") for label in labels]
    legend = figure.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 0.0), fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.tight_layout()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=120, bbox_inches="tight")
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}); choose another output=") from None
    pyplot.close(figure)


def draw_task(axis: Any, curves: Sequence[Curve], colors: Mapping[str, str], x: str, y: str) -> None:
    """Draw a task's curves with their bands, and where seeds are few each of them as a thin line."""
    for curve in curves:
        color, places = colors[curve.label], getattr(curve, x)
        marker = "o" if len(places) == 1 else ""  # a line through one evaluation is nothing to see
        axis.plot(places, curve.center, color=color, marker=marker)
        if curve.kind != BOOTSTRAP:
            axis.plot(places, curve.returns.T, color=color, linewidth=0.5, alpha=0.6, marker=marker, markersize=3)
    # The bands of two or three seeds are as wide as these know little: they may leave the picture.
    low, high = axis.get_ylim()
    room = (high - low) / 4
    for curve in curves:
        places = getattr(curve, x)
        if len(places) == 1:
            axis.vlines(places, curve.low, curve.high, color=colors[curve.label], alpha=0.4)
        else:
            axis.fill_between(places, curve.low, curve.high, color=colors[curve.label], alpha=0.15, linewidth=0)
    axis.set_ylim(low - room, high + room)
    kinds = {curve.kind for curve in curves}
    names = [name for kind, name in BANDS.items() if kind in kinds]
    axis.set(xlabel=AXES[x], ylabel=f"{y}: {'; '.join(names)}")
    # A name may hold any letter, and $ is none of mathematics.
    axis.set_title(printable(curves[0].task), parse_math=False)
    axis.yaxis.label.set_fontsize(8)


def profile_scores(curves: Sequence[Curve]) -> dict[str, dict[str, np.ndarray]]:
    """Return, of groups that ran on every task, task -> each seed's value as a share of the best group's.

    All groups are taken at the largest step they have in common on a task. Prints it, and what is left out and why.
    """
    tasks = sorted({curve.task for curve in curves})
    on = {task: [curve for curve in curves if curve.task == task] for task in tasks}
    steps = {task: last_common(on[task]) for task in tasks}
    missing = [task for task, step in steps.items() if step is None]
    if missing:
        print(f"no performance profile: the groups have no step in common on {printable(', '.join(missing))}")
        return {}
    ends = {task: {curve.label: curve.at(int(step or 0)) for curve in on[task]} for task, step in steps.items()}
    best = {task: max(float(values.mean()) for values in of.values()) for task, of in ends.items()}
    if min(values.mean() for of in ends.values() for values in of.values()) <= 0:
        print("no performance profile: a share of the best means nothing where a group's last value is 0 or less")
        return {}
    print(printable("performance profile: " + ", ".join(f"{task} at step {step:,}" for task, step in steps.items())))
    whole = [label for label in ends[tasks[0]] if all(label in of for of in ends.values())]
    lacking = sorted({curve.label for curve in curves} - set(whole))
    if lacking:
        print(f"not in the performance profile, as they did not run on every task: {printable('; '.join(lacking))}")
    scores = {label: {task: ends[task][label] / best[task] for task in tasks} for label in whole}
    for label, of in scores.items():
        middle = shown(float(interquartile_mean(np.concatenate(list(of.values())))), 3)
        print(printable(f"{label}: interquartile mean {middle} of the best group's, over all tasks and seeds"))
    return scores


def draw_profiles(axis: Any, scores: Mapping[str, Mapping[str, np.ndarray]], colors: Mapping[str, str], y: str) -> None:
    """Draw the share of runs above each fraction of the best group's; bands where every task has seeds enough."""
    thresholds = np.linspace(0.0, 1.2, 61)
    banded = False
    for label, of in scores.items():
        seeds = min(map(len, of.values()))
        level = expanded_level(0.95, seeds) if seeds >= FEWEST_FOR_BOOTSTRAP else 0.95
        profile = performance_profile(of, thresholds, level=level)
        axis.plot(thresholds, profile.fraction, color=colors[label])
        if seeds >= FEWEST_FOR_BOOTSTRAP:
            banded = True
            axis.fill_between(thresholds, profile.low, profile.high, color=colors[label], alpha=0.15, linewidth=0)
    title = "performance profile" + (", 95 % bootstrap" if banded else "")
    axis.set(title=title, xlabel=f"{y} / best group's mean", ylabel="share of runs above")


if __name__ == "__main__":
    sys.exit(main())
