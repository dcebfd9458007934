"""Layers of signs: the XNOR kernel against float arithmetic, gradients by hand, rotations, and what is kept."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from envs.evaluation.quantization.binary import (
    clipped_sign,
    pack_words,
    sharpened_sign,
    sharpness_at,
    signs,
    xnor_conv2d,
    xnor_linear,
    xnor_matmul,
)
from envs.evaluation.quantization.binary_convolutions import (
    KINDS,
    XnorLayer,
    binary_convolution,
    pack_binary_layers,
)
from envs.evaluation.quantization.binary_layer import BinaryLayer, SignInput, use_backend
from envs.evaluation.quantization.rotated import (
    RotatedLayer,
    angle_report,
    begin_epoch,
    factors,
    improved_rotation,
    mean_cosine,
    random_rotation,
    rotate,
)
from envs.evaluation.recipe import same_bits
from rlsuite.errors import UserError


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_zeros(*shape, seed=0):
    """Numbers of which many are 0, some -0."""
    return draw(*shape, seed=seed).round()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# -- the kernel ----------------------------------------------------------------------------------------------------


def test_the_sign_of_zero_is_one():
    assert signs(torch.tensor([-2.0, -0.0, 0.0, 1e-40])).tolist() == [-1.0, 1.0, 1.0, 1.0]


def test_words_hold_bits_lowest_first():
    bits = np.zeros((1, 70), dtype=bool)
    bits[0, [0, 3, 64, 69]] = True
    words = pack_words(bits)
    assert words.dtype == np.uint64
    assert words.tolist() == [[1 + 8, 1 + 32]]


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), count=st.integers(1, 200), seed=st.integers(0, 10**6))
def test_xnor_products_are_those_of_floats(rows, columns, count, seed):
    left, right = with_zeros(rows, count, seed=seed), with_zeros(columns, count, seed=seed + 1)
    expected = functional.linear(signs(left), signs(right))
    assert torch.equal(xnor_linear(left, right), expected)


def test_xnor_products_in_parts(monkeypatch):
    left, right = with_zeros(37, 130), with_zeros(11, 130, seed=1)
    whole = xnor_linear(left, right)
    monkeypatch.setattr("envs.evaluation.quantization.binary.AT_ONCE", 40)
    assert torch.equal(xnor_linear(left, right), whole)


def test_masked_places_count_nothing():
    left, right = np.array([[True, True, False]]), np.array([[True, False, False], [False, True, True]])
    mask = pack_words(np.array([[True, True, False]]))
    # Of the first two places: agree, differ, and differ, agree.
    assert xnor_matmul(pack_words(left & np.array([True, True, False])), pack_words(right), mask).tolist() == [[0, 0]]
    assert xnor_matmul(pack_words(left), pack_words(right), 3).tolist() == [[1, -1]]


@settings(max_examples=40, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 6]),
    kernel=st.sampled_from([(1, 1), (3, 3), (5, 5), (2, 3)]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(9, 12), st.integers(9, 12)),
    seed=st.integers(0, 10**6),
)
def test_xnor_convolutions_are_those_of_floats(groups, kernel, stride, padding, dilation, size, seed):
    pictures, weight = with_zeros(2, 6, *size, seed=seed), with_zeros(12, 6 // groups, *kernel, seed=seed + 1)
    expected = functional.conv2d(signs(pictures), signs(weight), None, stride, padding, dilation, groups)
    both = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (dilation,) * 2}
    assert torch.equal(xnor_conv2d(pictures, weight, **both, groups=groups), expected)


# -- gradients of signs --------------------------------------------------------------------------------------------


def test_the_clipped_gradient_by_hand():
    values = torch.tensor([-3.0, -1.0, -0.2, 0.0, 1.5], requires_grad=True)
    clipped_sign(values).sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize(("sharpness", "slope"), [(0.01, 100.0), (1.0, 1.0), (10.0, 1.0)])
def test_the_sharpened_gradient_is_the_papers(sharpness, slope):
    values = torch.linspace(-3.0, 3.0, 61, dtype=torch.float64, requires_grad=True)
    result = sharpened_sign(values, sharpness, slope)
    assert torch.equal(result, signs(values))
    result.sum().backward()
    expected = (slope * (math.sqrt(2) * sharpness - sharpness**2 * values.detach().abs())).clamp_min(0.0)
    torch.testing.assert_close(values.grad, expected)


def test_sharpness_rises_from_a_hundredth_to_ten():
    assert sharpness_at(0.0) == pytest.approx((0.01, 100.0))
    assert sharpness_at(1 / 3) == pytest.approx((0.1, 10.0))
    assert sharpness_at(2 / 3) == pytest.approx((1.0, 1.0))
    assert sharpness_at(1.0) == pytest.approx((10.0, 1.0))
    with pytest.raises(UserError, match="above 0"):
        sharpness_at(0.5, first=0.0)


def test_centred_inputs_by_hand():
    rule = SignInput(centred=True)
    inputs = torch.tensor([[0.0, 0.0, 0.0, 4.0], [1.0, 1.0, 1.0, 1.0]], requires_grad=True)
    found = rule(inputs)
    assert found.tolist() == [[-1, -1, -1, 1], [1, 1, 1, 1]]  # the mean itself counts as above
    (found * torch.tensor([1.0, 0.0, 0.0, 0.0])).sum().backward()
    # (x - 1) / 2 is -0.5 at the first place and 1.5 at the last; its row of the standardization's derivative, by hand:
    # (1[i = 0] - 1/4) / 2 - (-1/2) (x_i - 1) / (3 * 4)
    expected = torch.tensor([0.375 - 1 / 24, -0.125 - 1 / 24, -0.125 - 1 / 24, -0.125 + 1 / 8])
    torch.testing.assert_close(inputs.grad[0], expected)


# -- rotations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "expected"), [(144, (12, 12)), (576, (24, 24)), (1152, (32, 36)), (7, (1, 7))])
def test_factors_are_the_nearest(count, expected):
    assert factors(count) == expected


def test_two_small_rotations_are_one_large_one():
    filters, first, second = draw(3, 4, 5), random_rotation(4, generator(1)), random_rotation(5, generator(2))
    small = rotate(filters, first, second).flatten(1)
    large = filters.flatten(1) @ torch.kron(first, second)
    torch.testing.assert_close(small, large)
    torch.testing.assert_close(small.norm(dim=1), filters.flatten(1).norm(dim=1))


@settings(max_examples=20, deadline=None)
@given(filters=st.integers(1, 12), first=st.integers(1, 9), second=st.integers(2, 9), seed=st.integers(0, 1000))
def test_the_objective_never_falls_and_rotations_stay_orthogonal(filters, first, second, seed):
    weight = draw(filters, first, second, seed=seed)
    start = random_rotation(first, generator(seed)), random_rotation(second, generator(seed + 1))
    *found, objective = improved_rotation(weight, *start, cycles=6)
    assert all(later >= before - 1e-9 for before, later in zip(objective, objective[1:], strict=False))
    for rotation in found:
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(len(rotation)), atol=1e-5, rtol=0.0)
    assert rotate(weight, *found).abs().sum() == pytest.approx(objective[-1], rel=1e-5)


def test_each_step_is_the_best_rotation():
    """Against many others: no small turn of what the update gives is better for the signs it was made for."""
    weight, first, second = draw(6, 3, 4), random_rotation(3, generator(1)), random_rotation(4, generator(2))
    near = signs(rotate(weight, first, second))
    new, _, _ = improved_rotation(weight, first, second, cycles=1)
    best = float((near * rotate(weight, new, second)).sum())
    for seed in range(50):
        other = random_rotation(3, generator(seed + 10))
        assert float((near * rotate(weight, other, second)).sum()) <= best + 1e-4
    other = new @ torch.matrix_exp(torch.tensor([[0.0, 0.05, 0.0], [-0.05, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert float((near * rotate(weight, other, second)).sum()) < best


@pytest.mark.parametrize(("filters", "count", "gain"), [(16, 144, 0.025), (64, 576, 0.010)])
def test_gaussian_filters_come_nearer_to_their_signs(filters, count, gain):
    layer = nn.Conv2d(count // 9, filters, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(draw(filters, count // 9, 3, 3))
    rotated = RotatedLayer(layer, SignInput(centred=True))
    rotated.draw_rotation(generator(1))
    rotated.improve_rotation()
    (angle,) = angle_report(nn.Sequential(rotated)).values()
    assert angle.before == pytest.approx(math.sqrt(2 / math.pi), abs=0.01)
    assert angle.after >= angle.before + gain
    assert 0.45 <= angle.flipped <= 0.55


def test_a_mean_cosine_by_hand():
    assert mean_cosine(torch.tensor([[1.0, -1.0], [3.0, 4.0]])) == pytest.approx((1 + 7 / (5 * math.sqrt(2))) / 2)


def rotated_convolution(**keywords):
    torch.manual_seed(0)
    layer = RotatedLayer(nn.Conv2d(4, 6, 3, padding=1), SignInput(centred=True), **keywords)
    layer.draw_rotation(generator(3))
    return layer


def test_the_adjusted_weight_and_its_gradients_are_the_papers():
    layer = rotated_convolution()
    with torch.no_grad():
        layer.mixing.copy_(torch.tensor([0.5, -0.4, 1.0, 2.5, 4.0, math.pi / 2]))
    weight = layer.standardized().detach().requires_grad_()
    layer.standardized = lambda: weight  # the paper's equations start at the standardized weight
    large = torch.kron(layer.rotation_1, layer.rotation_2)
    alpha = layer.mixing.detach().sin().abs().unsqueeze(1)
    adjusted = layer.adjusted()
    torch.testing.assert_close(adjusted.detach(), weight.detach() * (1 - alpha) + alpha * (weight.detach() @ large))
    gradient = draw(*adjusted.shape, seed=4)
    adjusted.backward(gradient)
    torch.testing.assert_close(weight.grad, (1 - alpha) * gradient + alpha * (gradient @ large.T))
    beta = layer.mixing.detach()
    by_hand = (gradient * (weight.detach() @ large - weight.detach())).sum(1) * beta.sin().sign() * beta.cos()
    torch.testing.assert_close(layer.mixing.grad, by_hand)


def test_the_detached_form_starts_dead_and_the_papers_does_not():
    found = {}
    for detached in (True, False):
        layer = rotated_convolution(detached=detached)
        layer(draw(3, 4, 8, 8)).square().sum().backward()
        found[detached] = float(layer.weight.grad.abs().max())
    assert found[True] == 0.0
    assert found[False] > 1e-3


def test_a_checkpoint_without_rotations_is_refused():
    layer = nn.Sequential(rotated_convolution())
    state = layer.state_dict()
    other = nn.Sequential(rotated_convolution())
    other.load_state_dict(state)
    assert torch.equal(other[0].rotation_1, layer[0].rotation_1)
    for name in ("0.rotation_1", "0.rotation_2"):
        with pytest.raises(UserError, match="R1 and R2 are not there"):
            other.load_state_dict({key: value for key, value in state.items() if key != name})
    plain = nn.Sequential(rotated_convolution(rotated=False))
    plain.load_state_dict(plain.state_dict())


def test_a_filter_of_one_weight_is_refused():
    with pytest.raises(UserError, match="one weight"):
        RotatedLayer(nn.Conv2d(4, 4, 1, groups=4), SignInput(centred=True))


# -- layers --------------------------------------------------------------------------------------------------------

LAYERS = {
    "linear": (lambda: nn.Linear(67, 5), (6, 67)),
    "linear on rows": (lambda: nn.Linear(67, 5), (2, 3, 67)),
    "convolution": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (3, 4, 9, 8)),
    "dilated": (lambda: nn.Conv2d(8, 6, 3, padding=2, dilation=2, bias=False), (3, 8, 9, 8)),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("method", ["rbnn", "xnor", "xnor, one scale"])
def test_a_layer_that_has_learned_gives_the_same_bits_on_both_backends(kind, method):
    make, shape = LAYERS[kind]
    torch.manual_seed(3)
    if method == "rbnn":
        learned = RotatedLayer(make(), SignInput(centred=True))
        learned.draw_rotation(generator(1))
    else:
        learned = XnorLayer(make(), SignInput(centred=False), scale="layer" if "one" in method else "filter")
    inputs = with_zeros(*shape).relu() if method == "rbnn" else with_zeros(*shape)
    inputs.requires_grad_()
    expected = learned(inputs)
    expected.square().sum().backward()
    assert learned.weight.grad.abs().sum() > 0
    assert inputs.grad.abs().sum() > 0

    network = pack_binary_layers(nn.Sequential(copy.deepcopy(learned)))
    assert isinstance(network[0], BinaryLayer)
    assert (network[0].weight_bits, network[0].input_bits) == (1, 1)
    assert network[0].codes.numel() == -(-learned.weight.numel() // 8)
    assert set(network.state_dict()) <= {"0.codes", "0.scale", "0.bias"}
    with torch.no_grad():
        assert same_bits(network(inputs), expected.detach())
        assert same_bits(use_backend(network, "popcount")(inputs), expected.detach())
    other = copy.deepcopy(learned)
    with torch.no_grad():
        other.weight.mul_(-1.0)
    fresh = pack_binary_layers(nn.Sequential(other))
    fresh.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert same_bits(fresh(inputs), expected.detach())


def test_backends_refuse_what_they_cannot():
    layer = RotatedLayer(nn.Conv2d(2, 3, 3, padding="same"), SignInput(centred=True)).to_binary()
    with pytest.raises(ValueError, match="popcount"):
        layer.use("popcount")
    with pytest.raises(ValueError, match="float or popcount"):
        layer.use("cuda")


def test_the_gradient_of_xnor_weights_by_hand():
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -1.5]]))
    learned = XnorLayer(layer)
    outputs = learned(torch.tensor([[2.0, 3.0]]))
    assert outputs.tolist() == [[2.0 - 3.0]]  # a scale of 1
    outputs.sum().backward()
    assert learned.weight.grad.tolist() == [[2.0 / 2 + 2.0, 3.0 / 2 + 0.0]]  # the second lies outside [-1, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("input_bits", [1, 32])
def test_the_factory_makes_any_kind(kind, input_bits):
    def make(seed):
        return binary_convolution(
            kind, 6, 12, 3, stride=2, padding=2, dilation=2, groups=3, input_bits=input_bits, generator=generator(seed)
        )

    layer, again, other = make(0), make(0), make(1)
    assert all(torch.equal(a, b) for a, b in zip(layer.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(layer.weight, other.weight)
    begin_epoch(layer, 3, 10)
    inputs = draw(2, 6, 9, 9)
    outputs = layer(inputs)
    assert outputs.shape == (2, 12, 5, 5)
    outputs.square().sum().backward()
    assert bool(layer.weight.grad.abs().sum() > 0)
    packed = pack_binary_layers(nn.Sequential(layer))
    assert isinstance(packed[0], BinaryLayer) is (kind != "float")
    with torch.no_grad():
        assert same_bits(packed(inputs), outputs.detach())
        if kind != "float" and input_bits == 1:
            assert same_bits(use_backend(packed, "popcount")(inputs), outputs.detach())


def test_the_factory_refuses_what_it_does_not_know():
    with pytest.raises(UserError, match="kind=xnorr"):
        binary_convolution("xnorr", 3, 4, 3, generator=generator())
    with pytest.raises(UserError, match="input_bits=2"):
        binary_convolution("xnor", 3, 4, 3, input_bits=2, generator=generator())
    with pytest.raises(UserError, match="scale=row"):
        binary_convolution("xnor", 3, 4, 3, scale="row", generator=generator())
