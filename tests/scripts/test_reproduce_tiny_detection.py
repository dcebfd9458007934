"""The experiment on tiny objects: its claims by hand, its frames, and a tiny one end to end."""

import json

import pytest

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import tiny_detection


def verdicts(fine, coarse, matched, plain, bins):
    found = {
        "stride4": tuple(
            {"AP50": {"tiny": one} | dict(zip(("tiny1", "tiny2", "tiny3"), bins, strict=True))} for one in fine
        )
    }
    for arm, values in {"stride8": coarse, "sm": matched, "plain": plain}.items():
        found[arm] = tuple({"AP50": {"tiny": one}} for one in values)
    return [claim.verdict for claim in tiny_detection.claims(found, tiny_detection.Numbers())]


def test_claims_by_hand():
    assert verdicts((50.0, 60.0), (40.0, 50.0), (30.0, 32.0), (28.0, 30.0), (20.0, 30.0, 30.5)) == [HOLDS] * 3
    assert verdicts((50.0, 60.0), (41.0, 50.0), (30.0, 31.0), (28.0, 30.0), (20.0, 40.0, 39.0)) == [FAILS] * 3


def test_frames_hold_one_class_of_the_sizes_asked_for():
    frames = tiny_detection.frames("train", 3, 0)
    assert set(frames.tensors["classes"].flatten().tolist()) == {-1, 0}
    sizes = tiny_detection.sizes(frames)
    assert 15 <= len(sizes) <= 90
    assert float(sizes.min()) > 2.99
    assert float(sizes.max()) < 20.01


def test_a_tiny_experiment(tmp_path):
    result = tiny_detection.run(tiny_detection.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 3
    assert set(result.figures) == {*tiny_detection.LEVELS, *tiny_detection.FIRST}
    assert all(0.0 <= one <= 100.0 for each in result.figures["sm"] for one in each["MR50"].values())
    json.dumps(result.figures)


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="near=0"):
        tiny_detection.Numbers(near=0)
