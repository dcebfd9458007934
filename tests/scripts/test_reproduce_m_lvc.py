"""The experiment on M-LVC: its claims by hand, what comes to light, JPEG's bits between qualities, a tiny run."""

import math

import pytest
import torch

from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import m_lvc

WHOLE = {
    "motion_bpp": 0.09,
    "motion_error": 0.5,
    "four_references_db": 30.2,
    "one_reference_db": 29.9,
    "cost": 40.0,
    "bytes_share": 0.01,
    "exact": 1.0,
    "jpeg_ratio": 2.5,
}
OTHERS = {"direct": {"motion_bpp": 0.1001, "motion_error": 0.5}, "unrefined": {"cost": 41.0}}


def verdicts(**changed):
    found = {"whole": ({**WHOLE, **changed},), **{arm: (one,) for arm, one in OTHERS.items()}}
    return [claim.verdict for claim in m_lvc.claims(found, m_lvc.Numbers())]


def test_the_claims_by_hand():
    assert verdicts() == [HOLDS] * 7
    worse = {
        "motion_bpp": 0.0905,
        "motion_error": 0.53,
        "one_reference_db": 30.01,
        "cost": 41.1,
        "bytes_share": 0.021,
        "exact": 0.9,
        "jpeg_ratio": 1.99,
    }
    for place, (name, value) in enumerate(worse.items()):
        assert verdicts(**{name: value}) == [FAILS if number == place else HOLDS for number in range(7)]


def test_frames_count_where_true_motion_does_not_explain_a_hundredth():
    last = torch.full((2, 3, 10, 10), 0.5)
    frame = last.clone()
    frame[1, 2, 4, 4] = 0.65  # one pixel of a hundred, in one color
    assert m_lvc.comes_to_light(last, frame, torch.zeros(2, 2, 10, 10)).tolist() == [False, True]


def test_jpegs_bits_lie_between_those_of_two_qualities(generator):
    coarse = torch.randint(0, 256, (1, 7, 3, 8, 8), generator=generator, dtype=torch.uint8)
    clips = coarse.repeat_interleave(8, 3).repeat_interleave(8, 4)
    noisy = (clips.float() + 20 * torch.randn(clips.shape, generator=generator)).clamp(0, 255).to(torch.uint8)
    coders = [m_lvc.JPEG(config=m_lvc.JPEGConfig(quality=quality)) for quality in (50, 60)]
    data = [coder.compress(noisy[0]) for coder in coders]
    errors = [m_lvc.squared_error(coder.decompress(one), noisy[0]) for coder, one in zip(coders, data, strict=True)]
    low, high = (8 * len(one) / (64 * 64 * 7) for one in data)
    assert m_lvc.jpeg_bits(noisy, errors[1]) == pytest.approx(high)
    half = math.sqrt(errors[0] * errors[1])  # half-way in dB
    assert m_lvc.jpeg_bits(noisy, half) == pytest.approx(0.5 * (low + high), rel=1e-6)


@pytest.mark.slow
def test_a_tiny_experiment(tmp_path):
    result = m_lvc.run(m_lvc.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 7
    assert all(math.isfinite(claim.mean) for claim in result.claims)
    assert [claim.verdict for claim in result.claims[4:6]] == [HOLDS, HOLDS]
