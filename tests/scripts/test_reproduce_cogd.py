"""The CoGD experiment: its claims by hand, and a tiny one end to end."""

import json

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import cogd


def coded(gain=0.1, on=0.2, share=0.25):
    rows = {
        f"{missing:g}": {"plain": {"psnr": 20.0}, "text": {"psnr": 20.1, "sent_back": 0.2}} for missing in cogd.MISSING
    }
    rows[f"{share:g}"]["text"] = {"psnr": 20.0 + gain, "sent_back": on}
    return rows


def pruned(score=97.5, on=0.1):
    return {"prox": {"score": 98.0}, "cogd": {"score": score, "sent_back": on}}


def verdicts(coding, pruning):
    return [claim.verdict for claim in cogd.claims((coded(), coding), (pruned(), pruning), cogd.Numbers())]


def test_claims_by_hand():
    assert verdicts(coded(), pruned()) == [HOLDS] * 5
    assert verdicts(coded(gain=-0.06, share=0.0), pruned()) == [FAILS, *[HOLDS] * 4]
    assert verdicts(coded(gain=-0.6), pruned())[:2] == [FAILS, FAILS]  # (-0.6 + 0.1) / 2 and 0.1
    assert verdicts(coded(gain=-0.02), pruned())[:2] == [HOLDS, HOLDS]
    assert verdicts(coded(on=0.0), pruned(on=0.0))[2:4] == [FAILS, FAILS]
    assert verdicts(coded(), pruned(score=95.6))[4] == FAILS
    assert verdicts(coded(), pruned(score=96.6))[4] == HOLDS


def test_debug_experiment_end_to_end(tmp_path, capsys):
    result = cogd.run(cogd.DEBUG, Jobs(tmp_path, parallel=0))
    (coding,), (pruning,) = result.figures["coding"], result.figures["pruning"]
    assert list(coding) == ["0", "0.25", "0.5"]
    assert all(list(rows) == ["plain", "text", "official"] for rows in coding.values())
    assert list(pruning) == ["before", "control", *cogd.PRUNINGS]
    macs = 9 * (16 * 64 + 16 * 16 * 64 + 16 * 16 * 16) + 16 * 16 * 10  # 16 of 32 channels, maps of 8, 8 and 4
    assert {pruning[arm]["macs"] for arm in cogd.PRUNINGS} == {float(macs)}
    assert pruning["control"]["macs"] == pruning["before"]["macs"] > 2 * macs
    json.dumps(result.figures)
    assert "missing 0.25 official" in capsys.readouterr().out


def test_crops_are_drawn_by_their_seed():
    one, same, other = (cogd.photo_crops(2, seed) for seed in (0, 0, 1))
    assert one.shape == (4, cogd.CROP, cogd.CROP)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    stretched = cogd.scaled(one)
    assert stretched.amin((1, 2)).tolist() == [0.0] * 4
    assert stretched.amax((1, 2)).tolist() == [1.0] * 4


def test_wrong_numbers_are_refused():
    for change in ({"seeds": 0}, {"kernels": 0}, {"ratio": 1.0}):
        with pytest.raises(UserError, match=f"{next(iter(change))}="):
            cogd.Numbers(**change)
