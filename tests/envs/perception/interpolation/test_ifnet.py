"""RIFE's networks: sizes, units of flow, who teaches whom, pictures of any size."""

import pytest
import torch
from torch import nn

from envs.perception.interpolation.ifnet import IFBlock, IFNet, Stage, Teacher
from envs.perception.interpolation.losses import distillation
from envs.perception.interpolation.network import RIFENet, RIFENetConfig
from envs.perception.interpolation.refinement import ContextNet
from rlsuite.errors import UserError

SMALL = RIFENetConfig(widths=(8, 8, 8), context=2)


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def test_the_papers_sizes():
    network = RIFENet(RIFENetConfig(widths=(240, 150, 90), context=16, timed=False))
    assert [count(block) for block in network.flow_net.blocks] == [4_436_645, 1_747_580, 635_450]
    assert (count(network.context), count(network.fusion), count(network)) == (294_000, 2_957_875, 10_071_550)
    assert count(Teacher(90, False)) == 636_665


@pytest.mark.parametrize("timed", [False, True])
def test_what_blocks_see(timed):
    network = IFNet((8, 8, 8), (4.0, 2.0, 1.0), timed)
    seen = [block.reduce[0][0].in_channels for block in network.blocks]
    assert seen == [6 + timed, 17 + timed, 17 + timed]
    assert Teacher(8, timed).block.reduce[0][0].in_channels == 20 + timed


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("scale", [4.0, 2.0, 1.0, 0.5])
def test_flow_is_in_pixels_of_the_whole_picture(scale, large):
    block = IFBlock(6, 8, large)
    nn.init.zeros_(block.head.weight)
    block.head.bias.data.copy_(torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]))
    flow, mask = block(torch.rand(1, 6, 64, 64), None, scale)
    assert flow.shape == (1, 4, 64, 64)
    pixels = scale * (1 if large else 2)
    torch.testing.assert_close(flow[0, :, 5, 9], pixels * torch.tensor([1.0, -2.0, 0.5, 0.0]))
    torch.testing.assert_close(mask, torch.full((1, 1, 64, 64), 3.0))  # no length: it does not grow


def test_later_blocks_add_to_flow_and_mask():
    network = IFNet((8, 8, 8), (4.0, 2.0, 1.0), timed=True)
    for block in network.blocks:
        nn.init.zeros_(block.head.weight)
        block.head.bias.data.fill_(0.25)
    frames = torch.rand(2, 1, 3, 64, 64)
    stages = network(frames[0], frames[1], torch.full((1,), 0.5))
    assert [float(stage.flow[0, 0, 0, 0].detach()) for stage in stages] == [
        2.0,
        3.0,
        3.5,
    ]  # 8, 4, 2 pixels a quarter each
    assert [float(stage.mask[0, 0, 0, 0].detach()) for stage in stages] == [0.25, 0.5, 0.75]
    blend = stages[-1].first * 0.6791787 + stages[-1].second * 0.3208213  # sigmoid(0.75)
    torch.testing.assert_close(stages[-1].blend, blend)


def test_the_teacher_is_not_taught_and_passes_its_gradient_on(generator):
    frames = torch.rand(3, 1, 3, 64, 64, generator=generator)
    network, teacher = IFNet((8, 8, 8), (4.0, 2.0, 1.0), timed=False), Teacher(8, timed=False)
    time = torch.full((1,), 0.5)
    stages = network(frames[0], frames[1], time)
    taught = teacher(frames[0], frames[1], time, stages[-1], frames[2])
    worse = stages[0]._replace(mask=stages[0].mask + 50.0)  # a blend that is worse somewhere
    distillation([worse], taught, frames[2]).backward(retain_graph=True)
    assert all(weight.grad is None for weight in teacher.parameters())
    assert float(network.blocks[0].head.bias.grad.abs().sum()) > 0
    network.zero_grad()
    taught.blend.sum().backward()
    assert float(network.blocks[2].head.bias.grad.abs().sum()) > 0


def test_features_are_warped_by_flow_in_their_own_pixels(generator):
    context = ContextNet(2)
    frame = torch.rand(1, 3, 64, 64, generator=generator)
    still = context(frame, torch.zeros(1, 2, 64, 64))
    assert [tuple(found.shape[1:]) for found in still] == [(2, 32, 32), (4, 16, 16), (8, 8, 8), (16, 4, 4)]
    flow = torch.tensor([16.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 64, 64)
    for level, (moved, before) in enumerate(zip(context(frame, flow), still, strict=True)):
        shift = 8 >> level
        torch.testing.assert_close(moved[..., :-shift], before[..., shift:])


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (64, 32)])
def test_pictures_of_any_size_as_bytes_or_floats(size, large):
    network = RIFENet(RIFENetConfig(widths=(8, 8, 8), context=2, large=large))
    frames = torch.randint(0, 256, (2, 2, 3, *size), dtype=torch.uint8)
    time = torch.tensor([0.25, 0.5])
    found = network(frames[0], frames[1], time)
    assert found.shape == (2, 3, *size)
    assert 0.0 <= float(found.min()) <= float(found.max()) <= 1.0
    torch.testing.assert_close(network(frames[0] / 255.0, frames[1] / 255.0, time), found)


def test_padding_is_cut_off_again(generator):
    network = RIFENet(SMALL)
    frames = torch.rand(2, 1, 3, 40, 50, generator=generator)
    whole = [nn.functional.pad(frame, (0, 14, 0, 24), mode="replicate") for frame in frames]
    time = torch.full((1,), 0.5)
    torch.testing.assert_close(network(*frames, time), network(*whole, time)[..., :40, :50])


@pytest.mark.parametrize("fineness", [0.25, 0.5, 2.0, 4.0])
def test_other_scales_take_any_size_too(fineness):
    found = RIFENet(SMALL)(torch.rand(1, 3, 70, 40), torch.rand(1, 3, 70, 40), torch.full((1,), 0.5), fineness)
    assert found.shape == (1, 3, 70, 40)


def test_first_frames_are_nearly_the_average(generator):
    frames = torch.rand(2, 1, 3, 64, 64, generator=generator)
    found = RIFENet(RIFENetConfig())(*frames, torch.full((1,), 0.5))
    assert float((found - frames.mean(dim=0)).abs().mean()) < 0.06


@pytest.mark.parametrize("numbers", [{"widths": ()}, {"widths": (7, 8, 8)}, {"scales": (4.0, 1.0)}, {"context": 0}])
def test_sizes_that_are_none(numbers):
    with pytest.raises(UserError, match="use"):
        RIFENetConfig(**numbers)


def test_a_stage_is_a_blend():
    one, other = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    stage = Stage(torch.zeros(1, 4, 2, 2), torch.full((1, 1, 2, 2), 100.0), one, other)
    assert float(stage.blend.max()) == 0.0
