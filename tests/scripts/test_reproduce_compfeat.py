"""The CompFeat experiment: its claims by hand, and a tiny one end to end."""

import dataclasses
import json

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import compfeat


def verdicts(right, switches, times, losses=(0.1, 0.1)):
    figures = {
        "spoiled": {"objects": (right[0],), "single": (right[1],)},
        "switches": {"map": (switches[0],), "objects": (switches[1],)},
        "losses": {"map": (losses[0],), "objects": (losses[1],)},
        "milliseconds": dict(zip(compfeat.ARMS, ((time,) for time in times), strict=True)),
    }
    return [claim.verdict for claim in compfeat.claims(figures, compfeat.Numbers())]


def test_claims_by_hand():
    assert verdicts((55.0, 50.0), (0.2, 0.2), (1.0, 1.1, 1.2, 2.0)) == [HOLDS] * 3
    assert verdicts((54.9, 50.0), (0.3, 0.2), (1.0, 1.1, 2.1, 2.0)) == [FAILS] * 3


def test_a_lost_identity_counts():
    assert verdicts((55.0, 50.0), (0.1, 0.2), (1.0, 1.1, 1.2, 2.0), losses=(0.3, 0.1)) == [HOLDS, FAILS, HOLDS]
    told = torch.tensor([[3, -1, -1, 3], [4, -1, 5, 5], [6, 6, 6, -1]])
    assert compfeat.identity_figures(told) == {"switches": 1 / 3, "losses": 1.0, "without": pytest.approx(100 / 3)}


def test_debug_experiment_end_to_end(tmp_path):
    result = compfeat.run(dataclasses.replace(compfeat.DEBUG, steps=1), Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 3
    assert all(len(values) == 1 for arms in result.figures.values() for values in arms.values())
    json.dumps(result.figures)


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="tested="):
        dataclasses.replace(compfeat.DEBUG, tested=0)
