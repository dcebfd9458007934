"""Statistics against figures worked out by hand, and intervals against a known distribution."""

import numpy as np
import pytest

from rlsuite.statistics.estimates import (
    bootstrap_interval,
    interquartile_mean,
    mean,
    performance_profile,
    stratified_bootstrap_interval,
)


def test_interquartile_mean_by_hand():
    assert interquartile_mean(np.array([100.0, 1, 2, 3, 4, 5, 6, -100])) == 3.5  # 2, 3, 4, 5 are left
    assert interquartile_mean(np.array([9.0, 1, 2, 3, -9])) == 2.0  # one off at each end
    assert interquartile_mean(np.array([1.0, 2, 30])) == 11.0  # too few to cut
    table = np.array([[0.0, 1, 2, 9], [4, 4, 8, 0]])
    np.testing.assert_array_equal(interquartile_mean(table), [1.5, 4.0])
    assert interquartile_mean(table.reshape(-1)) == np.mean([1, 2, 4, 4])


def test_numpy_functions_are_statistics():
    values = np.random.default_rng(0).normal(size=15)
    assert bootstrap_interval(values, np.mean) == bootstrap_interval(values, mean)
    assert bootstrap_interval([1.0, 2.0, 2.0, 2.0, 9.0], np.median) == (1.0, 9.0)


def test_mean_reduces_one_axis():
    np.testing.assert_array_equal(interquartile_mean(np.array([[1.0, 2], [3, 5]]), axis=0), [2.0, 3.5])
    np.testing.assert_array_equal(mean(np.array([[1.0, 2], [3, 5]])), [1.5, 4.0])


def test_interval_of_two_values_by_hand():
    # Resampled means of {0, 1}: 0 with 1/4, 0.5 with 1/2, 1 with 1/4.
    assert bootstrap_interval([0.0, 1.0], level=0.95) == (0.0, 1.0)
    assert bootstrap_interval([0.0, 1.0], level=0.40) == (0.5, 0.5)


def test_interval_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(10.0, 3.0, size=2_000)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / np.sqrt(values.size)
    assert low == pytest.approx(values.mean() - half, abs=0.01)
    assert high == pytest.approx(values.mean() + half, abs=0.01)


def test_seed_fixes_the_interval():
    values = np.random.default_rng(1).normal(size=12)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_one_value_and_equal_values_have_no_width():
    assert bootstrap_interval([2.5]) == (2.5, 2.5)
    assert stratified_bootstrap_interval(np.full((4, 3), 0.25)) == (0.25, 0.25)


@pytest.mark.parametrize("statistic", [mean, interquartile_mean])
def test_coverage_on_a_known_distribution(statistic):
    generator = np.random.default_rng(5)
    hits = 0
    for trial in range(400):  # symmetric around 7: mean and interquartile mean are both 7
        low, high = bootstrap_interval(generator.normal(7.0, 2.0, 30), statistic, resamples=500, seed=trial)
        hits += low <= 7.0 <= high
    assert 0.90 <= hits / 400 <= 0.98


def test_stratified_coverage_with_tasks_of_different_height():
    generator = np.random.default_rng(6)
    centres = np.array([0.0, 50.0, 100.0, 150.0])
    hits, widths = 0, []
    for trial in range(300):
        low, high = stratified_bootstrap_interval(
            centres + generator.normal(size=(20, 4)), mean, resamples=400, seed=trial
        )
        hits += low <= 75.0 <= high
        widths.append(high - low)
    assert 0.90 <= hits / 300 <= 0.98
    # The spread between tasks is no uncertainty: 2 * 1.96 / sqrt(80), not dozens.
    assert np.mean(widths) == pytest.approx(2 * 1.96 / np.sqrt(80), rel=0.1)


def test_tasks_are_resampled_independently():
    first = np.random.default_rng(9).normal(size=20)
    low, high = stratified_bootstrap_interval(np.stack([first, -first], axis=1), mean)
    assert high - low == pytest.approx(2 * 1.96 * first.std() / np.sqrt(40), rel=0.1)  # not zero


def test_large_tables_are_resampled_in_chunks():
    scores = np.random.default_rng(2).normal(size=(600, 40))
    low, high = stratified_bootstrap_interval(scores, mean, resamples=400)
    assert low < scores.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(scores.size), rel=0.2)


def test_performance_profile_by_hand():
    scores = [[0.0, 1.0], [0.5, 2.0]]
    profile = performance_profile(scores, [-1.0, 0.0, 0.5, 1.5, 2.0])
    np.testing.assert_array_equal(profile.fraction, [1.0, 0.75, 0.5, 0.25, 0.0])  # strictly above
    assert profile.low.shape == profile.high.shape == (5,)
    assert (profile.low <= profile.fraction).all()
    assert (profile.fraction <= profile.high).all()
    assert (profile.low[0], profile.high[0], profile.high[-1]) == (1.0, 1.0, 0.0)


def test_a_profile_takes_each_task_with_the_runs_it_has_by_hand():
    profile = performance_profile({"a": [0.0, 1.0, 1.0, 1.0], "b": [0.0, 1.0]}, [0.5])
    assert profile.fraction.tolist() == [0.5 * (0.75 + 0.5)]


def test_profile_bands_are_binomial():
    scores = np.random.default_rng(3).uniform(size=(100, 1))
    profile = performance_profile(scores, [0.5], resamples=4_000)
    half = 1.96 * np.sqrt(profile.fraction * (1 - profile.fraction) / 100)
    assert profile.low == pytest.approx(profile.fraction - half, abs=0.02)
    assert profile.high == pytest.approx(profile.fraction + half, abs=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval([]), "shape"),
        (lambda: bootstrap_interval([[1.0, 2.0]]), "a sample is"),
        (lambda: bootstrap_interval([1.0, float("nan")]), "not finite"),
        (lambda: bootstrap_interval([1.0], level=95), "between 0 and 1"),
        (lambda: bootstrap_interval([1.0], resamples=0), "at least 1"),
        (lambda: stratified_bootstrap_interval([1.0, 2.0]), r"\(runs, tasks\)"),
        (lambda: stratified_bootstrap_interval([[1.0, 2.0], [3.0, np.inf]]), "run 1, task 1"),
        (lambda: performance_profile({"a": [1.0], "b": []}, [0.5]), "scores of task b"),
        (lambda: performance_profile([1.0], [0.5]), r"\(runs, tasks\)"),
        (lambda: performance_profile({}, [0.5]), "no task"),
    ],
)
def test_wrong_use(call, message):
    with pytest.raises(ValueError, match=message):
        call()
