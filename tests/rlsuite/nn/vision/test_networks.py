"""Conformance of every network in the catalogue, and what each is by its paper."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from rlsuite import methods
from rlsuite.errors import UserError
from rlsuite.nn.vision import NETWORKS
from rlsuite.nn.vision.blocks import BasicBlock, WeightNormConv2d, draw_weights
from rlsuite.nn.vision.doors import FromBytes, Site, sides, sites
from rlsuite.nn.vision.edsr import EDSR, EDSRConfig
from rlsuite.nn.vision.resnet import ResNet20, ResNetConfig
from rlsuite.nn.vision.u_net import UNet, UNetConfig

DENSE = {"u_net": 1, "edsr": 2}  # networks that return pictures, and how many times larger
SIZES = [(8, 8), (13, 9), (1, 5)]


def network(name, size=(13, 9), seed=0, **config):
    (method,) = methods.choose(NETWORKS, (name,), {f"{name}.{key}": value for key, value in config.items()})
    return method.build(3, size, 3, seed=seed)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_have_their_shape_at_odd_sizes(name, size, batch, generator):
    pictures = torch.rand(batch, 3, *size, generator=generator)
    outputs = network(name, size).eval()(pictures)
    assert outputs.shape == (batch, 3, *(side * DENSE[name] for side in size)) if name in DENSE else (batch, 3)
    assert outputs.dtype == torch.float32
    assert torch.isfinite(outputs).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_equal_seeds_give_equal_bits_and_others_do_not(name):
    torch.manual_seed(1)
    first = network(name).state_dict()
    torch.manual_seed(2)
    again, other = network(name).state_dict(), network(name, seed=1).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", NETWORKS)
def test_bytes_and_floats_are_the_same_picture(name, generator):
    picture = torch.randint(256, (2, 3, 13, 9), dtype=torch.uint8, generator=generator)
    net = network(name).eval()
    assert torch.equal(net(picture), net(picture.float() / 255))
    with pytest.raises(TypeError, match="uint8"):
        net(picture.long())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_does_not_depend_on_the_others(name, generator):
    pictures = torch.rand(4, 3, 13, 9, generator=generator)
    net = network(name).eval()
    torch.testing.assert_close(net(pictures)[2:3], net(pictures[2:3]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_learns_and_the_loss_falls(name, generator):
    pictures = torch.rand(8, 3, 13, 9, generator=generator)
    net = network(name)
    with torch.no_grad():
        truth = 0.5 * net(pictures) + 0.3
    optimizer, losses = torch.optim.Adam(net.parameters(), 1e-3), []
    for _ in range(30):
        loss = functional.mse_loss(net(pictures), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in net.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_configs_round_trip_and_refuse_what_they_do_not_know(name):
    chosen = methods.choose(NETWORKS, (name,), {})
    assert methods.from_plain(NETWORKS, methods.to_plain(chosen)) == chosen
    with pytest.raises(UserError, match=f"unknown key '{name}.nonsense'"):
        methods.choose(NETWORKS, (name,), {f"{name}.nonsense": 1})
    first = dataclasses.fields(chosen[0].config)[0]
    bad = [0] if isinstance(getattr(chosen[0].config, first.name), tuple) else 0
    with pytest.raises(UserError, match="or more"):
        methods.choose(NETWORKS, (name,), {f"{name}.{first.name}": bad})


def test_no_network_needs_torchvision():
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "from rlsuite import methods; from rlsuite.nn.vision import NETWORKS\n"
        "print([method.build(3, 8, 3, seed=0).__class__.__name__ for method in methods.choose(NETWORKS, NETWORKS, {})])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count(",") == len(NETWORKS) - 1


def test_resnet_20_has_the_known_number_of_weights():
    """With projections: 272,474 for 10 classes of colour pictures."""
    assert sum(weight.numel() for weight in ResNet20(3, 32, 10, ResNetConfig(), 0).parameters()) == 272_474


def test_an_untrained_edsr_is_bicubic_enlargement(generator):
    picture = torch.rand(2, 3, 7, 10, generator=generator)
    for scale in (2, 3, 4):
        enlarged = functional.interpolate(picture, scale_factor=scale, mode="bicubic")
        assert torch.equal(EDSR(3, 8, 3, EDSRConfig(scale=scale), 0)(picture), enlarged)
    assert torch.equal(EDSR(3, 8, 3, EDSRConfig(scale=1), 0)(picture), picture)
    with pytest.raises(UserError, match="outputs=1"):
        EDSR(3, 8, 1, EDSRConfig(), 0)


def test_a_u_net_sees_far_and_keeps_places(generator):
    """A pixel's output depends on the pixel itself and on ones far away, not on what lies beyond the cut padding."""
    net = UNet(1, 16, 1, UNetConfig(width=4, levels=2), 0)
    picture = torch.rand(1, 1, 16, 16, generator=generator).requires_grad_()
    (gradient,) = torch.autograd.grad(net(picture)[0, 0, 3, 3], picture)
    assert gradient[0, 0, 3, 3].abs() > 0
    assert gradient[0, 0, 11, 3].abs() > 0
    odd = picture.detach()[:, :, :13, :11]
    padded = functional.pad(odd, (0, 1, 0, 3), mode="replicate")
    assert torch.equal(net(odd), net(padded)[:, :, :13, :11])


def test_sites_pass_on_what_comes_and_show_it_to_what_hangs_there(generator):
    net = network("edsr", blocks=2)
    keys, picture = list(net.state_dict()), torch.rand(1, 3, 8, 8, generator=generator)
    draw_weights(net, 3)
    assert list(sites(net)) == [f"body.{block}.{kind}" for block in (0, 1) for kind in Site.KINDS]
    before, seen = net(picture), []

    class Meter(torch.nn.Module):
        def forward(self, inputs):
            seen.append(inputs)
            return 0 * inputs

    site = sites(net, "branch")["body.0.branch"]
    site.hang("meter", Meter())
    assert not torch.equal(net(picture), before)
    assert seen[0].shape == (1, site.channels, 8, 8)
    with pytest.raises(ValueError, match="hangs at this site already"):
        site.hang("meter", Meter())
    del site.hung["meter"]
    assert torch.equal(net(picture), before)
    assert list(net.state_dict()) == keys
    with pytest.raises(ValueError, match="input, branch, skip, sum"):
        Site("middle", 3)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_basic_block_is_its_formula(batch_norm, generator):
    block = BasicBlock(3, 4, 2, batch_norm=batch_norm).eval()
    inputs = torch.rand(2, 3, 5, 5, generator=generator)
    branch = block.second(block.inner(block.first(inputs)))
    torch.testing.assert_close(block(inputs), (branch + block.shortcut(inputs)).relu())
    assert block(inputs).shape == (2, 4, 3, 3)
    assert {site.kind for site in sites(block).values()} == set(Site.KINDS)


def test_drawn_weights_have_hes_deviation():
    layer = WeightNormConv2d(64, 256, 3)
    draw_weights(layer, 0)
    assert float(layer.weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.01)
    assert not layer.bias.any()
    torch.testing.assert_close(layer.scale.flatten(), layer.weight.flatten(1).norm(dim=1))


def test_doors():
    assert FromBytes()(torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)).flatten().tolist() == [
        0.0,
        pytest.approx(0.2),
        1.0,
    ]
    assert sides(7) == (7, 7)
    assert sides((3, 4)) == (3, 4)
    with pytest.raises(UserError, match="size=0"):
        sides(0)
