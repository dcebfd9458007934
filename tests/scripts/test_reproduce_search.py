"""The experiments of searches: their claims by hand, and tiny ones end to end."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest

from envs.evaluation.search.cars import EvolutionConfig, Member
from rlsuite.data.nas_bench_201 import DATASETS, FILE_NAME
from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import assessor, cars, ncp

TABLE = Path(os.environ.get("RLSUITE_DATA", "/nowhere")) / FILE_NAME
needs_table = pytest.mark.skipif(not TABLE.exists(), reason="NAS-Bench-201's table is not there")


def verdicts(claims):
    return [claim.verdict for claim in claims]


def test_claims_of_the_assessor_by_hand():
    def found(own, alone, ridge, macs, test):
        taus = {"assessor": own, "labels alone": alone, "ridge": ridge, "macs": macs}
        return {"tau": dict.fromkeys(("60", "120", "240"), taus), "test": test}

    numbers = assessor.Numbers()
    good = (found(0.45, 0.41, 0.40, 0.3, 88.7), found(0.43, 0.39, 0.42, 0.3, 88.6))
    assert verdicts(assessor.claims(good, numbers)) == [HOLDS] * 4
    bad = (found(0.4, 0.38, 0.41, 0.42, 88.6),)
    assert verdicts(assessor.claims(bad, numbers)) == [FAILS] * 4
    mixed = (found(0.45, 0.41, 0.40, 0.3, 88.7), found(0.45, 0.41, 0.40, 0.3, 88.7))
    mixed[0]["tau"]["240"] = {**mixed[0]["tau"]["240"], "ridge": 0.6}  # the mean at one number of labels is below
    assert verdicts(assessor.claims(mixed, numbers)) == [HOLDS, FAILS, HOLDS, HOLDS]


def test_claims_of_ncp_by_hand():
    def found(tau, edited, random, cost, macs, transferred):
        arms = {
            "edited": {"accuracy": edited, "macs": 100.0},
            "random": {"accuracy": random, "macs": 90.0},
            "cost": {"accuracy": cost, "macs": macs},
            "transferred": {"accuracy": transferred, "macs": 90.0},
        }
        taus = {"predictor": tau, "ridge": 0.5}
        return {"tau": dict.fromkeys(DATASETS, taus), "codes": dict.fromkeys(DATASETS, arms)}

    numbers = ncp.Numbers()
    assert verdicts(ncp.claims((found(0.56, 84, 84, 83.2, 70, 84),), numbers)) == [HOLDS] * 5
    assert verdicts(ncp.claims((found(0.54, 83, 84, 81.9, 81, 82),), numbers)) == [FAILS] * 5


def test_claims_of_cars_by_hand():
    def network(test, share):
        return {"test": test, "share": share, "parameters": 1000 * share}

    def found(largest, random, sizes):
        arms = {"cars": [network(90, 0.2), network(95, 0.6)], "random": random, "nsga3": [network(92, 0.3)]}
        return {"arms": arms | {"cars' largest": [largest]}, "sizes": {"cars": [sizes[0]], "nsga3": [sizes[1]]}}

    numbers = cars.Numbers()
    good = found(network(95, 0.6), [network(90, 0.2), network(95, 0.6)], [(1, 2, 13), (1, 2, 10)])
    assert verdicts(cars.claims((good,), numbers)) == [HOLDS] * 3
    bad = found(network(91, 0.6), [network(96, 0.2)], [(1, 2, 12), (1, 2, 10)])
    assert verdicts(cars.claims((bad,), numbers)) == [FAILS] * 3
    # 0.9 from 0.2 to the end, and 0.05 more from 0.6.
    assert cars.volume([network(90, 0.2), network(95, 0.6)]) == pytest.approx(0.9 * 0.8 + 0.05 * 0.4, abs=1e-6)
    # At equal size: from 0.3 on, where both have one, 90 against 92 up to 0.6, then 95 against 92 up to 0.9.
    one, other = [network(90, 0.2), network(95, 0.6)], [network(92, 0.3), network(93, 0.9)]
    assert cars.points_above(one, other) == pytest.approx((0.3 * -2 + 0.3 * 3) / 0.6)
    assert cars.points_above(other, one) == pytest.approx(-0.5)
    assert cars.points_above([network(90, 0.2)], [network(80, 0.2)]) == 10.0


def test_random_search_of_cars_is_kept_by_the_same_selection():
    config = EvolutionConfig(population=3)
    drawn = [Member((place,), score, (cost,)) for place, (score, cost) in enumerate(((3, 2), (2, 1), (1, 4), (0, 3)))]
    # First fronts: {0, 1} by small sizes, {0, 2} by large ones.
    assert cars.kept(drawn, config, np.random.default_rng(0)) == drawn[:3]
    failed = [*drawn[:3], Member((3,), -np.inf, (2.0,))]
    assert cars.kept(failed, config, np.random.default_rng(0)) == drawn[:3]


def test_the_largest_network_is_the_largest():
    whole = cars.parameters(cars.max_architecture())
    assert cars.SPACE.check(cars.max_architecture())
    assert all(cars.parameters(one) <= whole for one in cars.SPACE.neighbours(cars.max_architecture()))


@needs_table
@pytest.mark.parametrize("module", [assessor, ncp])
def test_debug_experiments_on_the_table_end_to_end(tmp_path, module):
    result = module.run(module.DEBUG, Jobs(tmp_path, parallel=0))
    json.dumps(result.figures)
    assert len(result.claims) >= 4


def test_debug_experiment_of_cars_end_to_end_and_again(tmp_path):
    first, again = (cars.run(cars.DEBUG, Jobs(tmp_path / name, parallel=0)) for name in "ab")
    assert first.figures == again.figures
    (found,) = first.figures["by seed"]
    assert set(found["arms"]) == {"cars", "cars' largest", "random", "nsga3", "largest there is"}
    assert found["judged"]["random"] == found["judged"]["cars"]


def test_wrong_numbers_are_refused():
    for module, change in (
        (assessor, {"claimed": 50}),
        (assessor, {"labels": (1,)}),
        (assessor, {"trials": 60}),
        (ncp, {"labels": 3}),
        (ncp, {"unseen": 20_000}),
        (cars, {"population": 1}),
    ):
        with pytest.raises(UserError):
            dataclasses.replace(module.Numbers(), **change)
