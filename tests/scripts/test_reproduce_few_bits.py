"""The experiments on networks of one to three bits and without products: claims by hand, and tiny ones end to end."""

import pytest

from rlsuite.experiment import FAILS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import addernet, quantization_networks, rbnn


def rbnn_verdicts(small=0.83, flipped=0.5, cosine=0.86, **accuracy):
    gaussian = {
        "16x144": [{"before": 0.8, "after": small, "flipped": 0.5}] * 2,
        "64x576": [{"before": 0.8, "after": 0.82, "flipped": 0.5}, {"before": 0.8, "after": 0.811, "flipped": flipped}],
    }
    accuracies = {"plain": (95.0, 93.0), "schedule": (96.0, 95.0), "rotation": (94.0, 93.0), "detached": (70.0, 60.0)}
    cosines = {"rotation": ((0.86, 0.86), (cosine, 0.87)), "schedule": ((0.7, 0.75), (0.75, 0.7))}
    found = rbnn.claims(gaussian, accuracies | accuracy, cosines, rbnn.Numbers())
    return [number for number, claim in enumerate(found) if claim.verdict == FAILS]


def test_claims_of_rbnn_by_hand():
    assert rbnn_verdicts() == []
    assert rbnn_verdicts(small=0.82) == [0]
    assert rbnn_verdicts(flipped=0.44) == [2]
    assert rbnn_verdicts(cosine=0.82) == [4]
    assert rbnn_verdicts(plain=(96.5, 96.0)) == [3]
    assert rbnn_verdicts(detached=(90.0, 80.0)) == [5]
    assert rbnn_verdicts(rotation=(93.0, 91.0)) == [6]


def test_the_experiment_on_rbnn_end_to_end(tmp_path):
    result = rbnn.run(rbnn.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 7
    assert set(result.figures["accuracy"]) == set(rbnn.ARMS)
    (painter,) = result.figures["painter"]
    assert painter["backends_agree"] is True
    assert painter["layers"] == ["body.3.0", "body.5.0"]
    assert painter["binary"]["bytes"] < painter["float"]["bytes"]
    assert painter["binary"]["bit_operations"] < painter["float"]["bit_operations"]


def networks_verdicts(gap=0.3, kept=0.95, **accuracy):
    accuracies = {
        "float": (99.0, 99.4),
        "ternary": (98.5, 98.8),
        "ternary_rounded": (90.0, 98.0),
        "ternary_straight": (98.9, 99.0),
    }
    named = {name.replace("_", " "): values for name, values in (accuracies | accuracy).items()}
    gaps = {"T = 10": (5.0, 6.0), quantization_networks.LAST: (0.0, gap)}
    found = quantization_networks.claims(named, gaps, {"actor": (1.0, kept)}, quantization_networks.Numbers())
    return [number for number, claim in enumerate(found) if claim.verdict == FAILS]


def test_claims_of_quantization_networks_by_hand():
    assert networks_verdicts() == []
    assert networks_verdicts(float=(99.0, 100.1)) == [0]
    assert networks_verdicts(ternary_rounded=(90.0, 98.8)) == [1]  # equal is not above
    assert networks_verdicts(ternary_rounded=(97.0, 98.0)) == [2]
    assert networks_verdicts(ternary_straight=(99.3, 98.0)) == [3]
    assert networks_verdicts(gap=0.7) == [4]
    assert networks_verdicts(kept=0.89) == [5]


def test_one_seed_of_digits_of_quantization_networks(tmp_path):
    numbers = quantization_networks.DEBUG
    inputs = {name: getattr(numbers, name) for name in ("widths", "hidden", "float_epochs", "batch_size")}
    found = quantization_networks.classify("digits", 0, tmp_path, epochs=3, **inputs)
    assert set(found["gaps"]) == {"T = 10", "T = 20", quantization_networks.LAST}
    assert set(found["accuracy"]) == set(found["costs"])
    assert found["costs"]["ternary"]["bytes"] < found["costs"]["float"]["bytes"]
    assert found["costs"]["ternary"]["bit_operations"] < found["costs"]["pm4"]["bit_operations"]


def adder_verdicts(painted=9.5, **accuracy):
    accuracies = {"conv": (98.0, 97.0), "addernet": (96.0, 97.0), "sign": (80.0, 90.0), "binary": (88.0, 87.0)}
    gained = {"conv": (10.0, 10.0), "addernet": (9.0, painted), "binary": (5.0, 5.0)}
    found = addernet.claims(accuracies | accuracy, gained, addernet.Numbers())
    return [number for number, claim in enumerate(found) if claim.verdict == FAILS]


def test_claims_of_addernet_by_hand():
    assert adder_verdicts() == []
    assert adder_verdicts(conv=(99.0, 98.5)) == [0]
    assert adder_verdicts(sign=(94.0, 93.0)) == [1]
    assert adder_verdicts(binary=(94.0, 93.0)) == [2]
    assert adder_verdicts(painted=8.0) == [3]


def test_the_experiment_on_addernet_end_to_end(tmp_path):
    result = addernet.run(addernet.DEBUG, Jobs(tmp_path, parallel=0))
    assert set(result.figures["accuracy"]) == set(addernet.ARMS)
    ((conv,), (adder,), (binary,)) = (result.figures["students"][arm] for arm in addernet.STUDENTS)
    assert adder["multiplications"] < conv["multiplications"]
    assert adder["additions"] > conv["additions"]
    assert binary["bytes"] < conv["bytes"]
    train, test = addernet.parts(3, 40)
    assert (len(train), len(test)) == (400, 1397)
    assert train.tensors["label"].bincount().tolist() == [40] * 10
    assert train.tensors["input"].mean().abs() < 1e-5


@pytest.mark.parametrize("experiment", [addernet, quantization_networks, rbnn])
def test_numbers_out_of_range_are_refused(experiment):
    from rlsuite.errors import UserError

    with pytest.raises(UserError, match="seeds=0"):
        experiment.Numbers(seeds=0)
