"""The experiments on quantization: their claims by hand, their patches, and tiny ones end to end."""

import pytest
import torch

from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import balanced_quantization, pams


def pams_verdicts(**changes):
    psnrs = {"float": (30.0, 31.0), "8-start": (29.8, 30.8), "8-pams": (29.9, 30.9)}
    psnrs |= {"4-pams": (28.5, 29.0), "4-dynamic": (28.2, 28.7)}
    changed = {name.replace("_", "-").lstrip("x"): values for name, values in changes.items()}
    return [claim.verdict for claim in pams.claims(psnrs | changed, pams.Numbers())]


def test_claims_of_pams_by_hand():
    assert pams_verdicts() == [HOLDS] * 3
    assert pams_verdicts(x8_pams=(30.1, 30.8)) == [FAILS, HOLDS, HOLDS]  # the worst seed decides
    assert pams_verdicts(x8_start=(29.6, 31.0)) == [HOLDS, FAILS, HOLDS]
    assert pams_verdicts(x4_dynamic=(25.0, 28.9)) == [HOLDS, HOLDS, FAILS]


def balanced_verdicts(uniform=(98.6, 98.0), mean=(98.0, 98.0), bits_uniform=(1.2, 1.3), bits_mean=(1.99, 1.95)):
    accuracy = {"float": (99.0, 99.4), "uniform": uniform, "mean": mean}
    effective = {"uniform": bits_uniform, "mean": bits_mean}
    found = balanced_quantization.claims(accuracy, effective, balanced_quantization.Numbers())
    return [claim.verdict for claim in found]


def test_claims_of_balanced_quantization_by_hand():
    assert balanced_verdicts() == [HOLDS] * 4
    assert balanced_verdicts(bits_uniform=(1.0, 1.5)) == [FAILS, *[HOLDS] * 3]
    assert balanced_verdicts(bits_mean=(2.0, 1.8)) == [HOLDS, FAILS, HOLDS, HOLDS]
    assert balanced_verdicts(mean=(99.5, 97.8)) == [HOLDS, HOLDS, FAILS, HOLDS]
    assert balanced_verdicts(uniform=(97.4, 99.4)) == [*[HOLDS] * 3, FAILS]


def test_patches_are_the_same_places_of_both_pictures():
    large = torch.rand(2, 3, 60, 56, generator=torch.Generator().manual_seed(0))
    small = large[..., ::2, ::2].contiguous()
    patches = pams.Patches(small, large)
    assert len(patches) == 8 * 2 * 7 * 5
    found = patches.examples(torch.tensor([0, len(patches) - 1, 8 * (35 + 2 * 5 + 3) + 4]))
    assert torch.equal(found["input"][0], small[0, :, :24, :24])
    assert torch.equal(found["target"][0], large[0, :, :48, :48])
    assert torch.equal(found["input"][1], small[1, :, 6:, 4:].flip(1, 2).transpose(1, 2))
    assert torch.equal(found["target"][1], large[1, :, 12:, 8:].flip(1, 2).transpose(1, 2))
    assert torch.equal(found["input"][2], small[1, :, 2:26, 3:27].transpose(1, 2))
    assert torch.equal(found["target"][2], large[1, :, 4:52, 6:54].transpose(1, 2))


def test_luma_counts_whole_levels_and_no_border():
    target = torch.full((1, 3, 10, 10), 100 / 255)
    output = target + 0.4 / 255
    assert float(pams.luma_psnr(output, target)) == 100.0
    output[..., :2, :] = 1.0
    assert float(pams.luma_psnr(output, target)) == 100.0
    grey = target + 10 / 255  # luma runs from 16 to 235: 10 levels are 8.58 of it
    expected = -20 * torch.tensor(10 / 255 * sum(pams.LUMA)).log10()
    assert float(pams.luma_psnr(grey, target)) == pytest.approx(float(expected), abs=1e-3)


@pytest.mark.parametrize("experiment", [pams, balanced_quantization])
def test_debug_experiments_end_to_end(experiment, tmp_path):
    result = experiment.run(experiment.DEBUG, Jobs(tmp_path, parallel=0))
    assert result.seeds == (0,)
    assert set(result.figures["costs"]) <= set(result.figures["psnr" if experiment is pams else "accuracy"])
    costs = result.figures["costs"]
    smaller = "4-pams" if experiment is pams else "mean"
    assert costs[smaller]["bit_operations"] < costs["float"]["bit_operations"]
