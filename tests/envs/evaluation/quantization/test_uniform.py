"""SAT's core against formulas written out: levels, clamp, constant, and the gradients of weights, inputs and alpha."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from envs.evaluation.quantization.layer import QuantizedLayer
from envs.evaluation.quantization.measure import followed_by_normalization
from envs.evaluation.quantization.uniform import (
    SCHEMES,
    ClippedInput,
    UniformWeights,
    calibrating,
    clamped,
    constant_scale,
    fan_of,
    require_calibrated,
    require_finite_weights,
    unit_codes,
    unit_levels,
    unrounded,
)
from rlsuite.errors import UserError


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_levels_of_each_scheme_by_hand():
    unit = torch.tensor([0.0, 0.2, 0.4, 0.5, 0.74, 0.9, 1.0])
    levels = {scheme: unit_levels(unit_codes(unit, 2, scheme), 2, scheme).tolist() for scheme in SCHEMES}
    third = float(torch.tensor(1 / 3))
    assert levels["original"] == [0.0, third, third, float(torch.tensor(2 / 3)), float(torch.tensor(2 / 3)), 1.0, 1.0]
    assert levels["modified"] == [0.0, 0.0, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert levels["centred"] == [0.125, 0.125, 0.375, 0.625, 0.625, 0.875, 0.875]
    assert unit_levels(torch.zeros(2, dtype=torch.int32), 0, "original").tolist() == [0.5, 0.5]


def test_centred_levels_are_the_authors():
    levels = UniformWeights(4, scheme="centred").levels(torch.arange(16, dtype=torch.int32))
    assert levels.tolist() == [step / 16 for step in range(-15, 16, 2)]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_original_levels_are_torchs_off_ties(bits):
    unit, largest = torch.rand(5000, generator=torch.Generator().manual_seed(bits)), 2**bits - 1
    theirs = torch.fake_quantize_per_tensor_affine(unit, 1 / largest, 0, 0, largest)
    off_ties = ((unit * largest) % 1 - 0.5).abs() > 1e-4
    found = unit_codes(unit, bits, "original")
    assert torch.equal(found[off_ties], (theirs * largest).round().int()[off_ties])
    assert off_ties.float().mean() > 0.9


@given(bits=st.integers(1, 8), scheme=st.sampled_from(SCHEMES), seed=st.integers(0, 50))
def test_codes_fit_their_bits_and_levels_stay_inside(bits, scheme, seed):
    unit = torch.rand(200, generator=torch.Generator().manual_seed(seed))
    unit[:2] = torch.tensor([0.0, 1.0])
    codes = unit_codes(unit, bits, scheme)
    assert 0 <= int(codes.min()) <= int(codes.max()) < 2**bits
    levels = unit_levels(codes, bits, scheme)
    assert 0.0 <= float(levels.min()) <= float(levels.max()) <= 1.0
    assert float((levels - unit).abs().max()) <= (1.0 if scheme == "modified" else 0.5) / (2**bits - 1) + 1e-6


@pytest.mark.parametrize("scheme", ["modified", "centred"])
@given(fewer=st.integers(1, 7), seed=st.integers(0, 50))
def test_fewer_bits_are_the_first_ones_of_more(scheme, fewer, seed):
    unit = torch.rand(300, generator=torch.Generator().manual_seed(seed))
    unit[:3] = torch.tensor([0.0, 0.5, 1.0])
    assert torch.equal(unit_codes(unit, fewer, scheme), unit_codes(unit, 8, scheme) >> (8 - fewer))


@given(scale=st.floats(1e-4, 1e3), seed=st.integers(0, 50))
def test_clamped_weights_fill_the_unit_interval(scale, seed):
    unit = clamped(scale * draw(40, 30, seed=seed))
    assert 0.0 <= float(unit.min()) <= float(unit.max()) <= 1.0
    assert max(float(unit.max()) - 0.5, 0.5 - float(unit.min())) == 0.5
    assert torch.equal(clamped(torch.zeros(3)), torch.full((3,), 0.5))


def test_clamping_inflates_and_the_constant_mends_it():
    weight = draw(1024, 1024) / 32
    assert float((2 * clamped(weight) - 1).std()) > 5 * float(weight.std())
    for bits in (2, 4):
        for scheme in SCHEMES:
            rule = UniformWeights(bits, fan=1024, scheme=scheme)
            assert float(rule.values(*rule.codes(weight)).std()) == pytest.approx(1 / 32, rel=0.01)
    assert float(constant_scale(torch.ones(5), 3)) == 1.0
    assert float(constant_scale(draw(9), 0)) == 1.0


def test_fans_by_hand():
    assert fan_of(torch.zeros(6, 256), "outputs") == 6
    assert fan_of(torch.zeros(6, 256), "larger") == 256
    assert fan_of(torch.zeros(256, 17), "larger") == 256
    assert fan_of(torch.zeros(8, 3, 5, 5), "outputs") == 200
    assert fan_of(torch.tensor([[1.0, -1.0], [3.0, 1.0]]), "trained") == pytest.approx(3 / 8)
    assert fan_of(torch.zeros(6, 256), "trained") == 256  # which have no variance to keep


@pytest.mark.parametrize("detach", [True, False])
def test_gradients_of_weights_go_through_tanh_and_not_the_constant(detach):
    weight, factor = draw(5, 4).double().requires_grad_(), draw(5, 4, seed=1).double()
    rule = UniformWeights(3, fan=5, detach=detach)
    (rule.quantize(weight) * factor).sum().backward()
    _, scale = rule.codes(weight.detach())
    tanh, slope = weight.detach().tanh(), 1 - weight.detach().tanh() ** 2
    expected = factor * scale * slope / tanh.abs().max()
    if not detach:  # d/dW of the maximum, at the place it is taken
        place = tanh.abs().flatten().argmax()
        pulled = (factor * scale * tanh).sum() / tanh.abs().max() ** 2 * (tanh.sign() * slope).flatten()[place]
        expected.view(-1)[place] -= pulled
    torch.testing.assert_close(weight.grad, expected)


def test_what_is_learned_is_what_is_packed():
    weight, rule = draw(12, 7).requires_grad_(), UniformWeights(3, fan=12, scheme="centred")
    assert torch.equal(rule.quantize(weight).detach(), rule.values(*rule.codes(weight.detach())))


def surrogate(x, alpha, bits, signed, calibrated):
    """What alpha's gradient is one of: the rounding is held while alpha moves, or left out (PACT)."""
    low = -1.0 if signed else 0.0
    unit = np.clip(x / alpha, low, 1.0)
    levels = 2**bits - 1
    rounded = 2 * np.round(levels * (unit + 1) / 2) / levels - 1 if signed else np.round(levels * unit) / levels
    error = (rounded - unit) if calibrated else 0.0
    return lambda moved: moved * (np.clip(x / moved, low, 1.0) + error * (np.abs(x) < alpha))


