"""Learning curves of many runs: grouped by task and label, a value for each seed, on common steps, with bands.

Shapes: R seeds of a group, S evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rlsuite.errors import UserError
from rlsuite.statistics.estimates import interquartile_mean, stratified_bootstrap_interval
from rlsuite.statistics.means import BOOTSTRAP, FEWEST_FOR_BOOTSTRAP, MeanInterval, expanded_level, mean_interval
from rlsuite.statistics.runs import BOUNDS, Run


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A group's curve on one task.

    Attributes:
        label: the group.
        task: the environment.
        steps: (S,) at which every run of the group was evaluated, or, `interpolated`, the run with fewest evaluations.
        minutes: (S,) mean wall clock of the runs' training up to there.
        seeds: the R distinct seeds; a run without one counts as a seed of its own.
        returns: (R, S) of each seed: mean returns, or what else of METRICS was asked for. Runs of one seed are no
            independent runs: they are averaged.
        center: (S,) mean over seeds; of FEWEST_FOR_BOOTSTRAP seeds or more the interquartile mean.
        low: (S,) lower end of the 95 % band around it: of the mean by Student's t, of the interquartile mean by the
            bootstrap; NaN for one seed.
        high: (S,) upper end.
        kind: how the band was made, as in `MeanInterval`.
        bounds: between which values can lie; intervals are cut off there.
        interpolated: whether values between two evaluations are on the line between them; see `steps_of`.
    """

    label: str
    task: str
    steps: np.ndarray
    minutes: np.ndarray
    seeds: tuple[int | str, ...]
    returns: np.ndarray
    center: np.ndarray
    low: np.ndarray
    high: np.ndarray
    kind: str
    bounds: tuple[float, float] = (-math.inf, math.inf)
    interpolated: bool = False

    @property
    def last_mean(self) -> float:
        """The mean over seeds of the last evaluation."""
        return float(self.returns[:, -1].mean())

    @property
    def last_interval(self) -> MeanInterval:
        """The 95 % interval of `last_mean`."""
        low, high, kind = mean_interval(self.returns[:, -1])
        return MeanInterval(float(np.clip(low, *self.bounds)), float(np.clip(high, *self.bounds)), kind)

    @property
    def last_middle(self) -> float:
        """The interquartile mean over seeds of the last evaluation."""
        return float(interquartile_mean(self.returns[:, -1]))

    def at(self, step: int) -> np.ndarray:
        """Return the value (R,) of each seed at one of `steps`."""
        return self.returns[:, np.searchsorted(self.steps, step)]


def make_curves(runs: Sequence[Run], metric: str = "return") -> list[Curve]:
    """Group runs by task and label, and put each group on the steps of its runs, as `steps_of` has it.

    Args:
        runs: the runs.
        metric: a key of METRICS.

    Returns:
        A curve for each group whose runs share steps; `left_out` tells what they lack.

    Raises:
        UserError: if no group's runs share steps, or a run has no such metric.
    """
    found = grouped(runs)
    curves = [
        _curve(label, task, members, metric) for (task, label), members in sorted(found.items()) if steps_of(members)[0]
    ]
    if not curves:
        raise UserError("; ".join(left_out(runs)))
    return curves


def grouped(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """Return the runs by task and label."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.task, run.label), []).append(run)
    return groups


def by_seed(runs: Sequence[Run]) -> dict[int | str, list[Run]]:
    """Return the runs by seed; a run without one stands alone under its name."""
    seeds: dict[int | str, list[Run]] = {}
    for run in runs:
        seeds.setdefault(run.name if run.seed is None else run.seed, []).append(run)
    return seeds


def common_steps(runs: Sequence[Run]) -> list[int]:
    """Return the steps that all of the runs were evaluated at."""
    return sorted(set(runs[0].steps.tolist()).intersection(*(run.steps.tolist() for run in runs)))


def steps_of(runs: Sequence[Run]) -> tuple[list[int], bool]:
    """Return the steps that a group is drawn at, and whether values have to be interpolated for it.

    They are those that all runs were evaluated at. Where these are less than half of what the run with fewest
    evaluations has in the stretch that all cover, they are that run's steps there.
    """
    common = common_steps(runs)
    first, last = max(int(run.steps[0]) for run in runs), min(int(run.steps[-1]) for run in runs)
    fewest = min(([step for step in run.steps.tolist() if first <= step <= last] for run in runs), key=len)
    if 2 * len(common) >= len(fewest):
        return common, False
    return fewest, True


def left_out(runs: Sequence[Run]) -> list[str]:
    """Return a line for each thing about a group's runs that its curve cannot show, naming the runs."""
    lines = []
    for (task, label), members in sorted(grouped(runs).items()):
        (common, between), ends = steps_of(members), [int(run.steps[-1]) for run in members]
        if between:
            lines.append(f"{label} on {task}: runs were evaluated at different steps; values between are interpolated")
        if not common:
            steps = ", ".join(f"{run.name} (to {end:,})" for run, end in zip(members, ends, strict=True))
            lines.append(f"{label} on {task} is left out: no step is common to the evaluations of {steps}")
        elif common[-1] < max(ends):
            short = [run.name for run in members if common[-1] == run.steps[-1]] or [run.name for run in members]
            lines.append(f"{label} on {task} is drawn to step {common[-1]:,} of {max(ends):,}, for {', '.join(short)}")
        seeds = by_seed(members)
        if len(seeds) < len(members):
            twice = ", ".join(run.name for same in seeds.values() if len(same) > 1 for run in same)
            lines.append(f"{label} on {task}: {len(members)} runs of {len(seeds)} seeds; averaged into one are {twice}")
        failed = [(run.name, int(run.spread["failed"].sum())) for run in members if "failed" in run.spread]
        if failed:
            where = ", ".join(f"{number} of {name}" for name, number in failed)
            lines.append(f"{label} on {task}: evaluation episodes whose simulation failed are in no mean: {where}")
        unmeasured = ", ".join(f"{run.unmeasured} of {run.name}" for run in members if run.unmeasured)
        if unmeasured:
            lines.append(f"{label} on {task}: evaluations without a whole episode are not drawn: {unmeasured}")
    return lines


def _curve(label: str, task: str, runs: list[Run], metric: str) -> Curve:
    drawn, interpolated = steps_of(runs)
    steps, seeds = np.array(drawn), by_seed(runs)

    def of_seeds(value: Callable[[Run], np.ndarray]) -> np.ndarray:
        at = [[np.interp(steps, run.steps, value(run)) for run in same] for same in seeds.values()]
        return np.array([np.mean(rows, axis=0) for rows in at])

    returns, bounds = of_seeds(lambda run: run.metric(metric)), BOUNDS.get(metric, (-math.inf, math.inf))
    if len(seeds) >= FEWEST_FOR_BOOTSTRAP:
        level, kind, center = expanded_level(0.95, len(seeds)), BOOTSTRAP, interquartile_mean(returns.T)
        bands = [stratified_bootstrap_interval(column[:, None], level=level) for column in returns.T]
    else:
        bands = [mean_interval(column) for column in returns.T]
        kind, center = bands[0].kind, returns.mean(axis=0)
    return Curve(
        label=label,
        task=task,
        steps=steps,
        minutes=of_seeds(lambda run: run.seconds).mean(axis=0) / 60,
        seeds=tuple(seeds),
        returns=returns,
        center=center,
        low=np.clip([band.low for band in bands], *bounds),
        high=np.clip([band.high for band in bands], *bounds),
        kind=kind,
        bounds=bounds,
        interpolated=interpolated,
    )
