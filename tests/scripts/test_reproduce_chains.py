"""The experiments of searches in chains of blocks: claims by hand, and tiny ones end to end."""

import dataclasses

import numpy as np
import pytest
import torch

from rlsuite.data.digits import digits
from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import atomnas, autonl, autospace, nas_count


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
    for module, change in (
        (atomnas, {"prices": (0.2, 0.1)}),
        (atomnas, {"epochs": 0}),
        (atomnas, {"digits": 5}),
        (autonl, {"pairs": 5}),
        (autonl, {"classes": 11}),
        (nas_count, {"architecture_rate": 0.0}),
    ):
        with pytest.raises(UserError):
            dataclasses.replace(module.Numbers(), **change)


def test_claims_of_autonl_by_hand():
    def found(own, whole, architecture):
        arms = {"found": {"test": own, "architecture": architecture}, "all blocks": {"test": whole}}
        return {name: {"macs": 1.0, **arm} for name, arm in arms.items()}

    numbers = autonl.Numbers()

    def right(**arms):
        return {name.replace("_", " "): {"test": test, "train": 99.0} for name, test in arms.items()}

    good = right(no_block=55.0, standard=80.0, light=78.0)
    assert verdicts(autonl.claims((good,), (found(79.0, 80.0, [0, 1, 0, 2]),), numbers)) == [HOLDS] * 7
    bad = right(no_block=61.0, standard=80.0, light=74.0)
    expected = [FAILS] * 3 + [HOLDS] * 2 + [FAILS] * 2
    assert verdicts(autonl.claims((bad,), (found(77.0, 80.0, [1, 1, 0, 0]),), numbers)) == expected


@pytest.mark.parametrize("space", [autonl.FIXED, autonl.SEARCHED])
def test_without_a_block_the_other_digit_is_out_of_reach(space):
    """In evaluation mode, where pictures do not see each other, its gradient is 0; with a block it is not."""
    pictures = torch.rand(2, 1, 16, 16)
    for block, sees in ((None, False), (autonl.LightNonLocal(16), True)):
        network = space.with_blocks(lambda place, plan, block=block: block).eval()
        space.draw(network, 0)
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                torch.nn.init.ones_(part.weight)
        inputs = pictures.clone().requires_grad_(True)
        network(inputs).sum().backward()
        assert inputs.grad is not None
        assert bool((inputs.grad[:, :, 8:, 8:] != 0).any()) == sees
        assert (inputs.grad[:, :, :5, :5] != 0).any()


def test_pairs_are_balanced_and_in_their_corners():
    for count in (2, 10):
        known = digits("test").tensors
        few = set(known["picture"][known["label"] < count].float().div(255.0).flatten(1).sum(1).tolist())
        drawn = autonl.glyph_pairs("test", 100, 1, count).tensors["input"]
        assert set(drawn[:, :, :8, :8].flatten(1).sum(1).tolist()) <= few
    pairs = autonl.glyph_pairs("test", 200, 1, 10).tensors
    assert int(pairs["label"].sum()) == 100
    assert not pairs["input"][:, :, :8, 8:].any()
    assert (pairs["input"][:, :, 8:, 8:].flatten(1).sum(1) > 0).all()
    same = pairs["input"][pairs["label"] == 1]
    other = pairs["input"][pairs["label"] == 0]
    distances = [(x[:, :, :8, :8] - x[:, :, 8:, 8:]).square().flatten(1).sum(1).mean() for x in (same, other)]
    assert distances[0] < distances[1]


def test_debug_experiment_of_autonl_end_to_end_and_again(tmp_path):
    first, again = (autonl.run(autonl.DEBUG, Jobs(tmp_path / name, parallel=0)) for name in "ab")
    assert first.figures == again.figures
    assert all(0.0 <= arm["train"] <= 100.0 for arm in first.figures["blocks"][0].values())
    assert set(first.figures["search"][0]) == {"found", "random", "largest that fits", "all blocks"}


