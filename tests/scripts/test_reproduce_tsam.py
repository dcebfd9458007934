"""The experiment on TSAM: its claims by hand, what it measures by hand, and tiny ones end to end."""

import json
import math
from typing import Any

import pytest
import torch

from envs.perception.inpainting.clips import Panning
from rlsuite.errors import UserError
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import tsam, tsam_reaching


def test_claims_are_of_the_worst_seed():
    def verdicts(aligned, broken):
        table = {"aligned": aligned, "broken": broken, "warned, broken": (13.8, 15.0), "shift": (14.0, 15.0)}
        return [claim.verdict for claim in tsam.claims(table, tsam.Numbers())]

    assert verdicts((17.0, 18.5), (13.8, 15.0)) == [HOLDS, HOLDS, HOLDS]
    assert verdicts((30.0, 17.9), (20.0, 14.6)) == [FAILS, FAILS, HOLDS]


def test_claims_of_returns():
    def verdicts(clean, filled, patch):
        ends = {"still": (-11.0,), "expert": (-6.0,)}
        found = tsam.reach_claims({"clean": clean, "filled": filled, "patch": patch, **ends})
        return [claim.verdict for claim in found]

    assert verdicts((-8.0,), (-12.0,), (-30.0,)) == [HOLDS, HOLDS, HOLDS]
    assert verdicts((-10.0,), (-9.0,), (-8.0,)) == [FAILS, FAILS, FAILS]


def test_only_holes_are_measured_and_flow_is_broken_alike():
    truth, known = torch.zeros(1, 2, 3, 2, 2), torch.ones(1, 2, 1, 2, 2, dtype=torch.bool)
    known[0, 0, 0, 0, 0] = False
    frames = torch.full_like(truth, 0.5)
    frames[0, 0, :, 0, 0] = 0.1
    assert tsam.hole_decibels(frames, truth, known) == pytest.approx(20.0, abs=1e-4)
    flow = torch.zeros(1, 1, 2, 40, 40), torch.zeros(1, 1, 2, 40, 40)
    one, other = tsam.broken(flow, 2.0, seed=0)
    assert float(one.std()) == pytest.approx(2.0, rel=0.1)
    assert not torch.equal(one, other)
    assert torch.equal(one, tsam.broken(flow, 2.0, seed=0)[0])
    wide = torch.ones(1, 2, 1, 40, 40, dtype=torch.bool)
    wide[..., 10:20, 10:20] = False
    moved = torch.where(wide[:, :1], 3.0, 50.0).expand(1, 1, 2, 40, 40)
    torch.testing.assert_close(tsam.filled_in((moved, moved), wide)[0], torch.full((1, 1, 2, 40, 40), 3.0))


def test_half_of_the_clips_have_noisy_flow():
    plain = Panning(8, 3, hole=2, reach=1)
    index = torch.arange(40)
    found, same = tsam.Warned(plain, 2.0, 1).examples(index), plain.examples(index)
    apart = (found["forward"] - same["forward"]).flatten(1)
    has = apart.any(dim=1)
    assert 10 < int(has.sum()) < 30
    assert float(apart[has].std()) == pytest.approx(2.0, rel=0.05)
    again = tsam.Warned(plain, 2.0, 1).examples(index[5:6])
    assert torch.equal(again["backward"], found["backward"][5:6])
    assert torch.equal(found["frames"], same["frames"])


def test_a_tiny_experiment(tmp_path):
    result = tsam.run(tsam.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 3
    assert all(math.isfinite(claim.mean) for claim in result.claims)
    assert set(result.figures["hole_psnr"]) == {
        "aligned",
        "shift",
        "alone",
        "broken",
        "warned",
        "warned, broken",
        "completed",
        "smooth",
        "last seen",
    }
    json.dumps(result.figures)


@pytest.mark.slow
def test_a_tiny_policy_that_reaches(tmp_path, monkeypatch):
    pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    monkeypatch.setattr(tsam_reaching, "FRAMES", 8)
    found = tsam_reaching.reach("reach", 0, tmp_path, size=16, states=16, taught=1, episodes=1, filled=1)
    assert set(found) == {"still", "expert", "clean", "patch", "filled", "last seen"}
    assert all(math.isfinite(value) for value in found.values())


def test_wrong_numbers_are_refused():
    changes: tuple[dict[str, Any], ...] = (
        {"seeds": 0},
        {"width": 2},
        {"noise": -1.0},
        {"reach_seeds": -1},
        {"learning_rate": 0.0},
    )
    for change in changes:
        with pytest.raises(UserError, match=f"{next(iter(change))}="):
            tsam.Numbers(**change)
