"""The experiment on PS-FCN: its claims by hand, what it tests on, and a tiny one end to end."""

import math

import torch

from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import psfcn


def test_claims_by_hand():
    def verdicts(shining, normalized, median):
        plain = {"shining": shining, "least squares": 8.0, "checkers": 10.0}
        found = {"max": [plain], "normalized": [{"checkers": normalized}]}
        lights = [{"median": median, "mean light": 40.0}]
        return [claim.verdict for claim in psfcn.claims(found, lights, psfcn.Numbers(seeds=1))]

    assert verdicts(5.9, 9.0, 19.0) == [HOLDS, HOLDS, HOLDS]
    assert verdicts(6.1, 11.0, 21.0) == [FAILS, FAILS, FAILS]


def test_tested_shapes_are_one_seeds_whatever_their_lights():
    one, other = (psfcn.tested(0, 3, config) for config in (psfcn.SHINES, psfcn.BlobConfig(lights=8)))
    assert torch.equal(one["normals"], other["normals"])
    assert not torch.equal(psfcn.tested(1, 3, psfcn.SHINES)["normals"], one["normals"])


def test_a_tiny_experiment(tmp_path):
    result = psfcn.run(psfcn.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 3
    assert all(math.isfinite(claim.mean) for claim in result.claims)
    assert set(result.figures["max"][0]["lights"]) >= {"median", "mean light", "strengths"}