def test_claims_of_autospace_by_hand():
    def found(evolved, random, alone):
        return {"tests": {"evolved": evolved, "random cells": random, "no reference": alone}}

    numbers = autospace.Numbers()
    good = found([94.0, 96.0], [90.0, 97.0], [93.0, 97.0])
    assert verdicts(autospace.claims((good,), numbers)) == [HOLDS] * 3
    bad = found([94.0, 96.0], [94.0, 95.0], [95.0, 97.0])
    assert verdicts(autospace.claims((bad,), numbers)) == [FAILS] * 3


def test_networks_of_autospace_are_compared_at_macs_that_all_spaces_have():
    wide, narrow = {(0,): 50.0, (1,): 100.0, (2,): 105.0, (3,): 200.0}, {(0,): 98.0, (1,): 190.0, (2,): 400.0}
    macs = [np.array(list(costs.values())) for costs in (wide, narrow)]
    # Around 98, 100, 105 there are two and one of each space, around 190 and 200 one and one: the middle of five.
    assert autospace.shared_macs(macs) == 105.0
    assert [autospace.within(each, 105.0) for each in macs] == [2, 1]
    assert autospace.near(wide, 105.0, 2) == [(1,), (2,)]
    assert autospace.near(narrow, 105.0, 2) == [(0,), (1,)]  # the nearest of the others


def test_debug_experiment_of_autospace_end_to_end_and_again(tmp_path):
    first, again = (autospace.run(autospace.DEBUG, Jobs(tmp_path / name, parallel=0)) for name in "ab")
    (one,), (two,) = first.figures["by seed"], again.figures["by seed"]
    assert one["tests"] == two["tests"]
    assert set(one["tests"]) == {"evolved", "random cells", "no reference", "inverted residuals"} == set(one["within"])
    evolved = [tuple(cell) for layer in one["cells"]["evolved"] for cell in layer]
    assert len(evolved) == 4 * autospace.DEBUG.top  # and none of them the reference's, which is put in first
    assert one["reference ahead"] in range(5)
    assert all(len(tests) == 2 for tests in one["tests"].values())


def test_claims_of_nas_count_by_hand():
    def found(**errors):
        return {"arms": {name.replace("_", " "): {"error": error} for name, error in errors.items()}}

    numbers = nas_count.Numbers()
    good = found(pyramid=1.0, mean_of_squares=1.1, random=1.1, mean_count=3.5, line=1.4)
    assert verdicts(nas_count.claims((good,), numbers)) == [HOLDS] * 5
    bad = found(pyramid=1.0, mean_of_squares=0.9, random=1.0, mean_count=2.9, line=1.2)
    assert verdicts(nas_count.claims((bad,), numbers)) == [FAILS] * 5


def test_random_networks_of_nas_count_have_the_edges_of_found_ones():
    rng = np.random.default_rng(0)
    drawn = [nas_count.random_network(rng) for _ in range(20)]
    groups = np.asarray(nas_count.SPACE.groups)
    available = np.minimum(np.bincount(groups), 2)
    for one in drawn:
        assert np.bincount(groups[np.asarray(one) > 0]).tolist() == available.tolist()
    assert len(set(drawn)) == 20


def test_discs_sum_to_counts_and_differ():
    found = nas_count.discs(20, 0).tensors
    counts = found["density"].flatten(1).sum(1)
    torch.testing.assert_close(counts, counts.round(), atol=1e-3, rtol=0.0)
    assert len(set(counts.round().tolist())) > 8
    assert 0.0 <= float(found["input"].min()) <= float(found["input"].max()) <= 1.0


def test_debug_experiment_of_nas_count_end_to_end_and_again(tmp_path):
    first, again = (nas_count.run(nas_count.DEBUG, Jobs(tmp_path / name, parallel=0)) for name in "ab")
    (one,), (two,) = first.figures["by seed"], again.figures["by seed"]
    assert one["arms"] == two["arms"]
    assert set(one["arms"]) == {"pyramid", "mean of squares", "found loss", "random", "mean count", "line"}
    assert sum(one["shares"]) == pytest.approx(1.0, abs=1e-3)
