"""The core of quantizers: exact values with smooth gradients, packed codes, layers before and after packing."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from envs.evaluation.quantization.codes import (
    index_bits,
    pack,
    pack_rows,
    pack_signs,
    packed_bytes,
    unpack,
    unpack_rows,
    unpack_signs,
)
from envs.evaluation.quantization.layer import PackedLayer, QuantizedLayer, pack_layers, quantizable
from envs.evaluation.quantization.places import Bits, LayerBits, PlacesConfig, bits_of_layers, bits_of_plan
from envs.evaluation.quantization.rules import CodebookWeights, MaxAbsInput, MaxAbsWeights, RangeInput
from envs.evaluation.quantization.through import through
from envs.evaluation.recipe import same_bits
from rlsuite.errors import UserError
from rlsuite.nn.ensemble import EnsembleLinear
from rlsuite.nn.vision.blocks import WeightNormConv2d
from rlsuite.nn.weight_norm import EnsembleWeightNormLinear


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_through_is_exact_and_passes_gradients_to_the_smooth_one():
    smooth = torch.tensor([0.1, 1e8, -3.0], requires_grad=True)
    quantized = torch.tensor([0.3, 1.0, -0.7])
    result = through(quantized, 2.0 * smooth)
    assert torch.equal(result, quantized)  # where smooth + (quantized - smooth) gives 0 for the second
    result.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert smooth.grad.tolist() == [2.0, 4.0, 6.0]


@given(bits=st.integers(1, 16), count=st.integers(1, 40), seed=st.integers(0, 1000))
def test_codes_come_back_from_exactly_as_many_bytes_as_they_need(bits, count, seed):
    codes = torch.randint(2**bits, (count,), generator=torch.Generator().manual_seed(seed), dtype=torch.int32)
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert len(packed) == packed_bytes(bits, count) == -(-bits * count // 8)
    stream = sum(int(code) << (bits * place) for place, code in enumerate(codes))  # one large number, lowest bit first
    assert packed.numpy().tobytes() == stream.to_bytes(len(packed), "little")
    assert torch.equal(unpack(packed, bits, (count,)), codes)


@given(widths=st.lists(st.integers(0, 16), min_size=1, max_size=9), numbers=st.integers(1, 7), seed=st.integers(0, 99))
def test_packed_rows_of_several_widths_leave_no_gaps(widths, numbers, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(2**width, (numbers, 2), generator=generator, dtype=torch.int32) for width in widths]
    packed = pack_rows(torch.stack(rows), widths)
    assert len(packed) == -(-2 * numbers * sum(widths) // 8)
    stream, end = 0, 0  # one large number, lowest bit first
    for row, width in zip(rows, widths, strict=True):
        for code in row.flatten().tolist():
            stream, end = stream + (code << end), end + width
    assert packed.numpy().tobytes() == stream.to_bytes(len(packed), "little")
    assert torch.equal(unpack_rows(packed, widths, (len(widths), numbers, 2)), torch.stack(rows))
    if len(set(widths)) == 1 and widths[0]:
        assert torch.equal(packed, pack(torch.stack(rows), widths[0]))


def test_packed_rows_have_their_size_without_their_numbers():
    with torch.device("meta"):
        packed = pack_rows(torch.zeros(3, 5, dtype=torch.int32), [0, 3, 2])
        assert packed.shape == (4,)  # 25 bits
        assert unpack_rows(packed, [0, 3, 2], (3, 5)).shape == (3, 5)


@given(shape=st.lists(st.integers(1, 6), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_packed_signs_have_one_bit_each_and_none_is_zero(shape, seed):
    values = draw(*shape, seed=seed)
    values.flatten()[0] = 0.0
    packed = pack_signs(values)
    assert len(packed) == packed_bytes(1, values.numel())
    assert torch.equal(unpack_signs(packed, tuple(shape)), torch.where(values < 0, -1.0, 1.0))


def test_packed_indices_into_a_table():
    assert [index_bits(size) for size in (1, 2, 3, 4, 5, 7, 8, 9, 65536)] == [1, 1, 2, 2, 3, 3, 3, 4, 16]
    for size in (0, 65537):
        with pytest.raises(ValueError, match=f"not {size}"):
            index_bits(size)

    class Nearest(CodebookWeights):
        def codes(self, weight):
            table = torch.tensor([-4.0, -1.0, 0.0, 1.0, 4.0])
            return (weight.unsqueeze(-1) - table).abs().argmin(-1).int(), table

    layer = QuantizedLayer(nn.Linear(4, 3), Nearest(5))
    with torch.no_grad():
        layer.layer.weight.copy_(torch.tensor([-9.0, -0.9, 0.1, 2.4]).expand(3, 4))
    packed = pack_layers(nn.Sequential(layer))[0]
    assert packed.weight.tolist() == [[-4.0, -1.0, 0.0, 1.0]] * 3
    assert packed.codes.numel() == packed_bytes(3, 12)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_have_torchs_integers_off_ties(bits):
    weight, rule, levels = draw(64, 33), MaxAbsWeights(bits), 2 ** (bits - 1) - 1
    codes, scale = rule.codes(weight)
    assert int(codes.min()) >= 0
    assert int(codes.max()) == 2 * levels < 2**bits
    step = float(scale) / levels
    theirs = torch.fake_quantize_per_tensor_affine(weight, step, 0, -levels, levels)
    off_ties = ((weight / step) % 1 - 0.5).abs() > 1e-4
    assert torch.equal((codes - levels)[off_ties], (theirs / step).round().int()[off_ties])
    assert off_ties.float().mean() > 0.9


def test_weights_of_zero_stay_zero():
    rule = MaxAbsWeights(4)
    assert torch.equal(rule.values(*rule.codes(torch.zeros(3, 2))), torch.zeros(3, 2))


def test_range_inputs_by_hand():
    rule = RangeInput(2, 0.0, 1.0)
    inputs = torch.tensor([[-0.5, 0.1, 0.2, 0.6, 0.9, 7.0]], requires_grad=True)
    torch.testing.assert_close(rule(inputs), torch.tensor([[0.0, 0.0, 1 / 3, 2 / 3, 1.0, 1.0]]))
    rule(inputs).sum().backward()
    assert inputs.grad.tolist() == [[0, 1, 1, 1, 1, 0]]
    torch.testing.assert_close(RangeInput(1, -2.0, 2.0)(torch.tensor([-0.1, 0.1])), torch.tensor([-2.0, 2.0]))


def test_each_example_has_its_own_largest_input():
    inputs = draw(5, 3, 4, 4) * torch.tensor([1.0, 10.0, 0.1, 3.0, 0.0]).view(5, 1, 1, 1)
    together, rule = MaxAbsInput(4)(inputs), MaxAbsInput(4)
    for place in range(5):
        assert torch.equal(together[place : place + 1], rule(inputs[place : place + 1]))
    assert torch.equal(together[4], torch.zeros(3, 4, 4))


LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (6, 7)),
    "convolution": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False), (2, 4, 9, 8)),
    "padded with what is there": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 2, 6, 6)),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_a_packed_layer_gives_the_bits_that_were_trained(kind, bits):
    make, shape = LAYERS[kind]
    torch.manual_seed(3)
    layer, inputs = make(), draw(*shape)
    learned = QuantizedLayer(layer, MaxAbsWeights(bits), MaxAbsInput(6))
    assert (learned.weight_bits, learned.input_bits) == (bits, 6)
    expected = learned(inputs)
    (expected.square().sum()).backward()
    assert layer.weight.grad.abs().sum() > 0

    network = pack_layers(nn.Sequential(learned))
    packed = network[0]
    assert isinstance(packed, PackedLayer)
    assert same_bits(packed(inputs), expected.detach())
    assert packed.codes.numel() == packed_bytes(bits, layer.weight.numel())
    assert "0.weight" not in network.state_dict()
    assert not quantizable(network)

    other = copy.deepcopy(learned)
    with torch.no_grad():
        other.layer.weight.mul_(-0.3)
        if other.layer.bias is not None:
            other.layer.bias.zero_()
    fresh = pack_layers(nn.Sequential(other))
    fresh.load_state_dict(network.state_dict())
    assert same_bits(copy.deepcopy(fresh)(inputs), expected.detach())


def test_what_a_layer_computes_is_the_quantized_weight():
    layer, inputs, rule = nn.Linear(3, 2), draw(4, 3), MaxAbsWeights(3)
    weight = rule.values(*rule.codes(layer.weight.detach()))
    torch.testing.assert_close(
        QuantizedLayer(layer, rule)(inputs), functional.linear(inputs, weight, layer.bias), rtol=0, atol=0
    )
    assert torch.equal(QuantizedLayer(layer, None)(inputs), layer(inputs))


def test_packing_needs_no_data_and_no_numbers():
    with torch.device("meta"):
        packed = pack_layers(nn.Sequential(QuantizedLayer(nn.Linear(9, 5), MaxAbsWeights(3))))[0]
    assert packed.codes.device.type == "meta"
    assert packed.codes.shape == (17,)  # 135 bits


def test_bits_by_place_and_by_name():
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Conv2d(1, 1, 1), nn.Linear(2, 2))
    usual = Bits(4, 8)
    assert bits_of_layers(network, usual, PlacesConfig()) == {"2": (4, 8), "3": (4, 8)}
    named = (LayerBits(names=("2",), weights=32, inputs=32), LayerBits(names=("[24]",), weights=2, inputs=3))
    found = bits_of_layers(network, usual, PlacesConfig(first=8, layers=named))
    assert found == {"0": (8, 8), "3": (4, 8), "4": (2, 3)}
    assert bits_of_plan(network, {"layers": {path: list(bits) for path, bits in found.items()}}) == found
    with pytest.raises(UserError, match="there is no such layer"):
        bits_of_layers(network, usual, PlacesConfig(layers=(LayerBits(names=("head",), weights=2, inputs=2),)))
    with pytest.raises(UserError, match="no layer is left to quantize; set these to 4"):
        bits_of_layers(network[:3], usual, PlacesConfig())
    with pytest.raises(UserError, match="bits of 0=1: use 2 to 16"):
        bits_of_layers(network, usual, PlacesConfig(first=1), lowest=2)


def test_kinds_that_are_not_known_are_left_alone():
    network = nn.Sequential(nn.Conv1d(1, 1, 3), nn.Linear(2, 2))
    assert list(quantizable(network)) == ["1"]
    with pytest.raises(TypeError, match="no line in OPERATIONS"):
        QuantizedLayer(network[0], MaxAbsWeights(8))


def test_a_weight_normalized_convolution_is_quantized_by_what_it_computes_with():
    torch.manual_seed(0)
    layer, inputs = WeightNormConv2d(2, 3, 3, padding=1), draw(2, 2, 5, 5)
    with torch.no_grad():
        layer.scale.mul_(torch.tensor([1.0, 5.0, 0.2]).view(-1, 1, 1, 1))
    effective = layer.weight * (layer.scale / layer.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
    rule = MaxAbsWeights(4)
    expected = functional.conv2d(inputs, rule.values(*rule.codes(effective.detach())), layer.bias, padding=1)
    learned = QuantizedLayer(layer, rule)
    torch.testing.assert_close(learned(inputs), expected, rtol=0, atol=0)
    learned(inputs).square().sum().backward()
    assert layer.scale.grad.abs().min() > 0  # through the norm, to both parameters
    assert layer.weight.grad.abs().sum() > 0
    packed = pack_layers(nn.Sequential(learned))
    assert same_bits(packed(inputs).detach(), expected.detach())
    assert sorted(packed.state_dict()) == ["0.codes", "0.layer.bias", "0.scale"]


STACKS = {"plain": EnsembleLinear, "weight-normalized": EnsembleWeightNormLinear}


@pytest.mark.parametrize("kind", STACKS)
def test_stacked_members_are_quantized_each_for_itself(kind):
    layer, inputs = STACKS[kind](3, 5, 4, generator=torch.Generator().manual_seed(1)), draw(3, 7, 5)
    with torch.no_grad():
        (layer.weight if kind == "plain" else layer.scale).mul_(torch.tensor([1.0, 30.0, 0.01]).view(3, 1, 1))
    weight = (layer.weight if kind == "plain" else layer.weight()).detach()
    assert list(quantizable(nn.Sequential(layer))) == ["0"]
    rule, learned = MaxAbsWeights(4), QuantizedLayer(layer, MaxAbsWeights(4), MaxAbsInput(6))
    outputs = learned(inputs)
    for member in range(3):
        own = rule.values(*rule.codes(weight[member]))
        expected = torch.addmm(layer.bias[member], MaxAbsInput(6)(inputs[member]), own)
        torch.testing.assert_close(outputs[member], expected)
    assert same_bits(learned(inputs[1:], slice(1, 3)), outputs[1:])
    outputs.sum().backward()
    packed = pack_layers(nn.Sequential(learned))[0]
    assert same_bits(packed(inputs), outputs.detach())
    assert same_bits(packed(inputs[:1], slice(0, 1)), outputs[:1].detach())
    assert packed.codes.numel() == packed_bytes(4, 60)
    assert packed.scale.shape == (3,)
    assert (packed.weight_bits, packed.input_bits) == (4, 6)
    torch.testing.assert_close(QuantizedLayer(layer, None)(inputs), layer(inputs))


@pytest.mark.parametrize(
    "plan",
    [None, [], {}, {"layers": []}, {"layers": {"0": [4]}}, {"layers": {"1": [4, 4]}}, {"layers": {"0": [4, 99]}},
     {"layers": {"0": [True, 4]}}, {"layers": {"0": [0, 4]}}, {"layers": {"0": "44"}}],
)  # fmt: skip
def test_damaged_plans_are_refused(plan):
    with pytest.raises(UserError, match="its plan is damaged"):
        bits_of_plan(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), plan)
