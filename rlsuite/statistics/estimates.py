"""Honest figures from few runs: interquartile means, bootstrap intervals, performance profiles.

After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(arXiv:2108.13264); the section numbers below are that paper's.

Shapes: R runs (seeds), T tasks, K thresholds, B bootstrap resamples. A *statistic* is called with an array
(B, n) and ``axis=-1`` and returns (B,): `mean`, `interquartile_mean`, ``np.median``, ``np.std``, ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[..., Any]
Scores = Mapping[str, ArrayLike] | ArrayLike  # task -> (runs,), or a table (runs, tasks)

_CHUNK = 1 << 22  # numbers held at once while resampling: 32 MiB


class Interval(NamedTuple):
    """A confidence interval, `low` <= `high`."""

    low: float
    high: float


class Profile(NamedTuple):
    """A performance profile: the fraction of runs above each threshold, with pointwise bands; each (K,)."""

    fraction: Floats
    low: Floats
    high: Floats


def mean(values: ArrayLike, axis: int = -1) -> Floats:
    """Return the mean over one axis: (..., n) -> (...)."""
    return np.asarray(values, dtype=np.float64).mean(axis=axis)


def interquartile_mean(values: ArrayLike, axis: int = -1) -> Floats:
    """Return the mean of the middle half over one axis: (..., n) -> (...).

    The lowest and the highest ``floor(n / 4)`` values are left out (a 25 % trimmed mean): less swayed by
    outliers than the mean, less wasteful than the median (section 4.3). For runs x tasks flatten the table
    first: ``interquartile_mean(scores.reshape(-1))``.
    """
    ordered = np.sort(np.moveaxis(np.asarray(values, dtype=np.float64), axis, -1), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def bootstrap_interval(
    values: ArrayLike,
    statistic: Statistic = mean,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return the percentile bootstrap interval of a statistic of one sample.

    Percentile intervals are too narrow for small samples (at level 0.95 they cover 0.51, 0.74, 0.85 and 0.90 of
    samples of 2, 3, 5 and 10 normal values); one value gives an interval of width zero. For a mean take
    `rlsuite.statistics.means.mean_interval`.

    Args:
        values: (n,) independent finite values, such as the returns of n episodes.
        statistic: called with (B, n) and ``axis=-1``.
        level: probability of covering the true value, in (0, 1).
        resamples: bootstrap resamples B.
        seed: of the resampling; the same seed gives the same interval.

    Raises:
        ValueError: no values, a value that is not finite, or an argument out of range.
    """
    return stratified_bootstrap_interval(_sample(values), statistic, level, resamples, seed)


def stratified_bootstrap_interval(
    scores: ArrayLike,
    statistic: Statistic = interquartile_mean,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Return the stratified percentile bootstrap interval of a statistic over runs x tasks (section 4.1).

    Each resample draws R runs with replacement in every task independently, so that every task keeps its
    weight; the statistic is taken over the R * T drawn scores.

    Args:
        scores: (R, T) finite scores, normalized so that tasks are comparable.
        statistic: called with (B, R * T) and ``axis=-1``.
        level: probability of covering the true value, in (0, 1).
        resamples: bootstrap resamples B.
        seed: of the resampling.

    Raises:
        ValueError: an empty table, a score that is not finite, or an argument out of range.
    """
    table = _table(scores)
    drawn = _resamples(table, resamples, np.random.default_rng(seed))
    estimates = np.concatenate([statistic(chunk.reshape(len(chunk), -1), axis=-1) for chunk in drawn])
    low, high = _percentiles(estimates, level)
    return Interval(float(low), float(high))


def performance_profile(
    scores: Scores,
    thresholds: ArrayLike,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Profile:
    """Return the fraction of runs with a score above each threshold, averaged over tasks (section 4.2).

    Args:
        scores: task -> (runs,) finite scores, each task with the runs it has; or a table (R, T).
        thresholds: (K,) score thresholds tau.
        level: of the pointwise stratified bootstrap bands, in (0, 1).
        resamples: bootstrap resamples B.
        seed: of the resampling.

    Raises:
        ValueError: no scores, a score that is not finite, or an argument out of range.
    """
    taus, generator = np.asarray(thresholds, dtype=np.float64).reshape(-1), np.random.default_rng(seed)
    fraction, drawn = np.zeros(len(taus)), np.zeros((resamples, len(taus)))
    samples = samples_by_task(scores)
    for sample in samples.values():
        fraction += (sample[:, None] > taus).mean(axis=0) / len(samples)
        above = [
            1.0 - np.searchsorted(row, taus, side="right") / row.size
            for chunk in _resamples(sample[:, None], resamples, generator)
            for row in np.sort(chunk[..., 0], axis=-1)
        ]
        drawn += np.array(above) / len(samples)
    low, high = _percentiles(drawn, level)
    return Profile(fraction, low, high)


def samples_by_task(scores: Scores) -> dict[str, Floats]:
    """Return task -> (runs,) of scores in either form.

    Raises:
        ValueError: no task, a task without scores, or a score that is not finite.
    """
    if isinstance(scores, Mapping):
        samples = {task: np.asarray(values, dtype=np.float64) for task, values in scores.items()}
    else:
        table = np.asarray(scores, dtype=np.float64)
        if table.ndim != 2:
            raise ValueError(f"scores have shape {table.shape}; they must be (runs, tasks), or task -> (runs,)")
        samples = {str(task): column for task, column in enumerate(table.T)}
    for task, sample in samples.items():
        if sample.ndim != 1 or not sample.size or not np.isfinite(sample).all():
            raise ValueError(f"the scores of task {task} are {sample}; use (runs,), one or more and all finite")
    if not samples:
        raise ValueError("there is no task to compare on")
    return samples


def _resamples(table: Floats, resamples: int, generator: np.random.Generator) -> Iterator[Floats]:
    """Yield (b, R, T) chunks, B resamples in all."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; it must be at least 1")
    runs, tasks = table.shape
    chunk = max(1, _CHUNK // table.size)
    for start in range(0, resamples, chunk):
        rows = generator.integers(runs, size=(min(chunk, resamples - start), runs, tasks))
        yield np.take_along_axis(table[None], rows, axis=1)


def _percentiles(estimates: Floats, level: float) -> Floats:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1, such as 0.95")
    return np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2], axis=0)


def _sample(values: ArrayLike) -> Floats:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1:
        raise ValueError(f"values have shape {sample.shape}; a sample is (n,)")
    return sample[:, None]


def _table(scores: ArrayLike) -> Floats:
    table = np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"scores have shape {table.shape}; they must be (runs, tasks) with at least one run")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(f"score of run {row}, task {column} is not finite: leave that run out or score it")
    return table
