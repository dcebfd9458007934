"""The experiments on networks of one to three bits and without products: claims by hand, and tiny ones end to end."""

import pytest

from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import rbnn


def rbnn_verdicts(small=0.83, flipped=0.5, cosine=0.86, **accuracy):
    gaussian = {
        "16x144": [{"before": 0.8, "after": small, "flipped": 0.5}] * 2,
        "64x576": [{"before": 0.8, "after": 0.82, "flipped": 0.5}, {"before": 0.8, "after": 0.811, "flipped": flipped}],
    }
    accuracies = {"plain": (95.0, 93.0), "schedule": (96.0, 95.0), "rotation": (94.0, 93.0), "detached": (70.0, 60.0)}
    cosines = {"rotation": ((0.86, 0.86), (cosine, 0.87)), "schedule": ((0.7, 0.75), (0.75, 0.7))}
    found = rbnn.claims(gaussian, accuracies | accuracy, cosines, rbnn.Numbers())
    return [number for number, claim in enumerate(found) if claim.verdict == FAILS] if found else HOLDS


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


@pytest.mark.parametrize("experiment", [rbnn])
def test_numbers_out_of_range_are_refused(experiment):
    from rlsuite.errors import UserError

    with pytest.raises(UserError, match="seeds=0"):
        experiment.Numbers(seeds=0)
