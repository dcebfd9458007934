"""The experiment on M-LVC: its claims by hand, what comes to light, JPEG's bits between qualities, a tiny run."""

import math

import pytest
import torch

from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import m_lvc
from scripts.experiments import m_lvc_streams as streams

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


def claims(**changed):
    found = {"whole": ({**WHOLE, **changed},), **{arm: (one,) for arm, one in OTHERS.items()}}
    return m_lvc.claims(found, m_lvc.Numbers())


def verdicts(**changed):
    return [claim.verdict for claim in claims(**changed)]


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
    coders = [streams.JPEG(config=streams.JPEGConfig(quality=quality)) for quality in (50, 60)]
    data = [coder.compress(noisy[0]) for coder in coders]
    errors = [streams.squared_error(coder.decompress(one), noisy[0]) for coder, one in zip(coders, data, strict=True)]
    low, high = (8 * len(one) / (64 * 64 * 7) for one in data)
    points = streams.jpeg_points(noisy)
    assert len(points) == len(streams.QUALITIES)
    assert streams.jpeg_bits(points, errors[1]) == pytest.approx(high)
    half = math.sqrt(errors[0] * errors[1])  # half-way in dB
    assert streams.jpeg_bits(points, half) == pytest.approx(0.5 * (low + high), rel=1e-6)


def test_there_are_no_bits_where_jpeg_does_not_err_so():
    points = [(20.0, 0.5), (30.0, 1.5)]
    assert streams.jpeg_bits(points, 10**-2.5) == pytest.approx(1.0)
    assert streams.jpeg_bits(points, 10**-2.0) == pytest.approx(0.5)
    assert streams.jpeg_bits(points, 10**-1.99) is None  # lower than its lowest
    assert streams.jpeg_bits(points, 10**-3.01) is None
    assert verdicts(jpeg_ratio=None) == [HOLDS] * 6 + [FAILS]
    assert claims(jpeg_ratio=None)[-1].figures == (0.0,)  # one that is not finite cannot be written


def test_what_true_motion_alone_would_give():
    """Uniform frames that get brighter by 51 of 255 each: warping brings back the first one, whatever the motion."""
    levels = torch.tensor([0, 51, 102], dtype=torch.uint8)
    frames = levels.view(1, 3, 1, 1, 1).expand(2, 3, 3, 64, 64)
    codec = m_lvc.built(m_lvc.MLVCNetConfig(divisor=8), 0)
    found = m_lvc.warped_figures(codec, {"frames": frames, "flow": torch.ones(2, 2, 2, 64, 64)})
    assert found["warped_distortion"] == pytest.approx((51**2 + 102**2) / 2, rel=0.02)


@pytest.mark.slow
def test_a_tiny_experiment(tmp_path):
    result = m_lvc.run(m_lvc.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 7
    assert all(math.isfinite(claim.mean) for claim in result.claims[:-1])  # JPEG may not err so much
    assert [claim.verdict for claim in result.claims[4:6]] == [HOLDS, HOLDS]
