"""Word errors: by hand, against a brute-force twin, and over a corpus."""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsuite.errors import UserError
from rlsuite.metrics.text import edits, word_error_rate

SHORT = st.lists(st.integers(0, 2), max_size=6)


def test_edits_by_hand():
    assert edits("abc", "abc").total == 0
    assert edits(["fist", "open"], ["fist"]) == (0, 1, 0)
    assert edits(["fist"], ["open", "fist"]) == (0, 0, 1)
    assert edits(["fist", "open"], ["fist", "point"]) == (1, 0, 0)
    assert edits("kitten", "sitting") == (2, 0, 1)
    assert edits([], ["open"] * 3) == (0, 0, 3)


@settings(deadline=None, max_examples=60)
@given(SHORT, SHORT)
def test_edits_are_the_fewest(reference, hypothesis):
    @functools.cache
    def fewest(i, j):
        if i == 0 or j == 0:
            return i + j
        replaced = fewest(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1])
        return min(replaced, fewest(i - 1, j) + 1, fewest(i, j - 1) + 1)

    found = edits(reference, hypothesis)
    assert found.total == fewest(len(reference), len(hypothesis))
    assert len(reference) - found.deletions + found.insertions == len(hypothesis)


def test_the_rate_is_over_the_whole_corpus():
    assert word_error_rate([["a", "b", "c"], ["a"]], [["a", "b", "c"], ["b"]]) == 0.25  # not the mean of 0 and 1
    assert word_error_rate(["a"], ["bcd"]) == 3.0
    with pytest.raises(UserError, match="hold no word"):
        word_error_rate([[], []], [["a"], []])
    with pytest.raises(ValueError):
        word_error_rate(["a"], [])
