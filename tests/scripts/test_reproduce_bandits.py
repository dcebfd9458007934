"""The experiments of searches that give operations up: their claims by hand, and tiny ones end to end."""

import dataclasses
import json

import pytest

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import abandit_nas, bnas, cp_nas


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
    assert found["trials"] == len(found["rewards"]) == 5 + 14
    assert all(0.0 <= reward <= 1.0 for reward in found["rewards"])


def test_claims_of_bnas_by_hand():
    def found(own, random, alpha, twin, share):
        arms = {"bnas": [own], "random": random, "alpha alone": [alpha], "float twin": [twin]}
        networks = {arm: [{"test": test, "share": share} for test in tests] for arm, tests in arms.items()}
        return {"arms": networks}

    numbers = bnas.Numbers()
    assert verdicts(bnas.claims((found(90, [88, 90], 90, 93, 1 / 32),), numbers)) == [HOLDS] * 4
    assert verdicts(bnas.claims((found(90, [89, 90], 91, 94, 0.04),), numbers)) == [FAILS] * 4


def test_debug_experiment_of_bnas_end_to_end(tmp_path):
    result = bnas.run(bnas.DEBUG, Jobs(tmp_path, parallel=0))
    json.dumps(result.figures)
    (found,) = result.figures["by seed"]
    assert set(found["arms"]) >= {"bnas", "alpha alone", "accuracy alone", "random", "largest", "float twin"}
    assert found["arms"]["bnas"][0]["share"] == 1 / 32
    assert len(found["spreads"]) == 3


def test_claims_of_cp_nas_by_hand():
    def found(simulated, own, random, child, plain):
        arms = {"cp": [own], "random": random, "child alone": [child], "plain loss": [plain]}
        return {
            "simulated": simulated,
            "arms": {arm: [{"test": test} for test in tests] for arm, tests in arms.items()},
        }

    numbers = cp_nas.Numbers()
    assert verdicts(cp_nas.claims((found(60, 90, [88, 90], 90.5, 90),), numbers)) == [HOLDS] * 4
    assert verdicts(cp_nas.claims((found(59, 90, [89, 90], 91, 91),), numbers)) == [FAILS] * 4


@pytest.mark.slow
def test_debug_experiment_of_cp_nas_end_to_end(tmp_path):
    result = cp_nas.run(cp_nas.DEBUG, Jobs(tmp_path, parallel=0))
    json.dumps(result.figures)
    (found,) = result.figures["by seed"]
    assert set(found["arms"]) == {"cp", "beta 0.5", "child alone", "cp, rbnn", "random", "plain loss"}
    assert len(found["trials"]) == 4 + 9


def test_simulations_of_cp_nas_are_far_above_chance():
    assert cp_nas.simulate(30, 1, 0) > 30.0
    assert cp_nas.simulate(5, 14, 0) > 12.5


def test_wrong_numbers_of_bandit_experiments_are_refused():
    for module, change in (
        (abandit_nas, {"eps": 0.0}),
        (abandit_nas, {"digits": 5}),
        (bnas, {"random": 0}),
        (bnas, {"tries": 0}),
    ):
        with pytest.raises(UserError):
            dataclasses.replace(module.Numbers(), **change)
