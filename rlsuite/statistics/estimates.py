"""Honest figures from few runs: interquartile means, bootstrap intervals, profiles, win probabilities.

After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(arXiv:2108.13264); the section numbers below are that paper's.

Shapes: R runs (seeds), T tasks, K thresholds, B bootstrap resamples. A *statistic* is called with an array
(B, n) and ``axis=-1`` and returns (B,): `mean`, `interquartile_mean`, ``np.median``, ``np.std``, ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[..., Any]

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

    Percentile intervals are a little narrow for small samples (n = 10 normal values: about 90 % coverage at
    level 0.95); one value gives an interval of width zero.

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
    scores: ArrayLike,
    thresholds: ArrayLike,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Profile:
    """Return the fraction of runs with a score above each threshold, averaged over tasks (section 4.2).

    Args:
        scores: (R, T) finite scores.
        thresholds: (K,) score thresholds tau.
        level: of the pointwise stratified bootstrap bands, in (0, 1).
        resamples: bootstrap resamples B.
        seed: of the resampling.

    Raises:
        ValueError: an empty table, a score that is not finite, or an argument out of range.
    """
    table, taus = _table(scores), np.asarray(thresholds, dtype=np.float64).reshape(-1)
    fractions = []
    for chunk in _resamples(table, resamples, np.random.default_rng(seed)):
        ordered = np.sort(chunk.reshape(len(chunk), -1), axis=-1)
        fractions.append([1.0 - np.searchsorted(row, taus, side="right") / row.size for row in ordered])
    low, high = _percentiles(np.concatenate(fractions), level)
    return Profile((table[..., None] > taus).mean(axis=(0, 1)), low, high)


def probability_of_improvement(x: ArrayLike, y: ArrayLike) -> float:
    """Return P(X > Y): the chance that a run of x beats a run of y on a task drawn at random (section 4.3).

    The Mann-Whitney statistic of each task (ties count one half), averaged over tasks.

    Args:
        x: (R, T) finite scores of one algorithm.
        y: (S, T) finite scores of another on the same tasks.

    Raises:
        ValueError: the tables have different tasks, are empty or not finite.
    """
    first, second = _pair(x, y)
    return float(_win_rate(first[None], second[None])[0])


def probability_of_improvement_interval(
    x: ArrayLike,
    y: ArrayLike,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Return the stratified bootstrap interval of `probability_of_improvement`; runs of both are redrawn.

    Args:
        x: (R, T) finite scores of one algorithm.
        y: (S, T) finite scores of another on the same tasks.
        level: probability of covering the true value, in (0, 1).
        resamples: bootstrap resamples B.
        seed: of the resampling.

    Raises:
        ValueError: the tables have different tasks, are empty or not finite, or an argument is out of range.
    """
    first, second = _pair(x, y)
    generator = np.random.default_rng(seed)
    limit = max(len(first) * len(second) * first.shape[1], 1)
    drawn = zip(
        _resamples(first, resamples, generator, limit),
        _resamples(second, resamples, generator, limit),
        strict=True,
    )
    low, high = _percentiles(np.concatenate([_win_rate(one, two) for one, two in drawn]), level)
    return Interval(float(low), float(high))


def _win_rate(x: Floats, y: Floats) -> Floats:
    """(B, R, T), (B, S, T) -> (B,)."""
    above = x[:, :, None] > y[:, None]
    level = x[:, :, None] == y[:, None]
    return (above + 0.5 * level).mean(axis=(1, 2, 3))


def _resamples(table: Floats, resamples: int, generator: np.random.Generator, numbers: int = 0) -> Iterator[Floats]:
    """Yield (b, R, T) chunks, B resamples in all; `numbers` is what one resample costs in memory."""
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; it must be at least 1")
    runs, tasks = table.shape
    chunk = max(1, _CHUNK // max(numbers, table.size))
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


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    first, second = _table(x), _table(y)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"x has {first.shape[1]} tasks and y has {second.shape[1]}; compare the same tasks")
    return first, second
