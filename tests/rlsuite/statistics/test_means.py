"""Intervals of means by hand and against SciPy; numbers for files."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlsuite.statistics.digits import shown, significant
from rlsuite.statistics.means import BOOTSTRAP, NONE, STUDENT, expanded_level, mean_interval, student_quantile


def test_interval_of_few_values_is_students_by_hand():
    # t of 2 degrees of freedom is 4.3027; the standard error of 1, 2, 3 is 1 / sqrt(3).
    low, high, kind = mean_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    assert kind == STUDENT
    assert mean_interval([5.0, 5.0])[:2] == (5.0, 5.0)


def test_interval_of_one_value_is_none():
    low, high, kind = mean_interval([2.5])
    assert math.isnan(low)
    assert math.isnan(high)
    assert kind == NONE


def test_interval_of_ten_values_is_an_expanded_bootstrap():
    values = np.random.default_rng(0).normal(size=10)
    low, high, kind = mean_interval(values)
    assert kind == BOOTSTRAP
    half = student_quantile(0.95, 9) * values.std(ddof=1) / math.sqrt(10)
    assert high - low == pytest.approx(2 * half, rel=0.06)  # as wide as Student's, but it may lean to a side
    # sqrt(10 / 9) 2.2622 = 2.3845 deviations of a normal.
    assert expanded_level(0.95, 10) == pytest.approx(math.erf(2.38453 / math.sqrt(2)), abs=1e-5)


@pytest.mark.parametrize(("level", "freedom", "expected"), [(0.95, 1, 12.7062), (0.95, 4, 2.7764), (0.9, 9, 1.8331)])
def test_interval_quantiles_of_students_tables(level, freedom, expected):
    assert student_quantile(level, freedom) == pytest.approx(expected, abs=1e-4)


def test_interval_quantiles_are_scipys():
    stats = pytest.importorskip("scipy.stats")
    for freedom in (*range(1, 30), 99, 1000):
        for level in (0.5, 0.8, 0.95, 0.999):
            assert student_quantile(level, freedom) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-8)


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        ([], 0.95, "shape"),
        ([1.0, math.nan], 0.95, "not finite"),
        ([[1.0, 2.0]], 0.95, "a sample"),
        ([1.0], 95, "level"),
    ],
)
def test_interval_refuses_what_is_no_sample(values, level, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(values, level)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_significant_digits_stay_and_rounding_twice_changes_nothing(value):
    assert significant(value) == pytest.approx(value, rel=1e-8)
    assert significant(significant(value)) == significant(value)


def test_digits_by_hand():
    assert significant(1e-5) == 1e-5
    assert significant(123456.7891234) == 123456.789
    assert [shown(value) for value in (0.0, 2.5, 9332.42, -0.0123, 1e-5)] == [
        "0.0",
        "2.5",
        "9332.4",
        "-0.0123",
        "1e-05",
    ]
    assert shown(0.98, 3) == "0.980"
