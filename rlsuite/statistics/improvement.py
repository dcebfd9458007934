"""How likely a run of one algorithm beats a run of another: P(X > Y), its interval, and the exact p beside.

The probability is Agarwal et al.'s (2021, arXiv:2108.13264, section 4.3), averaged over tasks, each with the runs it
has. Its interval is not theirs: the bootstrap of few runs is too narrow (equal algorithms with 3 runs each look
different in a fifth of the cases), and of width zero where every run of one beats every run of the other.

Shapes: T tasks, R_t and S_t runs of the two algorithms on task t.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlsuite.statistics.estimates import Floats, Interval, Scores, samples_by_task

FINEST_LATTICE = 20_000  # steps from P = 0 to 1 on one task, where tasks differ in numbers of runs
FEWEST_RUNS = 4  # of either algorithm on a task: with 3 against 3 even the exact p cannot fall below 0.1


class Improvement(NamedTuple):
    """P(X > Y), its confidence interval, and the two-sided p of "X and Y are alike on every task"."""

    probability: float
    interval: Interval
    p_value: float


def improvement(x: Scores, y: Scores, level: float = 0.95) -> Improvement:
    """Return `probability_of_improvement` with its interval and `exact_p_value`.

    Raises:
        ValueError: see `probability_of_improvement`.
    """
    return Improvement(
        probability_of_improvement(x, y), probability_of_improvement_interval(x, y, level), exact_p_value(x, y)
    )


def probability_of_improvement(x: Scores, y: Scores) -> float:
    """Return P(X > Y): the chance that a run of x beats a run of y on a task drawn at random (section 4.3).

    The Mann-Whitney statistic of each task (ties count one half), averaged over tasks.

    Args:
        x: task -> (R_t,) finite scores of one algorithm; or a table (R, T) where every task has R runs.
        y: the same of another, (S_t,) or (S, T), on the same tasks.

    Raises:
        ValueError: the tasks differ, or scores are missing or not finite.
    """
    return float(np.mean([_win_rate(*pair) for pair in _pairs(x, y)]))


def probability_of_improvement_interval(x: Scores, y: Scores, level: float = 0.95) -> Interval:
    """Return the score interval of `probability_of_improvement`: every theta that the data do not speak against.

    These are the theta with |estimate - theta| <= z sqrt(V(theta)) + c. V is the Mann-Whitney statistic's variance for
    exponential scores (Hanley and McNeil 1982), with Newcombe's (2006, "Confidence intervals for an effect size measure
    based on the Mann-Whitney statistic, part 2", method 5) equal weight of both groups; at 1/2 it is the exact one. c
    corrects for continuity, so that the interval leaves 1/2 out about when the exact p is below 1 - level (Fay and
    Malinovsky 2018, Statistics in Medicine 37(27), ask for that).

    Args:
        x: see `probability_of_improvement`.
        y: see there.
        level: probability of covering the true value, in (0, 1).

    Raises:
        ValueError: see there, or a level out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie between 0 and 1, such as 0.95")
    pairs = _pairs(x, y)
    sizes = [(len(one), len(two)) for one, two in pairs]
    estimate = float(np.mean([_win_rate(*pair) for pair in pairs]))
    reach = NormalDist().inv_cdf((1 + level) / 2)
    step = 1 / (2 * len(sizes) * max(m * n for m, n in sizes))

    def fits(theta: float) -> bool:
        return abs(estimate - theta) <= reach * math.sqrt(_variance(theta, sizes)) + step

    return Interval(_edge(estimate, 0.0, fits), _edge(estimate, 1.0, fits))


