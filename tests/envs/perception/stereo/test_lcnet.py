"""LCNet: classes by hand and back, errors of strengths, sizes, and which of two networks learns when."""

import dataclasses

import pytest
import torch

from envs.perception.stereo.crops import CropConfig
from envs.perception.stereo.lcnet import (
    LEARNS_BEHIND,
    LCNet,
    LCNetConfig,
    Lights,
    Uncalibrated,
    UncalibratedConfig,
    from_classes,
    light_loss,
    strength_error,
    to_classes,
)
from envs.perception.stereo.psfcn import PSFCNNetConfig
from envs.perception.stereo.shading import cone
from rlsuite.config.build import build
from rlsuite.config.compose import plain_values
from rlsuite.metrics.normals import angles


def test_classes_by_hand():
    lights = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [-1.0, 0.0, 1e-6], [0.0, 1.0, 0.0], [0.5, 0.0, 0.75**0.5]])
    found = to_classes(lights, torch.tensor([0.2, 2.0, 1.0, 0.3, 0.28]), 36, 20)
    assert found.azimuth.tolist() == [18, 35, 0, 18, 24]  # 0, 90, -90, 0 and 30 degrees of five each
    assert found.elevation.tolist() == [18, 18, 18, 35, 18]
    assert found.strength.tolist() == [0, 19, 8, 1, 0]
    directions, strengths = from_classes(Lights(*(torch.tensor([value]) for value in (18, 18, 0))), 36, 20)
    assert strengths.tolist() == pytest.approx([0.245])
    assert float(angles(directions, torch.tensor([[0.0, 0.0, 1.0]]))) == pytest.approx(3.535, abs=0.01)


def test_the_middle_of_a_class_is_in_it_and_near(generator):
    lights = cone(torch.rand(500, 2, generator=generator, dtype=torch.float64), 85.0)
    strengths = 0.2 + 1.8 * torch.rand(500, generator=generator)
    classes = to_classes(lights, strengths, 36, 20)
    directions, middle = from_classes(classes, 36, 20)
    assert float(angles(directions, lights).max()) < 2.5 * 2**0.5 + 0.01
    assert float((middle - strengths).abs().max()) <= 0.0451
    again = to_classes(directions, middle, 36, 20)
    assert all(torch.equal(one, other) for one, other in zip(classes, again, strict=True))


def test_strengths_are_known_up_to_a_factor():
    truth = torch.tensor([[1.0, 2.0, 0.5], [1.0, 1.0, 1.0]])
    assert float(strength_error(3.7 * truth, truth).max()) == pytest.approx(0.0, abs=1e-6)
    found = torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 1.0]])
    # the factors are (1 + 2 + 0.5) / 3 and (1 + 2 + 1) / 6
    assert strength_error(found, truth).tolist() == pytest.approx([(1 / 6 + 5 / 12 + 4 / 3) / 3, 1 / 3])


def test_the_loss_is_three_cross_entropies():
    lights, strengths = torch.tensor([[[0.0, 0.0, 1.0]]]), torch.tensor([[0.2]])
    even = Lights(torch.zeros(1, 1, 36), torch.zeros(1, 1, 36), torch.zeros(1, 1, 20))
    expected = 2 * torch.log(torch.tensor(36.0)) + torch.log(torch.tensor(20.0))
    torch.testing.assert_close(light_loss(even, lights, strengths), expected)
    even.azimuth[..., 18] = 50.0
    torch.testing.assert_close(
        light_loss(even, lights, strengths), torch.log(torch.tensor(36.0)) + torch.log(torch.tensor(20.0))
    )


@torch.no_grad()
def test_sizes_order_and_what_all_images_have_in_common(generator):
    network = LCNet(LCNetConfig(width=4, size=128), 0)
    found = network.classifier[:-1](torch.zeros(1, 32, 8, 8))
    assert found.shape == (1, 16, 1, 1)  # the paper's strides end here by themselves
    network = LCNet(LCNetConfig(width=4, size=32), 0)
    images, mask = torch.rand(2, 5, 3, 20, 30, generator=generator), torch.ones(2, 1, 20, 30)
    one = network(images, mask)
    assert [tuple(logits.shape) for logits in one] == [(2, 5, 36), (2, 5, 36), (2, 5, 20)]
    other = network(images.flip(1), mask)
    torch.testing.assert_close(other.azimuth.flip(1), one.azimuth, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(network(images[:, :2], mask).azimuth, one.azimuth[:, :2])
    directions, strengths = network.estimate(images, mask)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(2, 5))
    assert bool(((strengths > 0.2) & (strengths < 2.0)).all())


@pytest.mark.parametrize("behind", LEARNS_BEHIND)
def test_first_the_lights_learn_and_then_the_normals(behind):
    told = build(UncalibratedConfig, plain_values([f"behind={behind}"]))  # as a command line says it
    config = dataclasses.replace(
        told, lights=LCNetConfig(width=2, size=16), normals=PSFCNNetConfig(width=2), crops=CropConfig(lights=3, side=8)
    )
    perceiver = Uncalibrated(config=config, seed=0)
    batch = perceiver.source("", 16, seed=0, kept=4).examples(torch.arange(2))
    assert float(batch["strengths"].std()) > 0
    for share, learns, rests in ((0.0, "lights", "normals"), (0.5, "normals", "lights")):
        perceiver.zero_grad(set_to_none=True)
        perceiver.progress(share)
        losses = perceiver.losses(batch)
        losses["loss"].backward()
        assert float(losses[learns]) > 0 == float(losses[rests])
        for name, weight in perceiver.named_parameters():
            assert (weight.grad is not None) == (f".{learns}." in name), name
