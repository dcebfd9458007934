"""The experiments of searches in chains of blocks: claims by hand, and tiny ones end to end."""

import dataclasses

import numpy as np
import pytest

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import atomnas


def verdicts(claims):
    return [claim.verdict for claim in claims]


def test_claims_of_atomnas_by_hand():
    def networks(*pairs):
        return [{"macs": macs, "test": test} for macs, test in pairs]

    def found(own, narrowed, speed):
        equal = networks((100, 90.0), (10_000, 94.0))  # a line over the logarithm: 92 at 1,000
        return {"arms": {"macs": own, "narrowed": narrowed, "equal": equal}, "speed": speed}

    numbers = atomnas.Numbers()
    good = found(networks((1000, 92.5), (10_000, 94.0)), networks((1000, 92.7), (10_000, 93.0)), 0.5)
    assert verdicts(atomnas.claims((good,), numbers)) == [HOLDS] * 4
    assert atomnas.claims((good,), numbers)[2].mean == pytest.approx(0.25)
    bad = found(networks((1000, 91.0), (10_000, 94.0)), networks((1000, 91.4), (10_000, 94.0)), 0.7)
    assert verdicts(atomnas.claims((bad,), numbers)) == [FAILS] * 4


def test_other_arms_of_atomnas_have_their_macs():
    for share in (0.2, 0.5, 0.9):
        macs = share * atomnas.SPACE.cost(atomnas.SPACE.largest)["macs"]
        narrow = atomnas.SPACE.cost(atomnas.narrowed(macs))["macs"]
        assert 0.93 * macs <= narrow <= 1.005 * macs
        random = atomnas.random_counts(macs, np.random.default_rng(0))
        assert atomnas.SPACE.cost(atomnas.SPACE.check(random))["macs"] == pytest.approx(macs, rel=0.05)


def test_debug_experiment_of_atomnas_end_to_end_and_again(tmp_path):
    first, again = (atomnas.run(atomnas.DEBUG, Jobs(tmp_path / name, parallel=0)) for name in "ab")
    (one,), (two,) = first.figures["by seed"], again.figures["by seed"]
    assert one["arms"] == two["arms"]
    assert set(one["arms"]) == {"macs", "equal", "narrowed", "random", "whole"}


def test_wrong_numbers_are_refused():
    for module, change in ((atomnas, {"prices": (0.2, 0.1)}), (atomnas, {"epochs": 0}), (atomnas, {"digits": 5})):
        with pytest.raises(UserError):
            dataclasses.replace(module.Numbers(), **change)
