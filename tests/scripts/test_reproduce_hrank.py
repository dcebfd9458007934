"""The HRank experiment: its claims by hand, and a tiny one end to end."""

import dataclasses
import json

import pytest

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import hrank


def verdicts(correlations, low, control):
    table = {"low rank 0.3": {"score": low}, "control": {"score": control}}
    return [claim.verdict for claim in hrank.claims(correlations, table, hrank.Numbers())]


def test_claims_by_hand():
    good = ([0.99, 0.96, 0.8], [0.95, 0.99, 0.76])
    assert verdicts(good, (97.0, 98.0), (98.0, 99.0)) == [HOLDS] * 3
    assert verdicts(([0.94, 0.99, 0.8], good[1]), (97.0, 98.0), (98.0, 99.0)) == [FAILS, HOLDS, HOLDS]  # each seed
    assert verdicts(([0.99, 0.99, 0.74], good[1]), (97.0, 98.0), (98.0, 99.2)) == [HOLDS, FAILS, FAILS]


def test_debug_experiment_end_to_end(tmp_path):
    numbers = dataclasses.replace(hrank.DEBUG, seeds=1)
    result = hrank.run(numbers, Jobs(tmp_path, parallel=0))
    rows = result.figures["table"]
    assert list(rows) == ["before", "control", *(f"{arm} 0.3" for arm in hrank.ARMS)]  # all four, always
    # 12, 23 and 23 of 16, 32 and 32 filters are left; maps of 16x16, 16x16 and 8x8.
    macs = 9 * (12 * 256 + 12 * 23 * 256 + 23 * 23 * 64) + 23 * 64 * 10
    assert {rows[f"{arm} 0.3"]["macs"] for arm in hrank.ARMS} == {(float(macs),)}
    assert len(result.claims) == 3
    json.dumps(result.figures)


def test_wrong_numbers_are_refused():
    for change in ({"seeds": 0}, {"batches": 1}, {"ratios": ()}, {"ratios": (1.0,)}):
        with pytest.raises(UserError, match=f"{next(iter(change))}="):
            hrank.Numbers(**change)
