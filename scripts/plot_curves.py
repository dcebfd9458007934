"""Plot learning curves of many runs: ``python scripts/plot_curves.py runs=runs output=curves.png``.

For each task: the interquartile mean over seeds with its 95 % bootstrap band. With several tasks also performance
profiles of the last evaluations, each task's returns divided by the best group's. by= groups runs, such as
by=agent.name,agent.num_pairs. The figures go beside the picture as JSON, raw returns included; a table is printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlsuite.cli import run_script
from rlsuite.compose import script_config
from rlsuite.curves import Curve, find_runs, make_curves, read_run, to_records
from rlsuite.errors import UserError, require
from rlsuite.help import describe
from rlsuite.statistics import performance_profile


@dataclass(frozen=True, kw_only=True)
class PlotConfig:
    """What is plotted.

    Attributes:
        runs: run directories, or directories with runs below them.
        output: the picture; .png, .svg or .pdf.
        by: config keys that make the groups.
    """

    runs: tuple[str, ...] = ("runs",)
    output: str = "curves.png"
    by: tuple[str, ...] = ("agent.name",)

    def __post_init__(self) -> None:
        suffix = Path(self.output).suffix
        require(suffix in (".png", ".svg", ".pdf"), f"output={self.output}: use a name ending in .png, .svg or .pdf")


def main(arguments: list[str]) -> int:
    """Read, plot, write."""
    if "--help" in arguments or "-h" in arguments:
        print("\n".join([__doc__ or "", *describe(PlotConfig)]))
        return 0
    script = script_config(PlotConfig, arguments)
    curves = make_curves([read_run(path) for path in find_runs(script.runs)], script.by)
    for curve in curves:
        seeds, last = len(curve.returns), curve.steps[-1]
        band = f"[{curve.low[-1]:.0f}, {curve.high[-1]:.0f}]"
        print(f"{curve.task:24} {curve.label:32} {last:>10,} steps  {seeds} seeds  {curve.center[-1]:>8.0f} {band}")
    output = Path(script.output)
    draw(curves, output)
    output.with_suffix(".json").write_text(json.dumps(to_records(curves), indent=1) + "\n")
    print(f"{output} and {output.with_suffix('.json')}")
    return 0


def draw(curves: Sequence[Curve], output: Path) -> None:
    """Draw a panel for each task, and one of performance profiles where there are several."""
    try:
        import matplotlib
    except ImportError:
        raise UserError("matplotlib is not installed; run: pip install -e '.[plots]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = sorted({curve.task for curve in curves})
    labels = sorted({curve.label for curve in curves})
    colors = {label: f"C{place % 10}" for place, label in enumerate(labels)}
    panels = len(tasks) + (len(tasks) > 1)
    figure, axes = pyplot.subplots(1, panels, figsize=(4.5 * panels, 3.6), squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=False):
        for curve in (curve for curve in curves if curve.task == task):
            color = colors[curve.label]
            axis.plot(curve.steps, curve.center, color=color, label=curve.label)
            axis.fill_between(curve.steps, curve.low, curve.high, color=color, alpha=0.2, linewidth=0)
        axis.set(title=task, xlabel="environment steps", ylabel="return, interquartile mean")
    if len(tasks) > 1:
        draw_profiles(axes[0][-1], curves, colors)
    # One legend below all panels: long labels would hide the curves.
    handles = [pyplot.Line2D([], [], color=colors[label], label=label) for label in labels]
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), fontsize=8, frameon=False)
    figure.tight_layout()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=120, bbox_inches="tight")
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}); choose another output=") from None
    pyplot.close(figure)


def draw_profiles(axis: Any, curves: Sequence[Curve], colors: dict[str, str]) -> None:
    """Draw, for groups that ran on every task, the share of runs above each fraction of the best return."""
    tasks = sorted({curve.task for curve in curves})
    best = {task: max(curve.center[-1] for curve in curves if curve.task == task) for task in tasks}
    thresholds = np.linspace(0.0, 1.2, 61)
    for label, color in colors.items():
        mine = {curve.task: curve for curve in curves if curve.label == label}
        if set(mine) != set(tasks) or min(best.values()) <= 0:
            continue
        seeds = min(len(curve.returns) for curve in mine.values())
        scores = np.stack([mine[task].returns[:seeds, -1] / best[task] for task in tasks], axis=1)
        profile = performance_profile(scores, thresholds)
        axis.plot(thresholds, profile.fraction, color=color, label=label)
        axis.fill_between(thresholds, profile.low, profile.high, color=color, alpha=0.2, linewidth=0)
    axis.set(title="performance profile", xlabel="return / best group's", ylabel="share of runs above")


if __name__ == "__main__":
    sys.exit(run_script(main))
