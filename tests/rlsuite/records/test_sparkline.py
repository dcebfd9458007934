"""A curve in one line of text."""

import math

from hypothesis import given
from hypothesis import strategies as st

from rlsuite.records.sparkline import BARS, sparkline


def test_by_hand():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == BARS
    assert sparkline([7, 0], 8) == "█▁"
    assert sparkline([0, 2, 6, 8], 2) == "▁█"  # means 1 and 7
    assert sparkline([5, 5], 8) == "▁▁"
    assert sparkline([math.nan, 0, math.inf, 1], 8) == "▁█"
    assert sparkline([], 8) == sparkline([math.nan], 8) == ""


@given(st.lists(st.floats(), max_size=50), st.integers(0, 20))
def test_any_values_give_bars_and_no_more_than_wanted(values, width):
    line = sparkline(values, width)
    assert len(line) <= width
    assert set(line) <= set(BARS)
