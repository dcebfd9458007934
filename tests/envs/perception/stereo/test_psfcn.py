"""PS-FCN: sizes, order and number of lights, fusion in parts, +N, its loss by hand, and that it learns."""

import pytest
import torch

from envs.perception.stereo.crops import CropConfig
from envs.perception.stereo.psfcn import PSFCN, PSFCNConfig, PSFCNNet, PSFCNNetConfig, cosine_loss, normalize
from envs.perception.stereo.shading import cone, shade
from envs.perception.weights import build_perceiver, choose_perceivers, save_perceiver
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig, fit


def seen(generator, count, size=12, batch=2):
    lights = cone(torch.rand(batch, count, 2, generator=generator), 70.0)
    return torch.rand(batch, count, 3, size, size, generator=generator), lights


def test_the_papers_network_has_the_papers_weights():
    assert sum(weight.numel() for weight in PSFCNNet(PSFCNNetConfig(width=64), 0).parameters()) == 2_210_048


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["max", "mean"])
@pytest.mark.parametrize("normalized", [False, True])
def test_neither_order_nor_number_nor_parts_matter(generator, fusion, normalized):
    network = PSFCNNet(PSFCNNetConfig(width=4, fusion=fusion, normalized=normalized), 1)
    for count in (8, 16, 32):
        images, lights = seen(generator, count)
        whole = network(images, lights)
        torch.testing.assert_close(whole.norm(dim=1), torch.ones(2, 12, 12))
        order = torch.randperm(count, generator=generator)
        torch.testing.assert_close(network(images[:, order], lights[:, order]), whole, atol=1e-5, rtol=1e-5)
        for at_once in (1, 5):
            torch.testing.assert_close(network(images, lights, at_once), whole, atol=1e-5, rtol=1e-5)
    other = network(images, lights.flip(1))  # of another light than an image's own
    assert float((other - whole).abs().max()) > 1e-3


@torch.no_grad()
def test_sides_that_are_no_multiples_of_four_and_a_network_without_lights(generator):
    images, lights = torch.rand(1, 3, 3, 9, 14, generator=generator), cone(torch.rand(1, 3, 2), 50.0)
    assert PSFCNNet(PSFCNNetConfig(width=4), 0)(images, lights).shape == (1, 3, 9, 14)
    assert PSFCNNet(PSFCNNetConfig(width=4, lights=False), 0)(images).shape == (1, 3, 9, 14)
    with pytest.raises(ValueError, match="told its lights"):
        PSFCNNet(PSFCNNetConfig(width=4), 0)(images)


def test_normalizing_cancels_a_lambertian_albedo(generator):
    normals = torch.nn.functional.normalize(torch.randn(1, 3, 4, 4, generator=generator), dim=1)
    lights = cone(torch.rand(1, 9, 2, generator=generator), 60.0)
    albedo = 0.1 + torch.rand(1, 3, 4, 4, generator=generator)
    dark = torch.zeros(1), torch.ones(1)
    one, other = (normalize(shade(normals, lights, color, *dark)) for color in (albedo, torch.ones(1, 3, 1, 1)))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    squares = one.square().sum(dim=1)
    assert bool((((squares - 1).abs() < 1e-3) | (squares < 1e-6)).all())  # or in no light at all


def test_the_loss_by_hand_counts_the_object_alone():
    found = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 1, 3)
    truth = torch.tensor([[0.0, 0.6, 1.0], [0.0, 0.0, 0.0], [1.0, 0.8, 0.0]]).view(1, 3, 1, 3)
    mask = torch.tensor([1.0, 1.0, 0.0]).view(1, 1, 1, 3)
    assert float(cosine_loss(found, truth, mask)) == pytest.approx(0.1)


def perceiver():
    crops = CropConfig(lights=4, side=8, rescaled=False)
    return PSFCN(config=PSFCNConfig(network=PSFCNNetConfig(width=4), crops=crops), seed=0)


def test_it_learns_blobs_from_examples_that_it_makes():
    learner = perceiver()
    source = learner.source("", 16, seed=0, kept=20)
    settings = FitConfig(steps=30, batch_size=4, order="random", check_every=10)
    history = fit(learner, lambda module, batch: learner.losses(batch), source, settings, seed=0)
    first, last = history.records[0], history.records[-1]
    assert last["loss"] < 0.8 * first["loss"]
    assert 0 < last["degrees"] < first["degrees"]
    with pytest.raises(UserError, match="do not tell their lights"):
        learner.source("", 16, 0, clips=[torch.zeros(7, 3, 16, 16)])


@torch.no_grad()
def test_a_perceiver_from_a_file_sees_flashes(tmp_path, generator):
    (method,) = choose_perceivers(["stereo/psfcn"], {"psfcn.network.width": 4})
    save_perceiver(tmp_path / "file.safetensors", method.build(seed=2), method)
    (read,) = choose_perceivers(["stereo/psfcn"], {"psfcn.weights": str(tmp_path / "file.safetensors")})
    built = build_perceiver(read)
    flashes = torch.rand(2, 48, 8, 8, generator=generator)
    ids = torch.randint(-1, 3, (2, 1, 8, 8), generator=generator)
    found, state = built({"flashes": flashes, "ids": ids}, {})
    there = (ids[:, 0] >= 0).float()
    torch.testing.assert_close(found["normals"].norm(dim=1), there)
    assert state == {}
    assert torch.equal(built({"flashes": flashes * (ids >= 0), "ids": ids}, {})[0]["normals"], found["normals"])
    truth = {"normals": torch.where(ids >= 0, -found["normals"], 0.0)}
    torch.testing.assert_close(built.metrics(found, truth)["degrees"], torch.full((2,), 180.0))
