"""The mean of few runs or episodes with an interval that covers what its label says.

The percentile bootstrap's "95 %" covers 0.51, 0.74 and 0.85 of normal samples of 2, 3 and 5. So below
`FEWEST_FOR_BOOTSTRAP` values the interval is Student's t, which is exact for normal values (Patterson et al. 2024,
"Empirical Design in Reinforcement Learning", arXiv:2304.01315), and above it the bootstrap's at an expanded level
(Hesterberg 2015, "What Teachers Should Know About the Bootstrap", arXiv:1411.5279). docs/statistics.md says more.

Shapes: n values.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rlsuite.statistics.estimates import bootstrap_interval, mean

FEWEST_FOR_BOOTSTRAP = 10
STUDENT, BOOTSTRAP, NONE = "Student's t", "bootstrap", "no interval of one value"


class MeanInterval(NamedTuple):
    """A confidence interval of a mean, and by which method: STUDENT, BOOTSTRAP, or NONE with both ends NaN."""

    low: float
    high: float
    kind: str

    @property
    def ends(self) -> list[float | None]:
        """Low and high, for JSON; None twice where there is no interval."""
        return [None, None] if self.kind == NONE else [self.low, self.high]


def mean_interval(values: ArrayLike, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> MeanInterval:
    """Return the interval of the mean of one sample, by the method that its size asks for.

    Args:
        values: (n,) independent finite values: one number of each run (seed), or the returns of episodes.
        level: probability of covering the true mean, in (0, 1).
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: no values, a value that is not finite, or an argument out of range.
    """
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) >= FEWEST_FOR_BOOTSTRAP:
        low, high = bootstrap_interval(sample, mean, expanded_level(level, len(sample)), resamples, seed)
        return MeanInterval(low, high, BOOTSTRAP)
    bootstrap_interval(sample, mean, level, 1)  # refuses what is no sample
    if len(sample) == 1:
        return MeanInterval(math.nan, math.nan, NONE)
    half = student_quantile(level, len(sample) - 1) * sample.std(ddof=1) / math.sqrt(len(sample))
    return MeanInterval(float(sample.mean() - half), float(sample.mean() + half), STUDENT)


def expanded_level(level: float, size: int) -> float:
    """Return the level at which a percentile bootstrap of `size` values is as wide as Student's t would have it.

    A bootstrap's spread is sqrt((n - 1) / n) of the sample's, and its percentiles are the normal's (Hesterberg 2015,
    ).
    """
    reach = math.sqrt(size / (size - 1)) * student_quantile(level, size - 1)
    return math.erf(reach / math.sqrt(2.0))


def student_quantile(level: float, freedom: int) -> float:
    """Return t with P(-t < T < t) = level, T of Student's distribution with whole degrees of freedom.

    By bisection of the closed form in the angle atan(t / sqrt(freedom)) (Abramowitz and Stegun 1964, 26.7.3 and 4).

    Raises:
        ValueError: a level outside (0, 1), or less than one degree of freedom.
    """
    if not 0 < level < 1 or freedom < 1:
        raise ValueError(f"level={level} with {freedom} degrees of freedom; use a level in (0, 1) and 1 or more")
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_mass(middle, freedom) < level else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _student_mass(angle: float, freedom: int) -> float:
    odd = freedom % 2
    term = math.sin(angle) * (math.cos(angle) if odd else 1.0)
    total = term if freedom > 1 else 0.0
    for power in range(2 + odd, freedom - 1, 2):
        term *= math.cos(angle) ** 2 * (power - 1) / power
        total += term
    return 2.0 / math.pi * (angle + total) if odd else total
