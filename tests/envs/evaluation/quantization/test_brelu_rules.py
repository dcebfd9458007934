"""BReLU's rules by hand, and its layers beside twins."""

import pytest
import torch
from integer_subjects import lively
from torch import nn
from torch.nn import functional

from envs.evaluation.quantization.brelu_layers import BoundedLayer, BoundedReLU, upper_quantile
from envs.evaluation.quantization.brelu_rules import bound_pair, shortcut_pair
from rlsuite.errors import UserError

# -- rules by hand -------------------------------------------------------------------------------------------------


def test_the_bounds_pair_by_hand():
    # 300 in whole numbers: 127.5 * 2^i > 300 from i = 2 on; 510 / 300 -> 2, and 600 / 4 = 150 is no 127; i = 3:
    # 1020 / 300 -> 3, 900 / 8 = 112.5 no; i = 4: 2040 / 300 -> 7, 2100 / 16 = 131.3 no; i = 5: 4080 / 300 -> 14,
    # 131.3 no; i = 6: 8160 / 300 -> 27, 126.56 yes.
    pair, bound = bound_pair(3.0, 100.0, 127)
    assert (pair.multiplier, pair.shift) == (27, 6)
    assert pair.most == round(127 * 64 / 27)
    assert bound == pytest.approx(127 * 64 / 27 / 100)
    with pytest.raises(UserError, match="which no multiplier fits"):
        bound_pair(0.0, 100.0, 127)


@pytest.mark.parametrize("levels", [1, 3, 7, 15, 127])
@pytest.mark.parametrize("bound", [0.013, 0.9, 4.0, 77.0])
def test_bounds_meet_the_last_level_and_no_more(levels, bound):
    pair, nudged = bound_pair(bound, 5000.0, levels)
    assert nudged == pytest.approx(bound, rel=0.6 / levels)
    assert (pair.most * pair.multiplier + pair.half) >> pair.shift == levels
    sums = torch.arange(pair.most + 1)
    outputs = (sums * pair.multiplier + pair.half) >> pair.shift
    wanted = sums / 5000.0 / nudged * levels
    assert (outputs - wanted).abs().max() <= 0.5 + 1e-2


def test_the_shortcuts_pair_by_hand():
    # q = 2.5: i = 2: 4 / 2.5 -> 2, 2 is 20 % off; i = 3: 8 / 2.5 -> 3, 2.67; i = 4: 6, 2.67; i = 5: 13, 2.46;
    # i = 6: 26, 2.46; i = 7: 51, 2.5098, within 1 %.
    assert shortcut_pair(2.5)[:2] == (51, 7)
    assert shortcut_pair(0.5)[:2] == (2, 0)
    for quotient in (0.013, 0.7, 1.0, 3.3, 900.0):
        multiplier, shift, _ = shortcut_pair(quotient)
        assert 2**shift / multiplier == pytest.approx(quotient, rel=0.01)
    with pytest.raises(UserError, match="no multiplier fits"):
        shortcut_pair(1e9)


def test_bounds_are_ranks_with_zeros_counted():
    values = torch.tensor([0.0, 0.0, 0.0, 0.0, 5.0, 1.0, 3.0, 2.0, 4.0, 6.0])
    assert upper_quantile(values, 0.9) == 5.0
    assert upper_quantile(values, 0.5) == 1.0
    assert upper_quantile(values, 1.0) == 6.0
    assert upper_quantile(values, 1e-9) == 0.0


def test_bounded_relu_clamps_and_passes_gradients_inside():
    part = BoundedReLU()
    inputs = torch.tensor([-1.0, 0.5, 3.0], requires_grad=True)
    assert part(inputs).tolist() == [0.0, 0.5, 3.0]
    part.bound.fill_(2.0)
    part(inputs).sum().backward()
    assert part(inputs).tolist() == [0.0, 0.5, 2.0]
    assert inputs.grad.tolist() == [0.0, 1.0, 0.0]
    assert not list(part.parameters())


# -- layers beside twins ---------------------------------------------------------------------------------------------


def test_a_bounded_layer_has_one_step_for_its_folded_weight():
    torch.manual_seed(1)
    layer, norm = nn.Conv2d(3, 5, 3, bias=False), lively(nn.BatchNorm2d(5))
    bounded, inputs = BoundedLayer(layer, norm, 8), torch.randn(2, 3, 6, 6)
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    folded = layer.weight * gain.view(-1, 1, 1, 1)
    step = max(float(folded.min().abs()) / 128, float(folded.max().abs()) / 127)
    quantized = (folded / step).round().clamp(-128, 127) * step
    expected = functional.conv2d(inputs, quantized, norm.bias - norm.running_mean * gain)
    torch.testing.assert_close(bounded(inputs), expected, rtol=1e-4, atol=1e-5)
    assert float(bounded.step) == pytest.approx(step, rel=1e-6)
    names = {name for name, _ in bounded.named_parameters()}
    assert names == {"layer.weight", "layer.bias"}  # gamma and statistics are frozen


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_the_parameter_is_the_authors_shadow_copy(kind):
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    bounded, inputs, wanted = BoundedLayer(layer, None, 4), torch.randn(20, 6), torch.randn(20, 4)
    keywords = {"lr": 0.03, **({"momentum": 0.9} if kind is torch.optim.SGD else {})}
    ours = kind(bounded.parameters(), **keywords)

    def quantized(weight):
        step = max(float(weight.min().abs()) / 8, float(weight.max().abs()) / 7)
        return (weight / step).round().clamp(-8, 7) * step

    shadow = layer.weight.detach().clone()
    weight, bias = nn.Parameter(quantized(shadow)), nn.Parameter(layer.bias.detach().clone())
    theirs = kind([weight, bias], **keywords)
    for _ in range(10):
        before = weight.detach().clone()
        for optimizer, outputs in ((ours, bounded(inputs)), (theirs, functional.linear(inputs, weight, bias))):
            optimizer.zero_grad()
            (outputs - wanted).square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            shadow += weight - before
            weight.copy_(quantized(shadow))
    torch.testing.assert_close(bounded.layer.weight, shadow, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(bounded.layer.bias, bias, rtol=1e-4, atol=1e-5)
