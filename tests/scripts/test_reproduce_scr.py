"""The scr experiment: its claims by hand, and a tiny one end to end."""

import copy
import dataclasses
import json

import numpy as np
import pytest

from envs.characters.glyphs import glyph_pool
from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import scr
from scripts.experiments.scr_mnist import mnist_claims
from scripts.experiments.scr_reading import spread

ONE = {
    "noise": {scr.CLEAN: {"raw": 0.97, "redraw": 0.95}, scr.STRONG: {"raw": 0.7, "median": 0.8, "redraw": 0.85}},
    "oblivious": {
        "fgsm": {"raw": 0.3, "redraw": 0.8, "params": 0.8, "both": 0.8},
        "deepfool": {"raw": 0.1, "redraw": 0.7},
        "cw2": {"median": 0.7, "redraw": 0.7},
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
    assert verdicts() == [HOLDS] * 11
    assert verdicts([("noise", scr.STRONG, "redraw", 0.64)])[:3] == [FAILS, FAILS, HOLDS]  # means: 0.045, -0.055
    assert verdicts([("noise", scr.CLEAN, "redraw", 0.85)])[2] == FAILS
    assert verdicts([("oblivious", "fgsm", "redraw", 0.49), ("adaptive", "fgsm", "redraw", 0.4)])[3] == FAILS  # each
    assert verdicts([("oblivious", "deepfool", "redraw", 0.29)])[4] == FAILS
    assert verdicts([("oblivious", "cw2", "redraw", 0.69)])[5] == FAILS
    assert verdicts([("adaptive", "pgd 0.2", "both", 0.81)])[6] == FAILS
    assert verdicts([("adaptive", "pgd 0.5", "redraw", 0.11)])[7] == FAILS
    assert verdicts(returns={**RETURNS, "model-based": (0.45, 0.5)})[8:] == [FAILS, HOLDS, HOLDS]
    assert verdicts(returns={**RETURNS, "model-free": (0.5, 0.7)})[8:] == [HOLDS, FAILS, HOLDS]
    assert verdicts(returns={**RETURNS, "random": (0.0, 0.2)})[10] == FAILS


def test_debug_experiment_end_to_end(tmp_path, capsys):
    result = scr.run(scr.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 11
    json.dumps(result.figures)
    shown = capsys.readouterr().out
    assert "adaptive pgd 0.5" in shown
    (found,) = result.figures["reading"]
    assert found["noise"].keys() == {scr.CLEAN, scr.PAPER, scr.STRONG}
    assert set(found["oblivious"]["fgsm"]) == {"raw", "bits", "median", "redraw", "params", "both"}
    assert "raw" not in found["adaptive"]["fgsm"]  # of the plain reader both are the same
    assert found["adaptive"].keys() == found["oblivious"].keys()  # none stands without the other
    assert found["norms"]["cw2"].keys() == {"raw", "redraw"}


def test_claims_of_mnist_by_hand():
    reading = [
        {
            "noise": {scr.CLEAN: {"redraw": clean}},
            "oblivious": {"fgsm": {"raw": 0.6, "redraw": 0.86}, "cw2": {"raw": 0.0, "redraw": cw2, "median": 0.855}},
        }
        for clean, cw2 in ((0.98, 0.86), (0.95, 0.85))
    ]
    found = mnist_claims(reading, scr.Numbers().mnist)
    assert [claim.verdict for claim in found] == [FAILS, HOLDS, HOLDS, HOLDS, HOLDS, HOLDS]
    reading[1]["oblivious"]["cw2"].update(raw=0.11, redraw=0.83)
    assert [claim.verdict for claim in mnist_claims(reading, scr.Numbers().mnist)][3:] == [FAILS, FAILS, FAILS]


def test_tested_pictures_are_of_all_of_a_sorted_set():
    assert spread(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert spread(7, 3).tolist() == [0, 2, 4]
    assert spread(3, 9).tolist() == [0, 1, 2]


def test_mnist_end_to_end(tmp_path, monkeypatch, capsys):
    """Of a few digits of its own; without the files it is refused before anything is taught."""
    numbers = dataclasses.replace(scr.DEBUG, data="mnist", attacks=dataclasses.replace(scr.DEBUG.attacks, tested=4))
    monkeypatch.setenv("RLSUITE_DATA", str(tmp_path / "nowhere"))
    glyph_pool.cache_clear()
    with pytest.raises(UserError, match="RLSUITE_DATA"):
        scr.run(numbers, Jobs(tmp_path / "jobs", parallel=0))
    assert not list((tmp_path / "jobs").glob("*"))
    generator = np.random.default_rng(0)
    arrays = {f"{part}_images": generator.integers(0, 256, (12, 28, 28), np.uint8) for part in ("train", "test")}
    arrays |= {f"{part}_labels": np.arange(12, dtype=np.uint8) % 10 for part in ("train", "test")}
    np.savez(tmp_path / "mnist.npz", **arrays)
    monkeypatch.setenv("RLSUITE_DATA", str(tmp_path))
    result = scr.run(numbers, Jobs(tmp_path / "jobs", parallel=0))
    glyph_pool.cache_clear()
    assert len(result.claims) == 6
    assert "returns" not in result.figures
    assert "oblivious cw2" in capsys.readouterr().out


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="updates=0"):
        scr.Numbers(updates=0)
    with pytest.raises(UserError, match=r"fgsm_eps=-0\.1: use a finite number of 0 or more"):
        scr.AttackNumbers(fgsm_eps=-0.1)
