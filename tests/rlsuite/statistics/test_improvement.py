"""P(X > Y) by hand, its interval by brute force, its p against enumeration and SciPy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsuite.statistics.improvement import (
    exact_p_value,
    improvement,
    probability_of_improvement,
    probability_of_improvement_interval,
)


def test_improvement_by_hand():
    assert probability_of_improvement([[3.0], [1.0]], [[2.0]]) == 0.5
    assert probability_of_improvement([[2.0]], [[2.0]]) == 0.5
    assert probability_of_improvement([[3.0, 0.0]], [[1.0, 1.0], [2.0, 0.0]]) == 0.5 * (1.0 + 0.25)
    x, y = np.random.default_rng(4).normal(size=(2, 5, 3))
    assert probability_of_improvement(x, y) == pytest.approx(1 - probability_of_improvement(y, x))


def test_improvement_counts_each_task_with_all_of_its_runs():
    # Cut to the shortest task's single run this would be 0.25.
    x = {"a": [0.0, 3.0, 3.0], "b": [1.0]}
    y = {"a": [1.0, 2.0, 2.0], "b": [0.0, 2.0, 2.0]}
    assert probability_of_improvement(x, y) == pytest.approx(0.5 * (2 / 3 + 1 / 3))
    shuffled = {"b": y["b"], "a": y["a"][::-1]}
    assert improvement(x, shuffled) == improvement(x, y)


def test_improvement_interval_by_brute_force():
    x, y = np.random.default_rng(0).normal(0.5, 1.0, (6, 1)), np.random.default_rng(1).normal(size=(5, 1))
    estimate = probability_of_improvement(x, y)
    theta = np.linspace(0.0, 1.0, 200_001)
    spread = (1 - theta) / (2 - theta) + theta / (1 + theta)
    deviation = np.sqrt(theta * (1 - theta) * (1 + (5.5 - 1) * spread) / 30)
    inside = theta[np.abs(estimate - theta) <= 1.959964 * deviation + 1 / 60]
    assert probability_of_improvement_interval(x, y) == pytest.approx((inside[0], inside[-1]), abs=1e-5)


def test_improvement_interval_at_one_half_has_the_exact_variance():
    # (m + n + 1) / (12 m n) at m = n = 4: the interval of P = 1/2 ends where 1.96 of its own deviations begin.
    x, y = [[0.0], [0.0], [1.0], [1.0]], [[0.0], [0.0], [1.0], [1.0]]
    low, high = probability_of_improvement_interval(x, y)
    assert low == pytest.approx(1 - high)
    sure = probability_of_improvement_interval([[9.0]] * 4, [[0.0]] * 4)
    assert sure.high == 1.0
    assert 0.5 < sure.low < 0.6  # four wins of four: hardly sure


def test_improvement_interval_of_many_runs_covers():
    generator = np.random.default_rng(8)
    x, y = generator.normal(1.0, 1.0, (40, 2)), generator.normal(0.0, 1.0, (50, 2))
    low, high = probability_of_improvement_interval(x, y)
    assert low < 0.7602 < high  # P(N(1, 2) > 0)
    assert low < probability_of_improvement(x, y) < high
    assert 0.1 < high - low < 0.25


def by_enumeration(x, y):
    """Deal the labels of every task in every way; count how often P differs at least as much."""
    deals = []
    for task in x:
        scores = np.concatenate([x[task], y[task]])
        chosen = itertools.combinations(range(len(scores)), len(x[task]))
        deals.append([(scores[list(one)], np.delete(scores, one)) for one in chosen])
    distance = abs(probability_of_improvement(x, y) - 0.5)
    found = [
        abs(probability_of_improvement(dict(enumerate(map(first, deal))), dict(enumerate(map(second, deal)))) - 0.5)
        for deal in itertools.product(*deals)
    ]
    return np.mean(np.array(found) >= distance - 1e-9)


def first(pair):
    return pair[0]


def second(pair):
    return pair[1]


scores = st.lists(st.integers(0, 4).map(float), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=2))
def test_improvements_p_value_is_that_of_enumeration_ties_and_all(tasks):
    x, y = ({str(place): pair[side] for place, pair in enumerate(tasks)} for side in (0, 1))
    assert exact_p_value(x, y) == pytest.approx(by_enumeration(x, y))


def test_improvements_p_value_by_hand_and_by_scipy():
    assert exact_p_value([[9.0]] * 4, [[0.0]] * 4) == pytest.approx(2 / 70)  # two of 8 over 4 ways
    stats = pytest.importorskip("scipy.stats")
    for sizes in itertools.product((1, 3, 5, 8), repeat=2):
        x, y = (np.random.default_rng(size).normal(size=size) for size in sizes)
        expected = stats.mannwhitneyu(x, y + 0.3, method="exact").pvalue
        assert exact_p_value({"a": x}, {"a": y + 0.3}) == pytest.approx(expected)


def test_improvements_p_value_on_tasks_without_a_common_measure_is_never_too_small(monkeypatch):
    generator = np.random.default_rng(0)
    x = {str(task): generator.normal(0.7, 1.0, 3 + task) for task in range(4)}
    y = {str(task): generator.normal(0.0, 1.0, 4 + 2 * task) for task in range(4)}
    exact = exact_p_value(x, y)
    monkeypatch.setattr("rlsuite.statistics.improvement.FINEST_LATTICE", 500)
    assert exact <= exact_p_value(x, y) <= exact + 0.02


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([[1.0]], [[1.0, 2.0]], "same tasks"),
        ({"a": [1.0]}, {"b": [1.0]}, "same tasks"),
        ({"a": [float("nan")]}, {"a": [1.0]}, "task a"),
        ({"a": [1.0]}, {"a": []}, "task a"),
        ({}, {}, "no task"),
        ([1.0], [1.0], "shape"),
    ],
)
def test_improvement_refuses_what_cannot_be_compared(x, y, message):
    with pytest.raises(ValueError, match=message):
        improvement(x, y)
