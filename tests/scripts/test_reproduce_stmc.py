"""The STMC experiment: its claims by hand, and a tiny one end to end."""

import json

import pytest

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import stmc


def result(last, keypoints=0.05, middle=60.0, script=20.0):
    return {"curve": [100.0, middle, last], "keypoints": keypoints, "loop": {"script": script, "random": 90.0}}


def verdicts(**changes):
    """Two seeds of one kind."""
    arms = {
        "stmc": result(10.0),
        "no intra heads": result(12.0),
        "no taught pose": result(11.0),
        "full frame": result(14.0),
    } | {name.replace("_", " "): one for name, one in changes.items()}
    found = {name: (one, one) for name, one in arms.items()}
    return [claim.verdict for claim in stmc.claims(found, stmc.Numbers())]


def test_claims_by_hand():
    assert verdicts() == [HOLDS] * 5
    assert verdicts(full_frame=result(12.9)) == [FAILS, *[HOLDS] * 4]
    assert verdicts(no_taught_pose=result(9.0)) == [HOLDS, FAILS, *[HOLDS] * 3]
    assert verdicts(no_intra_heads=result(10.5))[3] == FAILS  # it never is where STMC is, but less than a point away
    assert verdicts(no_intra_heads=result(11.0))[3] == HOLDS
    assert verdicts(stmc=result(10.0, keypoints=0.07, script=60.0)) == [HOLDS, HOLDS, FAILS, HOLDS, FAILS]


def test_debug_experiment_end_to_end(tmp_path, capsys):
    found = stmc.run(stmc.DEBUG, Jobs(tmp_path / "stmc", parallel=0))
    json.dumps(found.figures)
    assert list(found.figures) == list(stmc.ARMS)
    weights = {name: one["weights"] for name, (one,) in found.figures.items()}
    assert weights["stmc"] == weights["no taught pose"] <= weights["full frame"] < 1.05 * weights["stmc"]
    assert set(found.figures["stmc"][0]["loop"]) == {"script", "random"}
    assert "in the environment" in capsys.readouterr().out


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match=r"steps=5: use more than pose_steps \+ word_steps=5"):
        stmc.Numbers(steps=5, pose_steps=3, word_steps=2)
