"""The BERT-fused experiment: its claims by hand, and a tiny one end to end."""

import dataclasses
import json

import pytest

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import bert_fused


def found(plain, twice, fused, both, random, goals):
    scores = dict(zip(bert_fused.ARMS, (plain, twice, fused, both, random), strict=True))
    loop = {"plain": {"right": goals[0]}, "fused": {"right": goals[1]}}
    return ({**{name: {"exact": score} for name, score in scores.items()}, "loop": loop},)


def test_claims_by_hand():
    def verdicts(*figures):
        return [claim.verdict for claim in bert_fused.claims(found(*figures), bert_fused.Numbers())]

    assert verdicts(20.0, 22.0, 30.0, 31.0, 25.0, (20.0, 28.0)) == [HOLDS] * 5
    assert verdicts(22.1, 22.1, 30.0, 31.1, 25.1, (20.0, 27.0)) == [FAILS] * 5


def test_debug_experiment_end_to_end(tmp_path):
    result = bert_fused.run(bert_fused.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 5
    (one,) = result.figures["translators"]
    assert set(one) == {*bert_fused.ARMS, "loop"}
    # Whoever is told in English has the right goals, and the scripted policy gets there.
    assert one["loop"]["told"] == {"right": 100.0, "reached": 100.0, "parsed": 100.0}
    json.dumps(result.figures)


def test_wrong_numbers_are_refused():
    for change in ({"seeds": 0}, {"languages": ()}, {"languages": ("nl",)}, {"instructions": 0}):
        with pytest.raises(UserError, match=f"{next(iter(change))}="):
            dataclasses.replace(bert_fused.DEBUG, **change)
