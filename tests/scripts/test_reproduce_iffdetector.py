"""The experiment on iffDetector: its claims by hand, its arms' costs, and a tiny one end to end."""

import json

import pytest
import torch

from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import iffdetector


def verdicts(feedback, plain, features, deeper, background):
    points = {"plain": plain, "features": features, "deeper": deeper}
    found = {arm: tuple({"AP50": value} for value in values) for arm, values in points.items()}
    diagnosed = zip(feedback, background, strict=True)
    found["feedback"] = tuple({"AP50": value, "diagnosis": {"background": size}} for value, size in diagnosed)
    return [claim.verdict for claim in iffdetector.claims(found, iffdetector.Numbers())]


def test_claims_by_hand():
    good = verdicts((51.0, 52.0), (50.0, 51.0), (51.2, 52.2), (50.0, 50.0), (0.9, 0.95))
    assert good == [HOLDS] * 4
    bad = verdicts((51.0, 52.0), (50.5, 51.5), (51.5, 52.5), (52.0, 53.0), (1.1, 1.0))
    assert bad == [FAILS] * 4


def test_cells_in_boxes():
    tested = Arrays(
        {
            "boxes": torch.tensor([[[0.0, 0.0, 9.0, 5.0], [0.0, 0.0, 99.0, 99.0]]]),
            "classes": torch.tensor([[2, -1]]),
        }
    )
    middles = torch.tensor([[4.0, 4.0], [12.0, 4.0], [4.0, 12.0]])
    assert iffdetector.in_boxes(middles, tested).tolist() == [[True, False, False]]


def test_a_tiny_experiment(tmp_path):
    result = iffdetector.run(iffdetector.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 4
    macs = {arm: result.figures[arm][0]["macs"] for arm in iffdetector.ARMS}
    assert macs["plain"] < 0.8 * macs["deeper"]
    assert macs["deeper"] == pytest.approx(macs["feedback"], rel=0.05)
    assert macs["features"] == pytest.approx(macs["feedback"], rel=0.05)
    parameters = {arm: result.figures[arm][0]["parameters"] for arm in iffdetector.ARMS}
    assert parameters["features"] == parameters["feedback"] == parameters["plain"] + 9 * 7 * 32 + 32
    json.dumps(result.figures)


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="epochs=0"):
        iffdetector.Numbers(epochs=0)
