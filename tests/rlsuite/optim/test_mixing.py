"""Mixtures of steps, by hand and against plain loops over lists of iterates."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rlsuite.errors import UserError
from rlsuite.optim.anderson import anderson_weights
from rlsuite.optim.choice import OptimizerConfig, make_optimizer, set_factor
from rlsuite.optim.mixing import MixingConfig
from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors


def made(weights, name="sgd", rate=0.5, **mixing):
    config = OptimizerConfig(name=name, momentum=0.0, learning_rate=rate, mixing=MixingConfig(**mixing))
    return make_optimizer(weights, config)


def weight(*values):
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def step(optimizer, point, gradient):
    point.grad = torch.as_tensor(gradient, dtype=point.dtype).expand_as(point).clone()
    optimizer.step()
    return point.detach().tolist()


def test_two_taps_written_out():
    """f(x) = x^2 / 2 from 1 at rate 1/2: images are half the point; from the second step on 2/3 new and 1/3 old."""
    x = weight(1.0)
    optimizer = made({"x": x}, kind="interpolatron")
    images, expected = [], []
    for _ in range(4):
        before = x.item()
        images.append(before / 2)
        expected.append(images[-1] if len(images) == 1 else 2 / 3 * images[-1] + 1 / 3 * images[-2])
        assert step(optimizer, x, before) == pytest.approx([expected[-1]], rel=1e-12)
    # 1 -> 1/2 -> 2/3 * 1/4 + 1/3 * 1/2 = 1/3 -> 2/3 * 1/6 + 1/3 * 1/4 = 7/36 -> 2/3 * 7/72 + 1/3 * 1/6
    assert expected == pytest.approx([1 / 2, 1 / 3, 7 / 36, 13 / 108])


def test_a_constant_gradient_moves_it_by_three_quarters_of_the_rate():
    x = weight(0.0)
    optimizer = made({"x": x}, kind="interpolatron")
    places = [step(optimizer, x, -1.0)[0] for _ in range(60)]
    assert places[-1] - places[-2] == pytest.approx(0.75 * 0.5, rel=1e-9)


@pytest.mark.parametrize(("rate", "bounded"), [(3.9, True), (4.1, False)])
def test_two_taps_are_stable_up_to_four_over_the_curvature(rate, bounded):
    x = weight(1.0)
    optimizer = made({"x": x}, rate=rate, kind="interpolatron")
    for _ in range(600):
        step(optimizer, x, x.detach())
    assert (abs(x.item()) < 1e-3) == bounded
    if not bounded:
        assert abs(x.item()) > 1e3


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_one_tap_is_the_optimizer_alone(name, generator):
    gradients = torch.rand(6, 3, generator=generator, dtype=torch.float64) - 0.5
    plain, mixed = weight(1.0, 2.0, 3.0), weight(1.0, 2.0, 3.0)
    optimizers = made({"x": plain}, name), made({"x": mixed}, name, kind="interpolatron", taps=(3.0,))
    for gradient in gradients:
        assert step(optimizers[0], plain, gradient) == step(optimizers[1], mixed, gradient)


def test_every_third_step_mixes_the_means_of_the_steps_between():
    """Gradient 1 at rate 1: from 0 the steps lead to -1, -2, -3, of mean -2; then from -2 to -3, -4, -5, of mean -4."""
    x = weight(0.0)
    optimizer = made({"x": x}, rate=1.0, kind="interpolatron", taps=(1.0, 1.0), every=3, averaged=True)
    assert [step(optimizer, x, 1.0)[0] for _ in range(6)] == [-1.0, -2.0, -2.0, -3.0, -4.0, -3.0]
    last = weight(0.0)
    optimizer = made({"x": last}, rate=1.0, kind="interpolatron", taps=(1.0, 1.0), every=3)
    assert [step(optimizer, last, 1.0)[0] for _ in range(6)] == [-1.0, -2.0, -3.0, -4.0, -5.0, -4.5]


def test_anderson_weights_by_hand():
    """Residuals 2 and -1 on a line cancel at weights 1/3 and 2/3; 2 and 1 do at -1 and 2; a large ridge levels them."""
    for residuals, weights in (((2.0, -1.0), (1 / 3, 2 / 3)), ((2.0, 1.0), (-1.0, 2.0))):
        products = torch.tensor(residuals, dtype=torch.float64)
        products = products[:, None] * products
        assert anderson_weights(products, 1e-13).tolist() == pytest.approx(weights, abs=1e-6)
        assert anderson_weights(products, 1e9).tolist() == pytest.approx((0.5, 0.5), abs=1e-6)
    assert anderson_weights(torch.zeros(3, 3, dtype=torch.float64), 1e-3).tolist() == pytest.approx([1 / 3] * 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 999), st.sampled_from([1e-6, 1e-2, 1.0]), st.sampled_from([1e-8, 1.0, 1e8]))
def test_no_other_weights_make_the_mixture_smaller(count, seed, ridge, scale):
    draw = np.random.default_rng(seed)
    residuals = scale * torch.from_numpy(draw.normal(size=(count, 4)))
    products = residuals @ residuals.T
    found = anderson_weights(products, ridge)
    assert float(found.sum()) == pytest.approx(1.0)

    def objective(weights):
        return float(weights @ products @ weights / products.trace() + ridge * weights.square().sum())

    for _ in range(5):
        aside = torch.from_numpy(draw.normal(size=count))
        assert objective(found) <= objective(found + 0.1 * (aside - aside.mean())) + 1e-12


@pytest.mark.parametrize("relaxation", [1.0, 0.5])
def test_anderson_is_the_loop_over_lists(relaxation, generator):
    """On a quadratic of five curvatures, history three, over two tensors: weights are those of both together."""
    curvatures = torch.linspace(0.1, 1.5, 5, dtype=torch.float64)
    start = torch.rand(5, generator=generator, dtype=torch.float64)
    a, b = nn.Parameter(start[:2].clone()), nn.Parameter(start[2:].reshape(3, 1).clone())
    optimizer = made({"a": a, "b": b}, rate=0.6, kind="anderson", history=3, ridge=1e-6, relaxation=relaxation)
    point, points, images = start.numpy(), [], []
    for _ in range(12):
        gradient = curvatures * torch.cat([a.detach(), b.detach().flatten()])
        a.grad, b.grad = gradient[:2].clone(), gradient[2:].reshape(3, 1).clone()
        optimizer.step()
        points, images = [*points, point][-3:], [*images, point - 0.6 * curvatures.numpy() * point][-3:]
        residuals = np.stack(images) - np.stack(points)
        products = residuals @ residuals.T
        solved = np.linalg.solve(products / np.trace(products) + 1e-6 * np.eye(len(points)), np.ones(len(points)))
        weights = solved / solved.sum()
        point = relaxation * weights @ np.stack(images) + (1 - relaxation) * weights @ np.stack(points)
        np.testing.assert_allclose(torch.cat([a.detach(), b.detach().flatten()]).numpy(), point, rtol=1e-6, atol=1e-14)


def test_anderson_with_a_whole_history_ends_a_quadratic_of_three_curvatures_in_four_steps():
    curvatures, x = torch.tensor([0.2, 0.7, 1.0], dtype=torch.float64), weight(1.0, -2.0, 3.0)
    optimizer = made({"x": x}, rate=1.0, kind="anderson", history=5, ridge=1e-14)
    far = [max(map(abs, step(optimizer, x, curvatures * x.detach()))) for _ in range(4)]
    assert far[2] > 1e-3
    assert far[3] < 1e-6


def test_anderson_forgets_where_the_rate_jumps():
    """Gradient of x^2 / 2: two images on a line give 0 at once; after a jump of the rate the step stands alone."""
    x = weight(1.0)
    optimizer = made({"x": x}, rate=0.5, kind="anderson", history=2, ridge=1e-12)
    assert step(optimizer, x, 1.0) == [0.5]
    set_factor(optimizer, 0.1)
    assert step(optimizer, x, 0.5) == pytest.approx([0.475])  # plain: 0.5 - 0.05 * 0.5
    assert step(optimizer, x, 0.475) == pytest.approx([0.0], abs=1e-6)


@pytest.mark.parametrize("kind", ["interpolatron", "anderson"])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_weight_that_moves_late_has_stood_still_before(kind, name):
    """As if its gradient had been 0 at first, where the optimizer itself has no memory of that."""
    late, still, other = weight(1.0), weight(1.0), weight(5.0)
    optimizers = [
        made({"x": point, "y": beside}, name, kind=kind, ridge=1e-3, every=2, averaged=True)
        for point, beside in ((late, weight(5.0)), (still, other))
    ]
    for turn in range(7):
        for optimizer in optimizers:
            x, y = optimizer.param_groups[0]["params"]
            y.grad = y.detach().clone()
            x.grad = x.detach().clone() if turn >= 3 else (torch.zeros_like(x) if x is still else None)
            optimizer.step()
    if name == "sgd":
        assert late.item() == pytest.approx(still.item(), rel=1e-12)
    assert torch.isfinite(late).all()
    assert late.item() != 1.0


@pytest.mark.parametrize("kind", ["interpolatron", "anderson"])
@pytest.mark.parametrize("cut", [1, 4, 5, 9])
def test_a_state_put_back_goes_on_to_the_same_bits(kind, cut, generator):
    def fresh():
        point = nn.Parameter(torch.ones(4))
        return point, made({"x": point}, "adam", kind=kind, taps=(3.0, 2.0, 1.0), history=3, every=2, averaged=True)

    gradients = torch.rand(14, 4, generator=generator) - 0.5
    whole, optimizer = fresh()
    for place, gradient in enumerate(gradients):
        if place == cut:
            saved = (
                whole.detach().clone(),
                {name: one.clone() for name, one in optimizer_tensors({"o": optimizer}).items()},
            )
        step(optimizer, whole, gradient)
    resumed, optimizer = fresh()
    with torch.no_grad():
        resumed.copy_(saved[0])
    load_optimizer_tensors({"o": optimizer}, saved[1])
    for gradient in gradients[cut:]:
        step(optimizer, resumed, gradient)
    assert torch.equal(resumed, whole)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"kind": "andersen"}, "did you mean 'anderson"),
        ({"taps": ()}, r"mixing.taps=\[\]"),
        ({"taps": (0.0, 1.0)}, "the first above 0"),
        ({"taps": (1.0, -1.0)}, "mixing.taps"),
        ({"history": 0}, "mixing.history=0"),
        ({"ridge": 0.0}, "mixing.ridge"),
        ({"relaxation": 1.5}, "mixing.relaxation=1.5"),
        ({"every": 0}, "mixing.every=0"),
    ],
)
def test_bad_mixing_is_refused(numbers, words):
    with pytest.raises(UserError, match=words):
        MixingConfig(**numbers)
