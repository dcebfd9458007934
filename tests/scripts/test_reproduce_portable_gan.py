"""The experiment on portable GANs: claims by hand, arms, and scenes."""

import dataclasses

import pytest
import torch

from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from scripts.experiments import portable_gan
from scripts.experiments.portable_gan import Numbers, claims, draw_scenes, student_config


def row(teacher, scratch, full, real=-7.0):
    iou = {"teacher": teacher, "scratch": scratch, "pixel": 0.0, "full": full}
    sizes = {"teacher": 300.0}
    found = {name: {"iou": value, "parameters": sizes.get(name, 20.0)} for name, value in iou.items()}
    return {**found, "real": {"return": real}, "ends": {"still": -11.0, "expert": -6.0}}


def test_claims_by_hand():
    found = claims((row(80.0, 70.0, 76.0), row(84.0, 80.0, 78.0)), Numbers())
    assert [claim.figures for claim in found] == [(6.0, -2.0), (4.0, 6.0), (15.0, 15.0), (0.8, 0.8)]
    assert [claim.verdict for claim in found] == [HOLDS] * 4
    found = claims((row(80.0, 75.0, 74.0, real=-11.5),), Numbers())  # standing still is no better
    assert [claim.verdict for claim in found] == [FAILS, FAILS, HOLDS, FAILS]


@pytest.mark.parametrize(
    ("arm", "left_out"),
    [
        ("scratch", set()),
        ("pixel", {"adversarial", "perceptual"}),
        ("perceptual", {"adversarial"}),
        ("as_real", {"triplet"}),
        ("full", set()),
        ("gentle", set()),
    ],
)
def test_arms_differ_by_a_part_each(arm, left_out):
    config = student_config(arm)
    weights = dataclasses.asdict(config.weights) | {"adversarial": config.adversarial}
    assert {name for name, weight in weights.items() if weight == 0.0} == left_out


@pytest.mark.slow
def test_scenes_are_drawn():
    first, again, other = draw_scenes(8, 0, "train"), draw_scenes(8, 0, "train"), draw_scenes(8, 0, "test")
    assert torch.equal(first.tensors["target"], again.tensors["target"])
    assert not torch.equal(first.tensors["ids"], other.tensors["ids"])
    assert float(first.tensors["target"].abs().max()) <= 1.0


@pytest.mark.slow
def test_the_experiment_end_to_end(tmp_path):
    result = portable_gan.run(portable_gan.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 4
    (found,) = result.figures["rows"]
    assert set(found) == {"ends", "real", "teacher", *portable_gan.STUDENTS}
    assert found["real"]["distance"] == 0.0
    assert 0.0 <= found["full"]["discriminator/active"] <= 1.0
    assert "discriminator/active" not in found["real"]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 7
