"""The experiment on RIFE: its claim by hand, what it measures by hand, and a tiny one end to end."""

import math

import pytest
import torch

from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import rife, rife_clips


def test_the_claim_is_of_the_worst_seed():
    def verdict(*values):
        psnrs = {"rife": values, "average": (20.0, 21.0)}
        return [claim.verdict for claim in rife.claims(psnrs, rife.Numbers())]

    assert verdict(22.0, 23.5) == [HOLDS]
    assert verdict(30.0, 22.9) == [FAILS]


def test_only_what_moves_counts():
    first = torch.zeros(2, 3, 4, 4)
    second = first.clone()
    second[0, 1, :2] = 0.5  # one channel is enough
    tested = {"first": first, "second": second, "middle": torch.zeros(2, 3, 4, 4)}
    frames = torch.full((2, 3, 4, 4), 0.5)
    frames[0, :, :2] = 0.1
    assert rife.moving_psnr(frames, tested) == pytest.approx(20.0, abs=1e-4)


def test_end_point_errors_of_both_flows():
    flow = torch.tensor([3.0, 4.0, 0.0, 1.0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    assert rife.flow_error(flow, {"flow": torch.zeros(1, 4, 2, 2)}) == pytest.approx(3.0)


def test_tested_examples_differ_by_seed_and_are_in_no_training():
    one, same, other = (rife.held_out(seed, 2, 4) for seed in (0, 0, 1))
    assert torch.equal(one["middle"], same["middle"])
    assert not torch.equal(one["middle"], other["middle"])
    assert float(one["first"].max()) <= 1.0
    assert one["flow"].abs().max() > 0


def test_a_tiny_experiment(tmp_path, monkeypatch):
    monkeypatch.delenv(rife_clips.VARIABLE, raising=False)
    result = rife.run(rife.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 1
    assert math.isfinite(result.claims[0].mean)
    assert result.figures["clips"] == {}
    assert set(result.figures["psnr"]) == {"rife", "undistilled", "shipped", "average", "repeat", "dis"}


def test_clips_are_measured_where_they_are(tmp_path, monkeypatch):
    frames = torch.stack([torch.full((3, 32, 48), 100 + 20 * number, dtype=torch.uint8) for number in range(5)])
    monkeypatch.setattr(rife_clips, "held_out", lambda folder, made: {"steps": frames})
    found = rife_clips.measure("average", 0, tmp_path, str(tmp_path), 2, "")
    assert found["psnr"]["steps"] == pytest.approx(100.0)  # a ramp's middle is its average
    nearer = rife_clips.measure("repeat", 0, tmp_path, str(tmp_path), 2, "")
    assert nearer["psnr"]["steps"] == pytest.approx(-20 * math.log10(20 / 255), abs=1e-4)


@pytest.mark.skipif(rife_clips.MINTERPOLATE not in rife_clips.methods(), reason="this PyAV has no minterpolate")
def test_minterpolate_gives_the_frames_in_between():
    frames = torch.full((9, 3, 64, 96), 60, dtype=torch.uint8)
    for number in range(9):
        frames[number, :, 20:44, 8 + 4 * number : 32 + 4 * number] = 200
    made = rife_clips.minterpolated(frames[::2])
    assert made.shape == (4, 3, 64, 96)
    error = (made - frames[1::2] / 255.0).abs().mean(dim=(1, 2, 3))
    unmoved = (frames[:-1:2] / 255.0 - frames[1::2] / 255.0).abs().mean(dim=(1, 2, 3))
    assert bool((error[1:3] < unmoved[1:3]).all())  # it needs frames around, and starts and ends worse


def test_real_scenes_hold_out_every_second_frame(tmp_path):
    assert rife_clips.held_out(tmp_path, 3) == {}
