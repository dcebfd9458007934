"""The experiment on multi-view photometric stereo: its claims by hand, and a tiny one end to end."""

import math

import pytest

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


@pytest.mark.slow
def test_a_tiny_experiment(tmp_path):
    pytest.importorskip("skimage", reason="scikit-image is not installed (extra: vision)")
    result = mvps.run(mvps.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 7
    assert all(math.isfinite(claim.mean) for claim in result.claims)
