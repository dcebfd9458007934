"""The experiment on attention that collapses: its claims by hand, and a tiny one end to end."""

import dataclasses

import pytest

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import deepvit


def one(cosine, copies, accuracy):
    return {"used cosine": cosine, "used copies 0.9": copies, "accuracy": accuracy}


def test_claims_by_hand():
    def verdicts(*mixed):
        plain = [one(0.9, 20.0, 80.0), one(0.8, 15.0, 90.0)]
        return [claim.verdict for claim in deepvit.claims(plain, mixed, deepvit.Numbers())]

    assert verdicts(one(0.1, 0.0, 79.5), one(0.1, 0.0, 95.0)) == [HOLDS] * 3
    assert verdicts(one(0.1, 0.0, 99.0), one(0.61, 0.0, 95.0)) == [FAILS, HOLDS, HOLDS]  # the worst seed decides
    assert verdicts(one(0.1, 0.0, 99.0), one(0.1, 1.0, 95.0)) == [HOLDS, FAILS, HOLDS]
    assert verdicts(one(0.1, 0.0, 99.0), one(0.1, 0.0, 88.5)) == [HOLDS, HOLDS, FAILS]


def test_parts_hold_every_digit_once():
    learned, held = deepvit.parts()
    assert (len(learned), len(held)) == (1200, 597)


def test_debug_experiment_end_to_end(tmp_path):
    first = deepvit.run(deepvit.DEBUG, Jobs(tmp_path, parallel=0))
    again = deepvit.classify("mixed-2", 0, tmp_path, deepvit.DEBUG.width, deepvit.DEBUG.epochs)
    assert first.figures["found"]["mixed-2"] == (again,)
    side = {"identity-3", "plain.fan-3", "mixed.fan-3", "plain-2", "mixed-2"}
    assert set(first.figures["found"]) == {"plain-3", "mixed-3"} | side
    (plain,), (mixed,) = first.figures["found"]["plain-3"], first.figures["found"]["mixed-3"]
    assert plain["softmax cosine"] == plain["used cosine"]
    assert mixed["softmax cosine"] != mixed["used cosine"]


def test_wrong_numbers_are_refused():
    for change in ({"seeds": 0}, {"side_seeds": 4}, {"width": 10}, {"depth": 6}):
        with pytest.raises(UserError):
            dataclasses.replace(deepvit.Numbers(), **change)
