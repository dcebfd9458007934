"""Whole columns of steps are taken only where a look at each environment's would say the same."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.adapters.values import (
    checked_step,
    info_columns,
    observation_of,
    plain_observations,
    plain_steps,
)

PLAIN = (True, True, 1.5, np.float32(0.1), np.float64(-2.0), 3, np.int64(4), math.nan, math.inf)
ODD = (np.array([1.0]), np.array([1.0, 2.0]), 10**400, None, "1", b"1", 1j, [1.0], np.array(2.0), np.str_("2"))
OBSERVATIONS = (
    np.zeros(2),
    np.ones(2, np.float32),
    np.array([1, 2]),
    np.array([True, False]),
    np.array([0, 255], np.uint8),
    [0.0, 1.0],
    (1, 2),
    np.zeros(3),
    np.zeros((1, 2)),
    np.array(["a", "b"]),
    np.array([1j, 0]),
    np.array([None, 1]),
    np.array(1.0),
    None,
)
values = st.one_of(st.sampled_from(PLAIN), st.sampled_from(PLAIN + ODD))
flags = st.one_of(st.booleans(), st.booleans().map(np.bool_), st.sampled_from(ODD))
infos = st.one_of(st.dictionaries(st.sampled_from(["a", "b", 3]), values, max_size=3), st.none())
steps = st.tuples(st.sampled_from(OBSERVATIONS), values, flags, flags, infos)
odd_steps = st.one_of(steps, steps.map(list), steps.map(lambda step: step[:4]), st.none())


def one_by_one(returned: list[Any]) -> list[Any] | None:
    """Return what a look at each gives, None where one is refused."""
    try:
        return [checked_step(one, lambda value: observation_of(value, 2)) for one in returned]
    except ValueError:
        return None


@given(st.one_of(st.lists(steps, min_size=1, max_size=4), st.lists(odd_steps, min_size=1, max_size=4)))
def test_columns_say_what_a_look_at_each_environment_says(returned: list[Any]) -> None:
    """Whatever passes as columns is what each environment's own look gives; whatever is refused there never passes."""
    columns, each = plain_steps(returned), one_by_one(returned)
    observation = None if columns is None else plain_observations(columns.observation, 2)
    if columns is None or observation is None:
        return
    assert each is not None
    np.testing.assert_array_equal(observation, np.stack([step.observation for step in each]))
    np.testing.assert_array_equal(columns.reward, [step.reward for step in each])
    assert columns.terminated.tolist() == [step.terminated for step in each]
    assert columns.truncated.tolist() == [step.truncated for step in each]
    assert [dict(info) for info in columns.info] == [step.info for step in each]


def test_what_nearly_all_environments_return_passes_as_columns() -> None:
    """Not only None: the quick way is taken."""
    returned = [(np.zeros(2, np.float32), 1.0, False, np.bool_(True), {"x": 1.0}), (np.ones(2), 2, True, False, {})]
    columns = plain_steps(returned)
    assert columns is not None
    assert columns.reward.tolist() == [1.0, 2.0]
    read = plain_observations(columns.observation, 2)
    assert read is not None
    assert read.tolist() == [[0, 0], [1, 1]]


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", 3]), values, max_size=3), min_size=1, max_size=4))
def test_infos_are_columns_of_finite_numbers(told: list[dict[Any, Any]]) -> None:
    """A column exists where one environment tells a finite number, and is NaN where one does not."""
    expected: dict[str, list[float]] = {}
    for place, info in enumerate(told):
        for name, value in info.items():
            if isinstance(name, str) and (number := finite_number(value)) is not None:
                expected.setdefault(name, [math.nan] * len(told))[place] = number
    found = info_columns(told)
    assert found.keys() == expected.keys()
    for name, column in found.items():
        assert column.dtype == np.float64
        np.testing.assert_array_equal(column, expected[name])


def finite_number(value: Any) -> float | None:
    """Return what is a finite real number, or an array of one, written plainly."""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype.kind in "fiub":
        value = value.item()
    if not isinstance(value, bool | int | float | np.bool_ | np.integer | np.floating):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


@pytest.mark.parametrize("last", [np.zeros(3), np.array(["a", "b"]), np.zeros((2, 1))])
def test_the_last_environments_fault_is_seen(last: np.ndarray) -> None:
    """One environment of many that breaks its space is not overlooked."""
    assert plain_observations([np.zeros(2)] * 7 + [last], 2) is None
