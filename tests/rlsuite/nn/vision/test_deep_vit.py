"""Re-attention by hand and beside torch's own attention, and the whole transformer's sizes."""

import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from rlsuite.errors import UserError
from rlsuite.nn.vision.deep_vit import DeepViT, DeepViTConfig
from rlsuite.nn.vision.re_attention import Attention, Block, HeadMixing, SkipBranch


def mixing(heads, norm="batch", start="random", scale=1.0, seed=0):
    made = HeadMixing(heads, norm, start, scale)
    made.draw(torch.Generator().manual_seed(seed))
    return made


def softmaxes(*shape, generator):
    return torch.randn(*shape, generator=generator).softmax(dim=-1)


def test_plain_attention_is_torchs(generator):
    tokens = torch.randn(2, 5, 12, generator=generator)
    ours, theirs = Attention(12, 3, None), nn.MultiheadAttention(12, 3, batch_first=True)
    weights = {"in_proj_weight": ours.inputs.weight, "in_proj_bias": ours.inputs.bias}
    weights |= {f"out_proj.{name}": value for name, value in ours.projection.state_dict().items()}
    theirs.load_state_dict(weights)
    outputs, maps, used = ours(tokens)
    expected, expected_maps = theirs(tokens, tokens, tokens, average_attn_weights=False)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(maps, expected_maps)
    assert used is maps


def test_a_plain_block_is_torchs_encoder_layer(generator):
    tokens = torch.randn(2, 5, 12, generator=generator)
    ours = Block(12, 3, 20)
    theirs = nn.TransformerEncoderLayer(12, 3, 20, 0.0, functional.gelu, 1e-6, batch_first=True, norm_first=True)
    names = {
        "self_attn.in_proj_": "attention.inputs.",
        "self_attn.out_proj.": "attention.projection.",
        "linear1.": "layers.0.",
        "linear2.": "layers.2.",
        "norm1.": "first_norm.",
        "norm2.": "second_norm.",
    }
    state = ours.state_dict()
    theirs.load_state_dict(
        {f"{one}{part}": state[f"{other}{part}"] for one, other in names.items() for part in ("weight", "bias")}
    )
    torch.testing.assert_close(ours(tokens)[0], theirs(tokens))


def test_softmax_rows_sum_to_one_and_mixed_rows_need_not(generator):
    network = DeepViT(1, 8, 3, DeepViTConfig(patch=2, width=12, heads=3, depth=3, mixed=2), 0)
    outputs, softmax, used = network.eval().with_maps(torch.rand(2, 1, 8, 8, generator=generator))
    assert torch.equal(outputs, network(torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))))
    assert [tuple(maps.shape) for maps in softmax] == [(2, 3, 17, 17)] * 3
    for maps in softmax:
        torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 3, 17))
    assert used[0] is softmax[0]  # the first block is plain
    assert all(float((maps.detach().sum(dim=-1) - 1.0).abs().max()) > 0.1 for maps in used[1:])


def test_mixing_by_hand_is_over_heads_alone():
    """Two heads, two tokens: head 1 becomes a - 2 b + 1, head 2 becomes 3 a."""
    made = mixing(2, norm="none", scale=0.5)
    with torch.no_grad():
        made.theta.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
        made.bias.copy_(torch.tensor([1.0, 0.0]))
    a, b = torch.tensor([[0.1, 0.9], [0.5, 0.5]]), torch.tensor([[1.0, 0.0], [0.2, 0.8]])
    expected = 0.5 * torch.stack([a - 2 * b + 1, 3 * a])
    torch.testing.assert_close(made(torch.stack([a, b])[None])[0], expected)


