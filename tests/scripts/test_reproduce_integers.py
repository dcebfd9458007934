"""The experiments on whole numbers: their claims by hand, a float64 reference, and tiny ones end to end."""

import pytest
import torch

from envs.evaluation.quantization.bn_chain import Channels
from envs.evaluation.quantization.fixed_point import Stairs, search
from envs.evaluation.quantization.integer import Affine
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import bn_quantization, brelu


def brelu_verdicts(differing=0, actor=(0.99, 0.96), **changes):
    accuracy = {"float": (99.0, 98.0), "3-naive": (80.0, 90.0), "3-0.99977": (83.0, 92.5)}
    accuracy |= {"3-0.99": (90.0, 95.0), "127-0.99977": (99.2, 97.5)}
    accuracy |= {name.lstrip("x").replace("_", "."): values for name, values in changes.items()}
    accuracy = {name.replace("3.0", "3-0").replace("127.0", "127-0"): values for name, values in accuracy.items()}
    found = brelu.claims(accuracy, {"actor": actor, "painter": (0.98, 0.99)}, differing, brelu.Numbers())
    return [claim.verdict for claim in found]


def test_claims_of_brelu_by_hand():
    assert brelu_verdicts() == [HOLDS] * 6
    assert brelu_verdicts(x3_0_99977=(81.9, 99.0)) == [FAILS, *[HOLDS] * 5]  # the worst seed decides
    assert brelu_verdicts(x3_0_99=(99.0, 93.9)) == [HOLDS, FAILS, *[HOLDS] * 4]
    assert brelu_verdicts(x127_0_99977=(98.3, 98.0)) == [HOLDS, HOLDS, FAILS, *[HOLDS] * 3]
    assert brelu_verdicts(actor=(1.2, 0.94)) == [*[HOLDS] * 3, FAILS, HOLDS, HOLDS]
    assert brelu_verdicts(differing=1) == [*[HOLDS] * 5, FAILS]


def certificate(**changes):
    layer = {"mismatches": 0, "own_shift": 10.0, "alone_shift": 12.0, "accumulator_bits": 30, "channels": 3}
    return {"layers": [layer, layer | {"own_shift": 14.0, "alone_shift": 15.0, "channels": 1} | changes]}


def fixed_verdicts(one, strokes=0):
    found = {"digits-2": [certificate(), one], "painter-8": [one | {"strokes_differ": strokes}]}
    return [claim.verdict for claim in bn_quantization.claims(found, bn_quantization.Numbers())]


def test_claims_of_fixed_point_by_hand():
    assert fixed_verdicts(certificate()) == [HOLDS] * 7
    assert fixed_verdicts(certificate(mismatches=1)) == [FAILS, HOLDS, HOLDS, FAILS, HOLDS, HOLDS, HOLDS]
    # (3 * 2 + (alone - 14)) / 4 is what is saved
    assert fixed_verdicts(certificate(alone_shift=11.9))[1] == FAILS
    assert fixed_verdicts(certificate(alone_shift=12.1))[1] == HOLDS
    assert fixed_verdicts(certificate(accumulator_bits=33))[2] == FAILS
    assert fixed_verdicts(certificate(), strokes=1)[-1] == FAILS


def test_the_reference_is_the_floor_of_float64_numbers():
    stairs = Stairs.of(0.37, -1.2, -50, 50, 0, 255)
    made = search(stairs)
    step = Affine(0)
    step.fill(made.multiplier, made.offset - (128 << made.shift), made.shift, low=-128, high=127, least=-50, most=50)
    reference = bn_quantization.FloatAffine(step, Channels("layer", [stairs], [made]))
    sums = torch.arange(-50, 51, dtype=torch.int32).unsqueeze(1)
    assert torch.equal(reference(sums), step(sums))
    assert reference(sums).dtype == torch.int8
    assert (reference(sums).flatten() + 128).tolist() == [stairs.at(x) for x in range(-50, 51)]


@pytest.mark.parametrize("experiment", [brelu, bn_quantization])
def test_debug_experiments_of_whole_numbers_end_to_end(experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = experiment.run(experiment.DEBUG, Jobs(tmp_path, parallel=0))
    assert result.seeds == (0,)
    if experiment is brelu:
        costs = result.figures["costs"]["painter"]
        assert costs["int8"] < costs["float"]
        assert result.figures["disagreements"] == 0
    else:
        found = result.figures["found"]
        assert all(layer["mismatches"] == 0 for one in found.values() for layer in one[0]["layers"])
        assert found["painter-2"][0]["strokes_differ"] == 0
        assert found["painter-2"][0]["strokes"] == 4 * 65