@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_alphas_gradient_is_the_finite_difference_of_the_surrogate(bits, signed, calibrated):
    rule = ClippedInput(bits, signed=signed, calibrated=calibrated).double()
    nn.init.constant_(rule.alpha, -1.3)  # its absolute value counts
    inputs = (2.0 * draw(400)).double()
    inputs = (inputs if signed else inputs.relu()).requires_grad_()
    rule(inputs).sum().backward()
    held, step = surrogate(inputs.detach().numpy(), 1.3, bits, signed, calibrated), 1e-6
    expected = (held(1.3 + step) - held(1.3 - step)).sum() / (2 * step)
    assert float(rule.alpha.grad) == pytest.approx(-expected, abs=1e-4)
    inside = (inputs > (-1.3 if signed else 0.0)) & (inputs < 1.3)
    assert torch.equal(inputs.grad, inside.double())


def test_clipped_inputs_by_hand():
    rule = ClippedInput(2, signed=False)
    nn.init.constant_(rule.alpha, 3.0)
    assert rule(torch.tensor([-1.0, 0.2, 0.8, 1.6, 3.0, 9.0])).tolist() == [0.0, 0.0, 1.0, 2.0, 3.0, 3.0]
    both = ClippedInput(2, signed=True)
    nn.init.constant_(both.alpha, 3.0)
    torch.testing.assert_close(
        both(torch.tensor([-9.0, -1.1, 0.1, 2.9])), torch.tensor([-3.0, -1.0, 1.0, 3.0]), rtol=0, atol=1e-6
    )


def test_alphas_are_measured_layer_after_layer_and_asked_for():
    torch.manual_seed(0)
    network = nn.Sequential(
        QuantizedLayer(nn.Linear(3, 8), None, ClippedInput(4, signed=True)),
        nn.ReLU(),
        QuantizedLayer(nn.Linear(8, 2), None, ClippedInput(4, signed=False)),
    )
    with pytest.raises(UserError, match="0: its alpha was never measured"):
        require_calibrated(network)
    inputs = draw(50, 3)
    with calibrating(network, 0.7), torch.no_grad():
        network(inputs)
    require_calibrated(network)
    first, second = network[0].input_rule, network[2].input_rule
    assert float(first.alpha.detach()) == pytest.approx(0.7 * float(inputs.abs().max()))
    with torch.no_grad():
        assert float(second.alpha) == pytest.approx(0.7 * float(network[0](inputs).max()))


def test_unrounded_networks_clamp_and_clip_alone():
    torch.manual_seed(0)
    layer = QuantizedLayer(nn.Linear(5, 6), UniformWeights(2, fan=6), ClippedInput(2, signed=True))
    nn.init.constant_(layer.input_rule.alpha, 1.0)
    inputs = draw(9, 5)
    with unrounded(layer):
        outputs = layer(inputs)
    signed = 2 * clamped(layer.layer.weight) - 1
    expected = inputs.clamp(-1, 1) @ (signed * constant_scale(signed, 6)).T + layer.layer.bias
    torch.testing.assert_close(outputs, expected)
    assert not torch.equal(layer(inputs), outputs)


def test_integers_and_one_scale_give_the_same_outputs():
    torch.manual_seed(1)
    rule, layer = UniformWeights(4, fan=20), nn.Linear(30, 20, bias=False)
    inputs = ClippedInput(4, signed=False)
    nn.init.constant_(inputs.alpha, 2.0)
    given_inputs = draw(11, 30).relu()
    codes, scale = rule.codes(layer.weight.detach())
    whole = (given_inputs.clamp(0, 2) / 2 * 15).round().long()
    sums = whole @ (2 * codes.long() - 15).T
    expected = sums.double() * float(scale) / 15 * 2 / 15
    found = QuantizedLayer(layer, rule, inputs)(given_inputs).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_what_is_normalized_is_seen_in_the_flow_of_data():
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(64, 8), nn.Identity(), nn.LayerNorm(8), nn.Linear(8, 2),
    ).eval()  # fmt: skip
    assert followed_by_normalization(network, draw(1, 1, 8, 8)) == {"0", "6"}


def test_weights_that_are_not_finite_are_refused_by_name():
    network = nn.Sequential(nn.Linear(2, 2))
    require_finite_weights(network)
    nn.init.constant_(network[0].weight, float("nan"))
    with pytest.raises(UserError, match=r"0\.weight holds NaN"):
        require_finite_weights(network)
