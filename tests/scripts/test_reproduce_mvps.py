"""The experiment on multi-view photometric stereo: its claims by hand, and a tiny one end to end."""

import math

import pytest
import torch
from torch.nn import functional

from envs.perception.stereo.capture import Capture
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import mvps

ONE = {
    "azimuth": 2.0,
    "azimuth, a third gone": 1.0,
    "least squares, a third gone": 2.0,
    "normals": 1.0,
    "least squares": 3.0,
    "contours": 0.5,
    "mesh": 0.4,
    "hull": 1.0,
    "reflectance": 10.0,
}


def test_claims_by_hand():
    def verdicts(**changed):
        found = {name: [ONE, ONE] for name in mvps.MATERIALS}
        found["stripes"] = [ONE, ONE | {name.replace("_", " "): value for name, value in changed.items()}]
        return [claim.verdict for claim in mvps.claims(found, mvps.Numbers())]

    assert verdicts() == [HOLDS] * 7
    assert verdicts(normals=1.6)[0] == FAILS
    assert verdicts(azimuth=3.1)[1] == FAILS
    assert verdicts(contours=1.1)[3] == FAILS
    assert verdicts(mesh=1.6)[4] == FAILS
    assert verdicts(hull=0.1)[5] == FAILS
    assert verdicts(reflectance=16.0)[6] == FAILS


def test_least_squares_leave_out_what_is_in_shadow_or_saturated():
    normal = functional.normalize(torch.tensor([0.2, 0.1, -1.0]), dim=0)
    lights = functional.normalize(
        torch.tensor([[0.0, 0, -1], [1.0, 0, -1], [-1.0, 0, -1], [0.0, 1, -1], [0.0, -1, -1], [1.0, 1, -1]]), dim=1
    )
    shade = 0.5 * lights @ normal
    shade[2], shade[4] = 0.0, 1.0  # a cast shadow, and a highlight
    capture = Capture(
        images=shade.view(1, 6, 1, 1, 1).expand(1, 6, 1, 1, 3),
        masks=torch.ones(1, 1, 1, dtype=torch.bool),
        intrinsics=torch.eye(3),
        rotations=torch.eye(3).unsqueeze(0),
        translations=torch.zeros(1, 3),
        lights=lights.unsqueeze(0),
        strengths=torch.ones(1, 6),
        near=False,
    )
    found = mvps.least_squares_at(capture, 0, torch.zeros(1, 2), torch.tensor([[0.0, 0, 1]]), torch.arange(6))
    torch.testing.assert_close(found[0], normal, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_tiny_experiment(tmp_path):
    pytest.importorskip("skimage", reason="scikit-image is not installed (extra: vision)")
    result = mvps.run(mvps.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 7
    assert all(math.isfinite(claim.mean) for claim in result.claims)
