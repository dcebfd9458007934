"""The experiment on portable GANs: claims by hand, arms, the controller, and scenes."""

import dataclasses

import pytest
import torch

import envs
from rlsuite.experiment import FAILS, HOLDS
from rlsuite.experiment.jobs import Jobs
from rlsuite.scoring import evaluate
from scripts.experiments import portable_gan
from scripts.experiments.portable_gan import Controller, Numbers, claims, draw_scenes, student_config


def row(teacher, scratch, full):
    iou = {"teacher": teacher, "scratch": scratch, "pixel": 0.0, "full": full}
    sizes = {"teacher": 300.0}
    return {name: {"iou": value, "parameters": sizes.get(name, 20.0)} for name, value in iou.items()}


def test_claims_by_hand():
    found = claims((row(80.0, 70.0, 76.0), row(84.0, 80.0, 78.0)), Numbers())
    assert [claim.figures for claim in found] == [(6.0, -2.0), (4.0, 6.0), (15.0, 15.0)]
    assert [claim.verdict for claim in found] == [HOLDS] * 3
    found = claims((row(80.0, 75.0, 74.0),), Numbers())
    assert [claim.verdict for claim in found] == [FAILS, FAILS, HOLDS]


@pytest.mark.parametrize(
    ("arm", "left_out"),
    [
        ("scratch", set()),
        ("pixel", {"adversarial", "perceptual"}),
        ("perceptual", {"adversarial"}),
        ("real", {"triplet"}),
        ("full", set()),
    ],
)
def test_arms_differ_by_a_part_each(arm, left_out):
    config = student_config(arm)
    weights = dataclasses.asdict(config.weights) | {"adversarial": config.adversarial}
    assert {name for name, weight in weights.items() if weight == 0.0} == left_out


@pytest.mark.slow
def test_scenes_are_drawn_and_the_controller_reaches():
    first, again, other = draw_scenes(8, 0, "train"), draw_scenes(8, 0, "train"), draw_scenes(8, 0, "test")
    assert torch.equal(first.tensors["target"], again.tensors["target"])
    assert not torch.equal(first.tensors["ids"], other.tensors["ids"])
    assert float(first.tensors["target"].abs().max()) <= 1.0
    env = envs.make_vector("Reacher", 16, num_threads=1)
    assert evaluate(Controller(), env, seed=0).returns.mean() > -10.0  # random actions: -43
    env.close()


@pytest.mark.slow
def test_the_experiment_end_to_end(tmp_path):
    result = portable_gan.run(portable_gan.DEBUG, Jobs(tmp_path, parallel=0))
    assert len(result.claims) == 3
    (found,) = result.figures["rows"]
    assert set(found) == {"real", "teacher", *portable_gan.STUDENTS}
    assert found["real"]["distance"] == 0.0
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4
