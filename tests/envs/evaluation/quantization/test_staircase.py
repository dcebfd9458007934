"""Staircases: steps by hand, gradients of the paper and by differences, starts and clusters."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.evaluation.quantization.staircase import LEVELS, Staircase, cluster_thresholds, input_levels
from rlsuite.errors import UserError


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_hard_steps_by_hand():
    stair = Staircase(LEVELS["pm4"]).eval()
    with torch.no_grad():
        stair.alpha.fill_(0.5)
        stair.beta.fill_(2.0)
        stair.thresholds.copy_(torch.tensor([-3.0, -1.5, -0.5, 0.5, 1.5, 3.0]))
    values = torch.tensor([-9.0, -1.5, -1.4, -0.26, -0.25, 0.0, 0.25, 0.26, 0.8, 2.0])
    # 2x: -18, -3 (on a step: below it), -2.8, -.52, -.5 (likewise), 0, .5, .52, 1.6, 4
    assert stair.codes(values).tolist() == [0, 0, 1, 2, 2, 3, 3, 4, 5, 6]
    assert stair(values).tolist() == [-2.0, -2.0, -1.0, -0.5, -0.5, 0.0, 0.0, 0.5, 1.0, 2.0]


@pytest.mark.parametrize("levels", [*LEVELS.values(), input_levels(2, signed=False), input_levels(3, signed=True)])
def test_soft_becomes_hard_away_from_the_steps(levels):
    stair = Staircase(levels)
    stair.start(draw(1000))
    values = draw(500, seed=1)
    scaled = stair.beta.detach() * values
    away = (scaled.unsqueeze(1) - stair.thresholds).abs().min(1).values > 0.02
    stair.temperature = 2000.0
    with torch.no_grad():
        soft, hard = stair.train()(values), stair.eval()(values)
    assert away.float().mean() > 0.5
    torch.testing.assert_close(soft[away], hard[away], atol=2e-3, rtol=0.0)  # sigmoid(-10) is 4.5e-5, a step each
    assert set(stair.codes(values).tolist()) <= set(range(len(levels)))


@pytest.mark.parametrize("blunt", [False, True])
def test_thresholds_that_passed_each_other_are_the_same_steps_soft_and_hard(blunt):
    stair = Staircase(LEVELS["pm4"], learn_thresholds=True, blunt=blunt)
    with torch.no_grad():
        stair.thresholds.copy_(torch.tensor([-1.0, -2.0, -0.5, 0.5, 1.0, 3.0]))
    stair.temperature = 2000.0
    values = torch.tensor([-2.5, -1.5, -0.7, 0.0])
    # One step up, the first, is of 2: from -4 to -2; the second is of 1, whichever threshold came there.
    assert stair.eval()(values).tolist() == [-4.0, -2.0, -1.0, 0.0]
    soft = stair.train()(values)
    torch.testing.assert_close(soft, torch.tensor([-4.0, -2.0, -1.0, 0.0]), atol=2e-3, rtol=0.0)
    stair.temperature = 1.0
    stair(torch.tensor([-1.5])).sum().backward()
    # -2 is the first step now, of height 2, and -1 the second: |d| = s sigmoid'(1/2) for both.
    slope = float(torch.sigmoid(torch.tensor(0.5)) * torch.sigmoid(torch.tensor(-0.5)))
    assert stair.thresholds.grad[:2].tolist() == pytest.approx([-slope, -2 * slope])


def papers_gradients(stair, values, gradient):
    """Step by step as the paper writes them (equations 7 to 9), with the sum over levels that go unlearned added."""
    alpha, beta, temperature = stair.alpha.item(), stair.beta.item(), stair.temperature
    argument = (temperature * (beta * values.unsqueeze(1) - stair.thresholds.detach())).clamp(-10, 10)
    sig = stair.heights * torch.sigmoid(argument)
    bells = sig * (stair.heights - sig) / stair.heights
    return {
        "values": gradient * alpha * beta * temperature * bells.sum(1),
        "alpha": (gradient * (stair.levels[0] + sig.sum(1))).sum(),
        "beta": (gradient * alpha * temperature * values * bells.sum(1)).sum(),
        "thresholds": -(gradient.unsqueeze(1) * alpha * temperature * bells).sum(0),
    }


@pytest.mark.parametrize("levels", [LEVELS["ternary"], LEVELS["pm4"], input_levels(2, signed=False)])
@pytest.mark.parametrize("temperature", [1.0, 7.0, 300.0])
def test_gradients_are_the_papers(levels, temperature):
    stair = Staircase(levels, learn_thresholds=True).double()
    stair.start(draw(200, dtype=torch.float64))
    stair.temperature = temperature
    values = draw(50, seed=1, dtype=torch.float64).requires_grad_()
    gradient = draw(50, seed=2, dtype=torch.float64)
    stair(values).backward(gradient)
    expected = papers_gradients(stair, values.detach(), gradient)
    torch.testing.assert_close(values.grad, expected["values"])
    for name in ("alpha", "beta", "thresholds"):
        torch.testing.assert_close(getattr(stair, name).grad, expected[name], msg=name)


def test_gradients_by_finite_differences():
    stair = Staircase(LEVELS["pm4"], learn_thresholds=True).double()
    stair.start(draw(200, dtype=torch.float64))
    stair.temperature = 1.0
    names = ("alpha", "beta", "thresholds")

    def quantize(values, *numbers):
        return torch.func.functional_call(stair, dict(zip(names, numbers, strict=True)), (values,))

    inputs = [draw(20, seed=1, dtype=torch.float64), *(getattr(stair, name).detach() for name in names)]
    # Within +-10 nothing is clamped at this temperature.
    assert torch.autograd.gradcheck(quantize, [value.clone().requires_grad_() for value in inputs])


def test_the_blunt_gradient_is_that_at_one_times_the_temperature():
    found = {}
    for blunt, temperature in itertools.product((False, True), (1.0, 50.0)):
        stair = Staircase(LEVELS["ternary"], blunt=blunt)
        stair.start(draw(300))
        stair.temperature = temperature
        values = draw(40, seed=1).requires_grad_()
        output = stair(values)
        output.sum().backward()
        found[blunt, temperature] = (output.detach(), values.grad, stair.alpha.grad, stair.beta.grad)
    for place in (0, 2):  # the value, and alpha's gradient, are those of the soft steps at T
        torch.testing.assert_close(found[True, 50.0][place], found[False, 50.0][place])
    for place in (1, 3):
        torch.testing.assert_close(found[True, 50.0][place], 50.0 * found[False, 1.0][place])


def test_a_start_by_hand():
    stair = Staircase(LEVELS["pm2"])
    values = torch.tensor([-4.0, -2.0, 0.0, 2.0, 4.0]).repeat_interleave(9)
    stair.start(values)
    assert stair.beta.item() == pytest.approx(5 * 2 / (4 * 4))
    assert stair.alpha.item() == pytest.approx(1.6)
    torch.testing.assert_close(stair.thresholds, 0.625 * torch.tensor([-3.0, -1.0, 1.0, 3.0]))
    stair.start(values, beta=2.0)
    assert (stair.beta.item(), stair.alpha.item()) == (2.0, 0.5)


def test_clusters_by_brute_force():
    values = torch.tensor([0.0, 0.1, 0.2, 3.0, 3.2, 9.0, 9.1, 9.3])
    parts = [values[:3], values[3:5], values[5:]]
    means = [float(part.mean()) for part in parts]
    expected = torch.tensor([(means[0] + means[1]) / 2, (means[1] + means[2]) / 2])
    torch.testing.assert_close(cluster_thresholds(values, (0, 1, 2)), expected)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 300), zeros=st.integers(0, 600), levels=st.integers(2, 8), seed=st.integers(0, 999))
def test_thresholds_rise_and_lie_within_the_values(count, zeros, levels, seed):
    values = torch.cat([draw(count, seed=seed).relu(), torch.zeros(zeros)])
    thresholds = cluster_thresholds(values, tuple(range(levels)))
    assert len(thresholds) == levels - 1
    assert (thresholds.diff() > 0).all()
    if len(values.unique()) > 2 * levels:
        assert float(thresholds[0]) > 0
        assert float(thresholds[-1]) < float(values.max())


def test_inputs_levels():
    assert input_levels(2, signed=False) == (0, 1, 2, 3)
    assert input_levels(3, signed=True) == (-3, -2, -1, 0, 1, 2, 3)
    assert input_levels(1, signed=True) == (-1, 1)


def test_beta_stays_positive_and_comes_back():
    stair = Staircase(LEVELS["binary"])
    with torch.no_grad():
        stair.beta.fill_(-0.5)
    stair(draw(20)).sum().backward()
    assert stair.positive_beta().item() == pytest.approx(1e-3)
    assert float(stair.beta.grad) != 0.0


def test_values_without_levels_are_refused():
    with pytest.raises(UserError, match="the largest value is 0"):
        Staircase(LEVELS["pm2"]).start(torch.zeros(3), beta=2.0)
