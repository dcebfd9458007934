"""The experiments of searches that give operations up: their claims by hand, and tiny ones end to end."""

import dataclasses
import json

import pytest

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import abandit_nas


def verdicts(claims):
    return [claim.verdict for claim in claims]


def test_claims_of_abandit_nas_by_hand():
    def found(rule, upper, pgd, *others):
        networks = {"found": [{"pgd": pgd}], "random": [{"pgd": other} for other in others]}
        return {"simulated": {"slow learners": {"anti-bandit": rule, "upper bounds": upper}}, "arms": networks}

    numbers = abandit_nas.Numbers()
    assert verdicts(abandit_nas.claims((found(60, 50, 52, 40, 60),), numbers)) == [HOLDS] * 2
    assert verdicts(abandit_nas.claims((found(59, 50, 51, 40, 60),), numbers)) == [FAILS] * 2


def test_the_largest_cells_cost_most():
    space, whole = abandit_nas.SPACE, abandit_nas.largest()
    assert space.check(whole) == whole
    assert all(space.cost(other)["macs"] <= space.cost(whole)["macs"] for other in space.neighbours(whole))


def test_debug_experiment_of_abandit_nas_end_to_end(tmp_path):
    result = abandit_nas.run(abandit_nas.DEBUG, Jobs(tmp_path, parallel=0))
    json.dumps(result.figures)
    (found,) = result.figures["by seed"]
    assert set(found["arms"]) == {"found", "random", "largest"}
    assert found["epochs"] == 5 + 14


def test_wrong_numbers_of_bandit_experiments_are_refused():
    for module, change in ((abandit_nas, {"eps": 0.0}), (abandit_nas, {"digits": 5}), (abandit_nas, {"random": 0})):
        with pytest.raises(UserError):
            dataclasses.replace(module.Numbers(), **change)