def exact_p_value(x: Scores, y: Scores) -> float:
    """Return how often labels dealt at random within each task would look at least as different, both ways counted.

    The permutation distribution of `probability_of_improvement`, ties and all, by counting: no approximation. On one
    task without ties it is the exact two-sided p of Mann and Whitney (1947). Where tasks differ so much in numbers of
    runs that their steps have no common measure above 1 / FINEST_LATTICE, values are rounded to that, and what rounding
    may have moved counts as different: p is then never too small.

    Args:
        x: see `probability_of_improvement`.
        y: see there.

    Raises:
        ValueError: see there.
    """
    pairs = _pairs(x, y)
    finest = math.lcm(*(len(one) * len(two) for one, two in pairs))
    lattice, slack = (finest, 0) if finest <= FINEST_LATTICE else (FINEST_LATTICE, len(pairs))
    found, chances = 0, np.ones(1)  # of twice the statistic in steps of 1 / lattice, summed over tasks
    for one, two in pairs:
        doubled, counts = _null(one, two)
        places = np.rint(np.arange(len(counts)) * (lattice / (len(one) * len(two)))).astype(np.int64)
        found += int(places[doubled])
        chances = _convolve(chances, counts / counts.sum(), places)
    middle = lattice * len(pairs)
    distance = np.abs(np.arange(len(chances)) - middle)
    return min(1.0, float(chances[distance >= abs(found - middle) - slack].sum()))


def _null(one: Floats, two: Floats) -> tuple[int, Floats]:
    """Return twice the Mann-Whitney statistic, and how many choices of len(one) of all scores have each value of it."""
    scores = np.concatenate([one, two])
    # Twice the midrank, counted from 0: scores below count two, equal ones (itself apart) one.
    ranks = 2 * (scores[:, None] > scores).sum(axis=1) + (scores[:, None] == scores).sum(axis=1) - 1
    size, lowest = len(one), len(one) * (len(one) - 1)  # twice the statistic is the sum of ranks, less this
    counts = np.zeros((size + 1, int(np.sort(ranks)[-size:].sum()) + 1))
    counts[0, 0] = 1.0
    for rank in ranks.tolist():
        for chosen in range(size, 0, -1):
            counts[chosen, rank:] += counts[chosen - 1, : counts.shape[1] - rank]
    kept = np.zeros(2 * len(one) * len(two) + 1)
    row = counts[size, lowest:]
    kept[: len(row)] = row
    return int(ranks[:size].sum()) - lowest, kept


def _convolve(chances: Floats, added: Floats, places: NDArray[np.int64]) -> Floats:
    """Return the distribution of a sum, to which the i-th of `added` brings places[i]."""
    total = np.zeros(len(chances) + int(places[-1]))
    for place, chance in zip(places.tolist(), added.tolist(), strict=True):
        if chance:
            total[place : place + len(chances)] += chances * chance
    return total


def _win_rate(one: Floats, two: Floats) -> float:
    above, level = one[:, None] > two, one[:, None] == two
    return float((above + 0.5 * level).mean())


def _variance(theta: float, sizes: list[tuple[int, int]]) -> float:
    """Return the variance of the mean over tasks, were theta each one's probability."""
    spread = (1 - theta) / (2 - theta) + theta / (1 + theta)
    each = (theta * (1 - theta) * (1 + ((m + n) / 2 - 1) * spread) / (m * n) for m, n in sizes)
    return sum(each) / len(sizes) ** 2


def _edge(inside: float, outside: float, fits: Callable[[float], bool]) -> float:
    """Return, by bisection, where between them theta stops to fit."""
    if fits(outside):
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if fits(middle) else (inside, middle)
    return inside


def _pairs(x: Scores, y: Scores) -> list[tuple[Floats, Floats]]:
    """Return both algorithms' scores on each task."""
    first, second = samples_by_task(x), samples_by_task(y)
    if first.keys() != second.keys():
        raise ValueError(f"x has {_named(first)} and y has {_named(second)}; compare the same tasks")
    return [(first[task], second[task]) for task in first]


def _named(scores: dict[str, Floats]) -> str:
    return f"{len(scores)} tasks ({', '.join(scores)})"
