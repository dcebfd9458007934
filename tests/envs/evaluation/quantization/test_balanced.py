"""Balanced quantization: bins against the recursion of the paper, effective bits, and what a file gives back."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from judged import classifier
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.quantization.balanced import (
    Balanced,
    BalancedWeights,
    balanced_bins,
    effective_bits,
    input_ranges,
)
from envs.evaluation.quantization.codes import packed_bytes
from envs.evaluation.quantization.layer import PackedLayer, QuantizedLayer, pack_layers
from envs.evaluation.quantization.rules import RangeInput
from envs.evaluation.recipe import load_network, same_bits, save_network
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, apply, check_traits
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import choose
from rlsuite.nn.ensemble import EnsembleLinear
from rlsuite.nn.plain import mlp

QUICK = {"balanced.teach": TeachConfig(fit=FitConfig(steps=6, batch_size=16), rounds=1)}
SPLITS = ("mean", "median")


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def laplace(*shape, seed=0):
    uniform = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 0.5
    return -uniform.sign() * (1 - 2 * uniform.abs()).clamp_min(1e-6).log()


def balanced(**changes):
    (method,) = choose(EVALUATIONS, ["balanced"], QUICK | {f"balanced.{key}": value for key, value in changes.items()})
    return method


def equalized(values, bits, split, low=0.0, high=1.0):
    """The paper's recursion in numpy: value -> its place in [low, high], as a dict."""
    if not len(values):
        return {}
    if bits == 0:
        small, large = values.min(), values.max()
        if small == large:
            return dict.fromkeys(values.tolist(), (low + high) / 2)
        return {value: low + (high - low) * (value - small) / (large - small) for value in values.tolist()}
    threshold = values.mean() if split == "mean" else np.median(values)
    middle = (low + high) / 2
    below = equalized(values[values < threshold], bits - 1, split, low, middle)
    return below | equalized(values[values >= threshold], bits - 1, split, middle, high)