def test_batch_norm_is_over_pictures_and_pairs_and_layer_norm_over_heads(generator):
    maps = softmaxes(4, 3, 5, 5, generator=generator)
    convolution = functional.conv2d(maps, mixing(3).theta[:, :, None, None], mixing(3).bias)
    mean, variance = convolution.mean(dim=(0, 2, 3)), convolution.var(dim=(0, 2, 3), correction=0)
    expected = (convolution - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    torch.testing.assert_close(mixing(3, "batch")(maps), expected, rtol=1e-4, atol=1e-5)
    mean, variance = convolution.mean(dim=1, keepdim=True), convolution.var(dim=1, keepdim=True, correction=0)
    torch.testing.assert_close(mixing(3, "layer")(maps), (convolution - mean) / (variance + 1e-6).sqrt())


def test_the_identity_without_a_norm_is_plain_attention(generator):
    tokens = torch.randn(2, 5, 12, generator=generator)
    plain = Block(12, 3, 20)
    mixed = Block(12, 3, 20, mixing(3, norm="none", start="identity"))
    mixed.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(mixed(tokens)[0], plain(tokens)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_tokens_in_another_order_come_out_in_that_order(norm, generator):
    tokens, order = torch.randn(2, 5, 12, generator=generator), torch.randperm(5, generator=generator)
    block = Block(12, 3, 20, mixing(3, norm)).eval()
    torch.testing.assert_close(block(tokens[:, order])[0], block(tokens)[0][:, order])


def test_divided_branches_by_hand(generator):
    """With s = 1/2 a branch sees half of its input, whose LayerNorm is the same but for epsilon, and adds twice."""
    tokens = torch.randn(2, 5, 12, generator=generator)
    whole, half = Block(12, 3, 20), Block(12, 3, 20, branch_scale=0.5)
    half.load_state_dict(whole.state_dict())
    middle = tokens + 2.0 * whole.attention(whole.first_norm(tokens))[0]
    expected = middle + 2.0 * whole.layers(whole.second_norm(middle))
    torch.testing.assert_close(half(tokens)[0], expected, rtol=1e-4, atol=1e-4)


def test_skipped_rows_are_whole_and_keep_the_mean():
    torch.manual_seed(0)
    skip = SkipBranch(0.25)
    rows = skip(torch.ones(4000, 2, 3)).flatten(1)
    assert rows.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert torch.equal(rows.amin(dim=1), rows.amax(dim=1))
    assert float(rows.mean()) == pytest.approx(1.0, abs=0.04)
    assert torch.equal(skip.eval()(torch.ones(3, 2, 3)), torch.ones(3, 2, 3))
    blocks = DeepViT(1, 8, 3, DeepViTConfig(width=8, heads=2, depth=3, skipped=0.4), 0).blocks
    assert [block.skip.share for block in blocks] == [0.0, 0.2, 0.4]  # type: ignore[union-attr]


@pytest.mark.parametrize(("norm", "added"), [("batch", 2), ("layer", 2), ("none", 0)])
def test_mixing_costs_so_many_weights_a_block(norm, added):
    def count(mixed):
        config = DeepViTConfig(width=24, heads=6, depth=5, mixed=mixed, norm=norm)
        return sum(weight.numel() for weight in DeepViT(1, 8, 3, config, 0).parameters())

    assert count(-1) - count(0) == 5 * (6 * 6 + 6 + added * 6)
    assert count(2) - count(0) == 2 * (6 * 6 + 6 + added * 6)


def test_sixteen_blocks_have_the_papers_size_and_others_what_it_adds():
    """24.5, 36.3 and 48.1 million with 16, 24 and 32 blocks."""
    with torch.device("meta"):
        made = DeepViT(3, 224, 1000, DeepViTConfig(patch=16, width=384, heads=12, depth=16), 0)
    block = sum(weight.numel() for weight in made.blocks[0].parameters())
    whole = sum(weight.numel() for weight in made.parameters())
    for depth, millions in ((16, 24.5), (24, 36.3), (32, 48.1)):
        assert (whole + (depth - 16) * block) / 1e6 == pytest.approx(millions, abs=0.1)


def test_a_stem_of_convolutions_has_as_many_tokens_as_patches(generator):
    picture = torch.rand(2, 3, 19, 12, generator=generator)
    for stem in ("patches", "convolutions"):
        network = DeepViT(3, (19, 12), 4, DeepViTConfig(patch=4, width=8, heads=2, depth=1, stem=stem), 0)
        assert network.eval()(picture).shape == (2, 4)
        assert network.places.shape == (1, 1 + 5 * 3, 8)


def test_padding_is_black(generator):
    picture = torch.rand(1, 1, 5, 7, generator=generator)
    whole = torch.zeros(1, 1, 8, 8)
    whole[..., :5, :7] = picture
    config = DeepViTConfig(patch=4, width=8, heads=2, depth=1)
    assert torch.equal(DeepViT(1, (5, 7), 3, config, 0).eval()(picture), DeepViT(1, 8, 3, config, 0).eval()(whole))


def test_first_weights():
    state = DeepViT(3, 64, 3, DeepViTConfig(mixed=-1), 0).state_dict()
    for name, deviation in (("blocks.0.attention.inputs.weight", 0.02 * 3**0.5), ("places", 0.02)):
        assert float(state[name].std()) == pytest.approx(deviation, rel=0.05)  # 128 is a third of the paper's 384
    thetas = [value for name, value in state.items() if name.endswith("theta")]
    assert len(thetas) == 6
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(thetas))
    assert all(float(theta.abs().max()) <= 0.5 for theta in thetas)  # 1 / sqrt(heads)
    same = DeepViT(3, 64, 3, DeepViTConfig(start="identity", depth=1, mixed=1), 0).state_dict()
    assert torch.equal(same["blocks.0.attention.mixing.theta"], torch.eye(4))


@pytest.mark.parametrize("width", [48, 384])
def test_scores_begin_as_large_at_every_width(width, generator):
    """Of normalized tokens queries have a deviation of 0.02 sqrt(384) = 0.39, plain or mixed."""
    for mixed in (0, 1):
        config = DeepViTConfig(width=width, heads=6, depth=1, mixed=mixed)
        first: Any = DeepViT(1, 8, 3, config, 7).blocks[0]
        queries = first.attention.inputs(torch.randn(500, width, generator=generator))[:, :width]
        assert float(queries.std()) == pytest.approx(0.02 * 384**0.5, rel=0.05)


def test_re_attention_is_for_deep_networks_unless_it_is_asked_for():
    for depth, mixed, found in ((15, None, 0), (16, None, 16), (4, -1, 4), (32, 12, 12), (16, 0, 0)):
        config = DeepViTConfig(width=8, heads=2, depth=depth, mixed=mixed)
        blocks: Any = DeepViT(1, 8, 3, config, 0).blocks
        assert [block.attention.mixing is not None for block in blocks] == [False] * (depth - found) + [True] * found


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"heads": 5}, "width=128: heads=5 do not share it; use a multiple of 5"),
        ({"mixed": 7}, "mixed=7: use 0 to depth=6"),
        ({"norm": "bach"}, "norm=bach.*did you mean 'batch"),
        ({"deviation": 0.0}, "deviation=0.0"),
        ({"start": "zero"}, "start=zero"),
        ({"stem": "convolutions", "patch": 5}, "patch=5: stem=convolutions needs an even one"),
        ({"branch_scale": 0.0}, "branch_scale=0.0"),
        ({"skipped": 1.0}, "skipped=1.0"),
        ({"ratio": 0.0}, "ratio=0.0"),
    ],
)
def test_bad_sizes_are_refused(numbers, words):
    with pytest.raises(UserError, match=words):
        DeepViTConfig(**numbers)
