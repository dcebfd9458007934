"""The scr experiment: its claims by hand, and a tiny one end to end."""

import copy
import json

import pytest

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import scr

ONE = {
    "noise": {scr.CLEAN: {"raw": 0.97, "redraw": 0.95}, scr.STRONG: {"raw": 0.7, "median": 0.8, "redraw": 0.85}},
    "oblivious": {
        "fgsm": {"raw": 0.3, "redraw": 0.8, "params": 0.8, "both": 0.8},
        "deepfool": {"raw": 0.1, "redraw": 0.7},
        "pgd 0.2": {"redraw": 0.8, "params": 0.8, "both": 0.8},
        "pgd 0.5": {"redraw": 0.6, "params": 0.6, "both": 0.6},
    },
    "adaptive": {
        "fgsm": {"redraw": 0.6, "params": 0.6, "both": 0.4},
        "pgd 0.2": {"redraw": 0.2, "params": 0.2, "both": 0.2},
        "pgd 0.5": {"redraw": 0.0, "params": 0.0, "both": 0.0},
    },
}
RETURNS = {"model-based": (0.6, 0.7), "model-free": (0.2, 0.3), "random": (-0.3, -0.2)}
NUMBERS = scr.Numbers(seeds=2, attacks=scr.AttackNumbers(pgd_eps=(0.2, 0.5)))


def verdicts(change=None, returns=RETURNS):
    other = copy.deepcopy(ONE)
    for kind, name, way, value in change or ():
        other[kind][name][way] = value
    return [claim.verdict for claim in scr.claims([ONE, other], returns, NUMBERS)]


def test_claims_by_hand():
    assert verdicts() == [HOLDS] * 10
    assert verdicts([("noise", scr.STRONG, "redraw", 0.64)])[:3] == [FAILS, FAILS, HOLDS]  # means: 0.045, -0.055
    assert verdicts([("noise", scr.CLEAN, "redraw", 0.85)])[2] == FAILS
    assert verdicts([("oblivious", "fgsm", "redraw", 0.49), ("adaptive", "fgsm", "redraw", 0.4)])[3] == FAILS  # each
    assert verdicts([("oblivious", "deepfool", "redraw", 0.29)])[4] == FAILS
    assert verdicts([("adaptive", "pgd 0.2", "both", 0.81)])[5] == FAILS
    assert verdicts([("adaptive", "pgd 0.5", "redraw", 0.11)])[6] == FAILS
    assert verdicts(returns={**RETURNS, "model-based": (0.45, 0.5)})[7:] == [FAILS, HOLDS, HOLDS]
    assert verdicts(returns={**RETURNS, "model-free": (0.5, 0.7)})[7:] == [HOLDS, FAILS, HOLDS]
    assert verdicts(returns={**RETURNS, "random": (0.0, 0.2)})[9] == FAILS


def test_debug_experiment_end_to_end(tmp_path, capsys):
    result = scr.run(scr.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 10
    json.dumps(result.figures)
    shown = capsys.readouterr().out
    assert "adaptive pgd 0.5" in shown
    (found,) = result.figures["reading"]
    assert found["noise"].keys() == {scr.CLEAN, scr.PAPER, scr.STRONG}
    assert set(found["oblivious"]["fgsm"]) == {"raw", "bits", "median", "redraw", "params", "both"}
    assert "raw" not in found["adaptive"]["fgsm"]  # of the plain reader both are the same


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="updates=0"):
        scr.Numbers(updates=0)
    with pytest.raises(UserError, match=r"fgsm_eps=-0\.1: use a finite number of 0 or more"):
        scr.AttackNumbers(fgsm_eps=-0.1)
