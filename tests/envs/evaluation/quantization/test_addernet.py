"""AdderNet: distances and their gradients by hand, local rates, what is replaced, what is kept, and what is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import classifier, stripes
from torch import nn
from torch.nn import functional

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_additions, count_macs, measure_size
from envs.evaluation.quantization.adder import ETA, AdderLayer, distances
from envs.evaluation.recipe import load_network, network_base, rebuild, same_bits, save_network
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import apply
from rlsuite.errors import UserError
from rlsuite.methods import choose
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.optim.choice import OptimizerConfig, make_optimizer

QUICK = {"addernet.teach.rounds": 1, "addernet.teach.fit.steps": 60, "addernet.teach.fit.batch_size": 32}


def method(**numbers):
    return choose(EVALUATIONS, ["addernet"], QUICK | {f"addernet.{key}": value for key, value in numbers.items()})[0]


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def normalized_classifier(seed=0):
    """A convolutional classifier with BatchNorm."""
    config = ConvNetConfig(widths=(4, 4, 4), hidden=0, batch_norm=True)
    task = ClassifierTask(stripes(256, 1), stripes(100, 2), num_classes=2)
    module = ConvNet(1, 8, 2, config, seed).eval()
    base = network_base("conv", channels=1, size=8, outputs=2, config=config)
    return Subject(module, task.source("test").tensors["input"][:1], task, base)


# -- distances -----------------------------------------------------------------------------------------------------


def naive(pictures, weight, stride, padding, dilation):
    """Sum over every place of a kernel, one by one."""
    padded = functional.pad(pictures, (padding,) * 4)
    sides = [
        (size - dilation * (side - 1) - 1) // stride + 1
        for size, side in zip(padded.shape[2:], weight.shape[2:], strict=True)
    ]
    found = torch.zeros(len(pictures), len(weight), *sides)
    for row in range(sides[0]):
        for column in range(sides[1]):
            for place, each in enumerate(weight):
                down, right = weight.shape[2:]
                patch = padded[
                    :,
                    :,
                    row * stride : row * stride + dilation * (down - 1) + 1 : dilation,
                    column * stride : column * stride + dilation * (right - 1) + 1 : dilation,
                ]
                found[:, place, row, column] = -(patch - each).abs().sum((1, 2, 3))
    return found


@settings(max_examples=20, deadline=None)
@given(
    kernel=st.sampled_from([(1, 1), (3, 3), (2, 3)]),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    seed=st.integers(0, 999),
)
def test_distances_are_the_naive_sums(kernel, stride, padding, dilation, seed):
    layer = AdderLayer(nn.Conv2d(3, 5, kernel, stride, padding, dilation))
    with torch.no_grad():
        layer.weight.copy_(draw(5, 3, *kernel, seed=seed))
        pictures = draw(2, 3, 6, 7, seed=seed + 1)
        found = layer(pictures)
        torch.testing.assert_close(
            found, naive(pictures, layer.weight, stride, padding, dilation), atol=1e-5, rtol=1e-5
        )
    assert float(found.max()) <= 0.0


def test_a_padded_zero_takes_part():
    layer = AdderLayer(nn.Conv2d(1, 1, 3, padding=1))
    with torch.no_grad():
        layer.weight.fill_(2.0)
        found = layer(torch.full((1, 1, 1, 1), 2.0))
    assert found.flatten().tolist() == [-16.0]  # eight zeros beside the one pixel


def test_linear_layers_are_one_patch_an_example():
    layer = AdderLayer(nn.Linear(7, 3))
    inputs = draw(5, 7)
    with torch.no_grad():
        expected = -(inputs.unsqueeze(1) - layer.weight).abs().sum(2)
        torch.testing.assert_close(layer(inputs), expected)


@settings(max_examples=25, deadline=None)
@given(patches=st.integers(1, 40), outputs=st.integers(1, 6), terms=st.integers(1, 9), seed=st.integers(0, 999))
def test_gradients_are_the_papers(patches, outputs, terms, seed):
    left = draw(patches, terms, seed=seed).mul(2.0).requires_grad_()
    right = draw(outputs, terms, seed=seed + 1).requires_grad_()
    upstream = draw(patches, outputs, seed=seed + 2)
    distances(left, right, eta=0.0).backward(upstream)
    difference = left.detach().unsqueeze(1) - right.detach()  # (P, O, n)
    torch.testing.assert_close(right.grad, (upstream.unsqueeze(2) * difference).sum(0), atol=1e-4, rtol=1e-4)
    clamped = (-difference).clamp(-1.0, 1.0)
    torch.testing.assert_close(left.grad, (upstream.unsqueeze(2) * clamped).sum(1), atol=1e-4, rtol=1e-4)
    assert (left.grad.abs() <= upstream.abs().sum(1, keepdim=True) + 1e-5).all()


def test_gradients_in_parts(monkeypatch):
    left, right, upstream = draw(50, 6).requires_grad_(), draw(4, 6, seed=1).requires_grad_(), draw(50, 4, seed=2)
    distances(left, right).backward(upstream)
    whole, left.grad = left.grad, None
    monkeypatch.setattr("envs.evaluation.quantization.adder.AT_ONCE", 40)
    distances(left, right).backward(upstream)
    assert torch.equal(left.grad, whole)


def test_the_sign_gradient_is_that_of_the_function():
    left, right = draw(20, 6, dtype=torch.float64), draw(4, 6, seed=1, dtype=torch.float64)
    arguments = [value.clone().requires_grad_() for value in (left, right)]
    assert torch.autograd.gradcheck(lambda one, other: distances(one, other, 0.0, "sign"), arguments, atol=1e-4)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_filters_gradients_have_the_layers_common_size(size):
    layer = AdderLayer(nn.Conv2d(3, 5, 3, padding=1))
    layer.draw(torch.Generator().manual_seed(0))
    (size * layer(draw(2, 3, 6, 6))).square().sum().backward()
    assert layer.weight.grad.norm().item() == pytest.approx(ETA * math.sqrt(layer.weight.numel()), rel=1e-4)


def test_a_gradient_of_nothing_stays_nothing():
    layer = AdderLayer(nn.Linear(4, 2))
    (0.0 * layer(draw(3, 4))).sum().backward()
    assert layer.weight.grad.abs().max().item() == 0.0


def test_the_local_rate_comes_before_weight_decay():
    layer = AdderLayer(nn.Linear(4, 3))
    before = layer.weight.detach().clone()
    config = OptimizerConfig(name="sgd", learning_rate=0.5, weight_decay=0.25, momentum=0.0)
    optimizer = make_optimizer(dict(layer.named_parameters()), config)
    layer(draw(6, 4)).square().sum().backward()
    gradient = layer.weight.grad.clone()
    optimizer.step()
    assert gradient.norm().item() == pytest.approx(ETA * math.sqrt(12), rel=1e-4)
    torch.testing.assert_close(layer.weight.detach(), before - 0.5 * (gradient + 0.25 * before))


# -- the method ----------------------------------------------------------------------------------------------------


def test_it_learns_and_comes_back_with_the_same_bits(tmp_path):
    subject = normalized_classifier()
    changed = apply(method(), subject, seed=3)
    assert changed.recipe[-1].plan == {"layers": ["body.3.0", "body.5.0"], "outputs": 2}
    assert isinstance(changed.module[0].body[3][0], AdderLayer)
    assert isinstance(changed.module[1], nn.BatchNorm1d)
    assert changed.task.score(changed.module, 0).mean() >= 90.0
    assert "quantized" in changed.traits

    path = tmp_path / "network.safetensors"
    save_network(path, changed.module, changed.base, changed.recipe)
    module, *_ = load_network(path)
    pictures = subject.task.source("test").tensors["input"]
    with torch.no_grad():
        assert same_bits(module(pictures), changed.module(pictures))
    with torch.device("meta"):
        hollow = rebuild(changed.base, changed.recipe)
    assert hollow.state_dict().keys() == changed.module.state_dict().keys()


def test_operations_are_counted():
    subject = normalized_classifier()
    changed = apply(method(**{"teach.fit.steps": 2}), subject, seed=3)
    # Convolutions 1 -> 4 -> 4 -> 4 of 3 x 3 on 4 x 4, 2 x 2 and 1 x 1 pixels; 4 -> 2 linear.
    first, second, third, head = 9 * 4 * 16, 9 * 16 * 4, 9 * 16, 8
    assert count_macs(subject.module, subject.example) == first + second + third + head
    assert count_additions(subject.module, subject.example) == first + second + third + head
    assert count_macs(changed.module, changed.example) == first + head
    assert count_additions(changed.module, changed.example) == first + head + 2 * (second + third)
    assert measure_size(changed)["additions"] == first + head + 2 * (second + third)
    assert "additions" not in measure_size(subject)


def test_filters_are_drawn_from_the_seed():
    one, again, other = (apply(method(), normalized_classifier(), seed=seed) for seed in (4, 4, 5))
    states = [each.module.state_dict() for each in (one, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["0.body.3.0.weight"], states[2]["0.body.3.0.weight"])
    layer = AdderLayer(nn.Conv2d(16, 64, 3))
    layer.draw(torch.Generator().manual_seed(0))
    assert layer.weight.std().item() == pytest.approx(1.0, abs=0.02)


def test_norms_behind_distances_begin_anew_and_others_stay(monkeypatch):
    subject = normalized_classifier()
    with torch.no_grad():
        for part in subject.module.modules():
            if isinstance(part, nn.BatchNorm2d):
                for value in (part.weight, part.bias, part.running_mean, part.running_var):
                    value.fill_(7.0)
    monkeypatch.setattr("envs.evaluation.quantization.addernet.teach", lambda *_: None)
    body = apply(method(), subject, seed=0).module[0].body
    norms = [(float(each[1].weight[0]), float(each[1].running_var[0])) for each in (body[1], body[3], body[5])]
    assert norms == [(7.0, 7.0), (1.0, 1.0), (1.0, 1.0)]
    assert float(body[3][1].bias.abs().max()) == float(body[3][1].running_mean.abs().max()) == 0.0


def test_layers_by_their_names_and_no_norm_of_scores():
    subject = normalized_classifier()
    plan = method(layers=["body.5.*", "body.1.0"], output_norm=False).build().plan(subject)
    assert plan == {"layers": ["body.1.0", "body.5.0"], "outputs": 0}
    interactive = Subject(subject.module, subject.example, subject.task, subject.base)
    interactive.task.interactive = True
    assert method().build().plan(interactive)["outputs"] == 0


REFUSED = {
    "teach.fit.optimizer.name": ("adam", "optimizer.name=adam: it undoes the local learning rates"),
    "teach.fit.clip_norm": (5.0, "clip_norm=5.0: it undoes the local learning rates"),
    "eta": (-1.0, "eta=-1.0"),
    "gradient": ("signs", "gradient=signs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_that_undo_it_are_refused(name):
    value, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as error:
        method(**{name: value})
    assert "\n" not in str(error.value)


def test_networks_that_cannot_add_are_refused():
    with pytest.raises(UserError, match=r"body\.3: no normalization is behind it"):
        apply(method(), classifier(), 0)
    subject = normalized_classifier()
    with pytest.raises(UserError, match="there is no such layer"):
        apply(method(layers=["tail"]), subject, 0)
    with pytest.raises(UserError, match="take the network before it is quantized"):
        apply(method(), apply(method(**{"teach.fit.steps": 2}), subject, 0), 0)
    broken = normalized_classifier()
    with torch.no_grad():
        broken.module.body[3][0].weight[0, 0, 0, 0] = float("inf")
    with pytest.raises(UserError, match="weights are not finite"):
        apply(method(), broken, 0)
    with pytest.raises(UserError, match="with groups"):
        AdderLayer(nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(UserError, match="Conv1d has no form"):
        AdderLayer(nn.Conv1d(4, 4, 3))


@pytest.mark.parametrize(
    "plan",
    [
        None,
        {"layers": []},
        {"layers": ["body.9"], "outputs": 0},
        {"layers": [], "outputs": -1},
        {"layers": [], "outputs": True},
    ],
)
def test_damaged_plans_are_refused(plan):
    with pytest.raises(UserError, match="its plan is damaged"):
        method().build().rebuild(normalized_classifier().copy(), plan)