@given(
    split=st.sampled_from(SPLITS),
    bits=st.integers(1, 4),
    weights=st.lists(st.integers(-30, 30), min_size=1, max_size=40),
)
def test_bins_are_those_of_the_papers_recursion(split, bits, weights):
    weight = torch.tensor(weights, dtype=torch.float64) / 8
    bins = balanced_bins(weight, bits, split)
    places = equalized(weight.numpy(), bits, split)
    for value, found in zip(weight.tolist(), bins.tolist(), strict=True):
        # A bin's largest value lies on its upper edge, which the next bin shares: it stays in its own.
        assert found / 2**bits - 1e-9 <= places[value] <= (found + 1) / 2**bits + 1e-9
        if places[value] * 2**bits % 1 > 1e-6:
            assert found == math.floor(places[value] * 2**bits)
    order = weight.argsort(stable=True)
    assert (bins[order].diff() >= 0).all()


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("make", [draw, laplace])
def test_effective_bits_are_nearly_all_and_with_medians_all(bits, make):
    weight = make(20_000 // 16 * 16)
    for split, room in (("mean", 0.1 if make is laplace else 0.05), ("median", 1e-9)):
        counts = torch.bincount(balanced_bins(weight, bits, split), minlength=2**bits)
        share = counts.double() / counts.sum()
        assert bits - float(-(share * share.log2()).sum()) <= room
        if split == "median":
            assert (counts == len(weight) // 2**bits).all()  # every level equally often


def test_uniform_levels_waste_bits():
    codes, _ = BalancedWeights(2, "uniform", "max").codes(draw(100_000))
    share = torch.bincount(codes, minlength=4).double() / len(codes)
    assert float(-torch.special.xlogy(share, share).sum()) / math.log(2) < 1.2


@pytest.mark.parametrize("split", [*SPLITS, "uniform"])
def test_levels_are_the_papers(split):
    rule = BalancedWeights(2, split, "max")
    weight = torch.tensor([[-0.3, -0.2], [0.1, 0.6]])
    codes, scale = rule.codes(weight)
    assert codes.tolist() == ([[1, 1], [2, 3]] if split == "uniform" else [[0, 1], [2, 3]])
    values = rule.values(torch.arange(4), scale)
    torch.testing.assert_close(values, torch.tensor([-0.6, -0.2, 0.2, 0.6]))
    assert torch.equal(values, -values.flip(0))


@given(bits=st.integers(1, 4), split=st.sampled_from([*SPLITS, "uniform"]), seed=st.integers(0, 50))
def test_scale_mean_keeps_the_mean_magnitude(bits, split, seed):
    weight, rule = draw(9, 13, seed=seed), BalancedWeights(bits, split, "mean")
    values = rule.values(*rule.codes(weight))
    torch.testing.assert_close(values.abs().mean(), weight.abs().mean())


@pytest.mark.parametrize("split", [*SPLITS, "uniform"])
@pytest.mark.parametrize("scale", ["mean", "max"])
def test_constant_and_empty_bins_give_no_nan(split, scale):
    rule = BalancedWeights(3, split, scale)
    pruned = torch.cat([torch.zeros(50), torch.tensor([1.0, -2.0])])
    for weight in (torch.zeros(5, 2), torch.full((4,), 0.7), torch.tensor([1.5]), pruned):
        values = rule.values(*rule.codes(weight))
        assert torch.isfinite(values).all()
        assert values.shape == weight.shape


def test_gradients_pass_as_if_nothing_had_been_done():
    weight, factor = draw(6, 5).requires_grad_(), draw(6, 5, seed=1)
    (BalancedWeights(2, "mean", "mean").quantize(weight) * factor).sum().backward()
    assert torch.equal(weight.grad, factor)


def test_values_are_farther_from_the_weights_than_uniform_ones():
    """Why it is not for networks that do not learn afterwards."""
    weight, errors = draw(10_000), {}
    for split in ("mean", "uniform"):
        rule = BalancedWeights(4, split, "max")
        errors[split] = float((rule.values(*rule.codes(weight)) - weight).square().mean())
    assert errors["mean"] > 10 * errors["uniform"]


def test_ranges_are_measured_where_none_is_given():
    subject = classifier()
    inputs = subject.task.source("train").tensors["input"]
    with torch.no_grad():
        seen = subject.module.body[:3](inputs)  # what the second convolution takes in
    found = input_ranges(subject, ["body.1", "body.3"])
    assert found["body.1"] == (0.0, pytest.approx(float(inputs.flatten(1).amax(1).mean()), rel=1e-5))
    assert found["body.3"] == (0.0, pytest.approx(float(seen.flatten(1).amax(1).mean()), rel=1e-5))
    signed = Subject(mlp(1, (4, 4), 1, activation="tanh", seed=0), subject.example, subject.task, subject.base)
    subject.task.source("train").tensors["input"] = draw(256, 1)
    low, high = input_ranges(signed, ["2"])["2"]
    assert low == -high < 0.0


def test_the_papers_range_is_one_wherever_it_is_asked_for():
    plan = Balanced(config=balanced(limit=1.0).config).plan(classifier())
    assert plan == {"layers": {"body.3": [2, 4], "body.6": [2, 4]}, "ranges": {"body.3": [0, 1], "body.6": [0, 1]}}
    floats = Balanced(config=balanced(input_bits=32).config).plan(classifier())
    assert floats == {"layers": {"body.3": [2, 32], "body.6": [2, 32]}, "ranges": {}}


@pytest.mark.parametrize("changes", [{}, {"split": "median", "input_bits": 32}, {"bits": 32, "input_bits": 2}])
def test_a_file_gives_the_bits_that_were_trained(changes, tmp_path):
    subject = classifier()
    changed = apply(balanced(**changes), subject, 3)
    inputs = draw(1000, 1, 8, 8).sigmoid()
    path = tmp_path / "network.safetensors"
    save_network(path, changed.module, changed.base, changed.recipe)
    module, *_ = load_network(path)
    with torch.no_grad():
        assert same_bits(module(inputs), changed.module(inputs))
    packed = {name: part for name, part in changed.module.named_modules() if isinstance(part, PackedLayer)}
    assert set(packed) == (set() if changes.get("bits") == 32 else {"body.3", "body.6"})
    for part in packed.values():
        assert part.codes.numel() == packed_bytes(2, part.num_weights)
    with pytest.raises(UserError, match="quantize a network once"):
        check_traits([balanced()], changed.traits)


def test_a_packed_network_gives_what_the_learned_one_did():
    subject = classifier()
    transform = Balanced(config=balanced().config)
    learned = transform.rebuild(subject.copy(), transform.plan(subject))
    entropy, inputs = effective_bits(learned), draw(50, 1, 8, 8).sigmoid()
    outputs = learned(inputs).detach()
    packed = transform.finish(learned)
    assert same_bits(packed(inputs).detach(), outputs)
    assert effective_bits(packed) == entropy
    counts = {"body.3": 144, "body.6": 128}
    assert entropy[""] == pytest.approx(sum(entropy[path] * size for path, size in counts.items()) / 272)
    with pytest.raises(ValueError, match="no layer is quantized"):
        effective_bits(subject.module)


def test_members_of_a_stack_are_counted_each_for_itself():
    layer = EnsembleLinear(2, 8, 8)
    with torch.no_grad():
        layer.weight.copy_(draw(2, 8, 8).sign() * torch.tensor([1.0, 100.0]).view(2, 1, 1))
    learned = nn.Sequential(QuantizedLayer(layer, BalancedWeights(2, "uniform", "max")))
    # Each has its lowest and its highest level; beside the second's, the first's would be the two in the middle.
    assert effective_bits(learned)["0"] == pytest.approx(1.0, abs=0.05)
    assert effective_bits(learned) == effective_bits(pack_layers(learned))


@pytest.mark.parametrize(
    "ranges", [None, {}, {"body.3": [0.0]}, {"body.3": [1.0, 0.0]}, {"body.3": [0.0, float("inf")]}]
)
def test_plans_that_do_not_fit_are_refused(ranges):
    plan = {"layers": {"body.3": [2, 4]}, "ranges": ranges}
    with pytest.raises(UserError, match="its plan is damaged"):
        Balanced(config=balanced().config).rebuild(classifier().copy(), plan)


def test_bad_numbers_are_refused_in_a_line():
    for key, value in (("bits", 0), ("input_bits", 17), ("split", "median2"), ("scale", "sum"), ("limit", -1.0)):
        with pytest.raises(UserError, match=str(value)):
            balanced(**{key: value})
    with pytest.raises(UserError, match="the second must be larger"):
        RangeInput(2, 1.0, 1.0)
