"""The experiment on cascaded regression tracking: its claims by hand, and a tiny one end to end."""

import math

from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import crt


def figures(**changes):
    plain = {"auc": [0.5, 0.6], "switches": [4.0, 6.0], "evaluations": [200.0, 200.0]}
    cascade = {"auc": [0.55, 0.65], "switches": [2.0, 4.0], "evaluations": [40.0, 60.0], **changes}
    return {"first": plain, "second": plain, "cascade": cascade}


def test_claims_by_hand():
    def verdicts(**changes):
        return [claim.verdict for claim in crt.claims(figures(**changes), crt.Numbers())]

    assert verdicts() == [HOLDS] * 4
    assert verdicts(auc=[0.53, 0.63]) == [FAILS, HOLDS, HOLDS, HOLDS]
    assert verdicts(auc=[0.45, 0.55]) == [FAILS, HOLDS, HOLDS, FAILS]
    assert verdicts(switches=[3.0, 3.1]) == [HOLDS, FAILS, HOLDS, HOLDS]
    assert verdicts(evaluations=[67.0, 67.0]) == [HOLDS, HOLDS, FAILS, HOLDS]


def test_a_tiny_experiment(tmp_path):
    result = crt.run(crt.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 4
    assert set(result.figures) == {"prior", "no prior"}
    for arms in result.figures.values():
        assert set(arms) == set(crt.ARMS)
        assert all(math.isfinite(value[0]) for table in arms.values() for value in table.values())
    assert result.figures["prior"]["first"]["evaluations"] == [0.0]
