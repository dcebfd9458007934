"""TSAM's parts: gates, encoder, decoder, discriminator, whole networks; causality, pixels kept, sizes."""

import pytest
import torch
from torch import nn

from envs.perception.inpainting.alignment import checked
from envs.perception.inpainting.convolution import Clip, Shift, TSAMConv
from envs.perception.inpainting.decoder import gated
from envs.perception.inpainting.discriminator import Discriminator
from envs.perception.inpainting.encoder import Bottleneck, ResNetEncoder
from envs.perception.inpainting.network import TSAMNet, TSAMNetConfig
from rlsuite.errors import UserError


def clip(generator, size=(16, 16), length=3):
    frames = torch.rand(2, length, 3, *size, generator=generator)
    known = torch.rand(2, length, 1, *size, generator=generator) > 0.3
    flow = torch.randn(2, 2, length - 1, 2, *size, generator=generator)
    return frames, known, checked(flow[0], flow[1])


def test_a_gated_convolution_by_hand():
    conv = nn.Conv2d(4, 1, 1)
    conv.load_state_dict({"weight": torch.full((1, 4, 1, 1), 0.5), "bias": torch.tensor([-4.0])})
    features = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]).view(2, 4, 1, 1)
    # Shifted, frame 0 is [5, 0, 3, 4] and frame 1 is [0, 2, 7, 8].
    encoder = TSAMConv(conv, Shift(4, aligned=False))(features, Clip(2)).flatten()
    inner = torch.tensor([2.0, 4.5])
    torch.testing.assert_close(encoder, torch.sigmoid(inner) * inner)
    decoder = TSAMConv(conv, Shift(4, aligned=False), activation=nn.ReLU(), gate_shifted=False)
    own = torch.tensor([1.0, 9.0])
    torch.testing.assert_close(decoder(features, Clip(2)).flatten(), torch.sigmoid(own) * inner)
    alone = TSAMConv(conv, Shift(0))(features, Clip(2)).flatten()
    torch.testing.assert_close(alone, torch.sigmoid(own) * own)
    assert gated(4, 2, 3, Shift(4)).conv.padding == (1, 1)


def test_the_papers_encoder_has_resnet_50s_weights_and_gates():
    with torch.device("meta"):
        encoder = ResNetEncoder(64, Shift(8))
    numbers = sum(value.numel() for value in encoder.parameters())
    gates = sum(part.gate.weight.numel() for part in encoder.modules() if isinstance(part, TSAMConv))
    assert numbers - gates == 23_508_032 + 2 * 64 * 49  # without the last layer; two more channels come in
    blocks = [part for part in encoder.modules() if isinstance(part, Bottleneck)]
    assert [(block.second.stride[0], block.second.dilation[0]) for block in blocks] == (
        [(1, 1)] * 3 + [(2, 1)] + [(1, 1)] * 3 + [(1, 1)] + [(1, 2)] * 5 + [(1, 2)] + [(1, 4)] * 2
    )


def test_encoder_and_discriminator_keep_the_papers_sides(generator):
    with torch.no_grad():
        found = ResNetEncoder(8, Shift(8, aligned=False))(torch.rand(2, 5, 32, 48, generator=generator), Clip(2))
    assert [tuple(value.shape[1:]) for value in found] == [(32, 8, 12), (64, 4, 6), (128, 4, 6), (256, 4, 6)]
    frames, known, _ = clip(generator, (32, 64))
    judge = Discriminator(4)
    scores = judge(frames, known)
    assert scores.shape == (2, 3, 16, 1, 1)
    assert bool(((scores > 0) & (scores < 1)).all())
    assert [hasattr(conv, "parametrizations") for conv in judge.convs] == [True] * 5 + [False]


@pytest.mark.parametrize(("encoder", "size"), [("plain", (9, 14)), ("resnet50", (19, 26))])
def test_known_pixels_pass_bit_for_bit(encoder, size, generator):
    frames, known, flows = clip(generator, size)
    for causal in (True, False):
        net = TSAMNet(TSAMNetConfig(encoder=encoder, width=8, causal=causal), seed=1).eval()
        with torch.no_grad():
            found = net(frames, known, flows)
            lost = net(torch.where(known, frames, 7.0), known, flows)
        assert found.shape == frames.shape
        assert torch.equal(found[known.expand_as(frames)], frames[known.expand_as(frames)])
        assert torch.equal(found, lost)  # what holes hold does not matter
        assert 0.0 <= float(found.min()) <= float(found.max()) <= 1.0


@pytest.mark.parametrize("encoder", ["plain", "resnet50"])
def test_an_agents_eye_sees_no_later_frames(encoder, generator):
    frames, known, flows = clip(generator)
    other = frames.clone()
    other[:, 2] = 0.5
    for causal in (True, False):
        net = TSAMNet(TSAMNetConfig(encoder=encoder, width=8, causal=causal), seed=1).eval()
        with torch.no_grad():
            same = torch.equal(net(frames, known, flows)[:, :2], net(other, known, flows)[:, :2])
        assert same == causal


def test_frames_alone_know_no_neighbour_and_all_three_have_as_many_weights(generator):
    frames, known, flows = clip(generator)
    nets = {name: TSAMNet(TSAMNetConfig(width=8, shift=name), seed=1).eval() for name in ("aligned", "plain", "none")}
    assert len({sum(value.numel() for value in net.parameters()) for net in nets.values()}) == 1
    with torch.no_grad():
        apart = torch.cat([nets["none"](frames[:, [t]], known[:, [t]]) for t in range(3)], dim=1)
        torch.testing.assert_close(nets["none"](frames, known), apart)
        assert not torch.allclose(nets["plain"](frames, known), apart)
        assert not torch.allclose(nets["aligned"](frames, known, flows), nets["plain"](frames, known))
    with pytest.raises(ValueError, match="flows of the clip are missing"):
        nets["aligned"](frames, known)


def test_equal_seeds_equal_bits():
    one, same, other = (
        TSAMNet(TSAMNetConfig(encoder="resnet50", width=8), seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["encoder.stem.0.weight"], other["encoder.stem.0.weight"])
    gate = "encoder.stages.0.0.first"
    assert torch.equal(one[f"{gate}.gate.weight"], one[f"{gate}.conv.weight"])  # a copy, as in the code


@pytest.mark.parametrize("numbers", [{"encoder": "vgg"}, {"shift": "late"}, {"width": 4}, {"depth": 2}])
def test_numbers_that_are_refused(numbers):
    with pytest.raises(UserError, match="use"):
        TSAMNetConfig(**numbers)
