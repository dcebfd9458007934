"""Other libraries' quantizers beside ours: torch's fake quantization, onnxruntime, torchao, brevitas.

Those that are not installed are skipped. Brevitas 0.13.4 asks for older packages than the suite has and works with its
own all the same: ``pip install --no-deps brevitas==0.13.4 dependencies==2.0.1 unfoldNd``.
"""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from judged import QUICK
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.quantization.layer import PackedLayer, quantizable
from envs.evaluation.quantization.max_scale import MaxScale
from envs.evaluation.quantization.rules import MaxAbsWeights, side_levels, to_integers
from envs.evaluation.quantization.uniform import ClippedInput
from envs.evaluation.recipe import policy_base
from envs.evaluation.subject import Subject
from envs.evaluation.transform import apply, teach
from rlsuite.methods import choose
from rlsuite.nn.plain import PlainPolicyConfig, build_plain_policy
from scripts.bit_peers import onnxruntime_int8, torchao_int8
from scripts.experiments.adabits import ALPHA, float_subject, right, teaching
from scripts.experiments.sat import pairs


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def off_ties(values, step):
    return ((values / step) % 1 - 0.5).abs() > 1e-3


# -- torch.fake_quantize_per_tensor_affine -------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(bits=st.integers(2, 8), alpha=st.floats(0.1, 20.0), seed=st.integers(0, 99))
def test_inputs_have_torchs_integers_off_ties(bits, alpha, seed):
    values, levels = 2.0 * draw(500, seed=seed), side_levels(bits)
    symmetric, clipped = MaxScale(bits), ClippedInput(bits, signed=False)
    for rule, low, high, step in (
        (symmetric, -levels, levels, alpha / levels),
        (clipped, 0, 2**bits - 1, alpha / (2**bits - 1)),
    ):
        with torch.no_grad():
            rule.alpha.fill_(alpha)
            ours = (rule(values) / step).round()
        theirs = torch.fake_quantize_per_tensor_affine(values, step, 0, low, high) / step
        kept = off_ties(values, step)
        assert torch.equal(ours[kept], theirs.round()[kept])


# -- 8 bits of a policy: onnxruntime, torchao ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def policy():
    """A policy, and it at 8 bits from the first layer to the last, with ranges of each example: nothing is clipped."""
    task = pairs(0)
    config = PlainPolicyConfig(observation_size=17, action_size=6, hidden_sizes=(64, 64), squash="none")
    subject = Subject(
        build_plain_policy(config, seed=1), task.source("test").tensors["input"][:1], task, policy_base(config)
    )
    teach(subject, replace(QUICK, fit=replace(QUICK.fit, steps=300, batch_size=256)), 0)
    numbers = {
        "bits": 8,
        "max_scale": "largest",
        "places.first": 8,
        "places.last": 8,
        "teach.fit.steps": 1,
        "teach.rounds": 1,
    }
    (method,) = choose(EVALUATIONS, ["pams"], {f"pams.{key}": value for key, value in numbers.items()})
    return subject, apply(method, subject, 0)


def away(subject, act):
    """The root mean square of what 8 bits change, over that of the actions."""
    states = subject.task.source("test").tensors["input"]
    with torch.no_grad():
        whole = subject.module(states)
        return float((act(states) - whole).square().mean().sqrt() / whole.square().mean().sqrt())


def test_onnxruntimes_static_int8_is_as_near_as_ours(policy):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    subject, ours = policy
    peer = onnxruntime_int8(subject)
    assert 0.0 < away(subject, ours.module) <= 1.5 * away(subject, peer.policy) < 0.05
    assert peer.costs["bytes"] < 30_000  # of 24,000 bytes in floats; the graph's names take most


def test_torchaos_int8_weights_are_nearer_since_inputs_stay_floats(policy):
    pytest.importorskip("torchao")
    subject, ours = policy
    theirs = away(subject, torchao_int8(subject).policy)
    assert 0.0 < theirs <= away(subject, ours.module) < 0.02


# -- brevitas ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brevitas():
    return pytest.importorskip("brevitas.nn"), pytest.importorskip("brevitas.quant")


@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_weights_have_brevitas_integers_of_the_same_scale(brevitas, bits):
    layers, quantizers = brevitas
    theirs = layers.QuantLinear(
        33, 64, bias=True, weight_quant=quantizers.Int8WeightPerTensorFloat, weight_bit_width=bits
    )
    with torch.no_grad():
        theirs.weight.copy_(draw(64, 33))
        found = theirs.quant_weight()
        codes, scale = MaxAbsWeights(bits).codes(theirs.weight)
    assert float(scale) == pytest.approx(float(found.scale) * side_levels(bits), rel=1e-6)
    ours = to_integers(theirs.weight.detach(), found.scale.detach() * side_levels(bits), bits)
    assert torch.equal(ours.int(), found.int().int())
    kept = off_ties(theirs.weight.detach(), float(found.scale))
    assert torch.equal((codes - side_levels(bits))[kept], found.int().int()[kept])


@pytest.mark.parametrize("bits", [4, 2])
def test_inputs_have_brevitas_integers_of_the_same_scale(brevitas, bits):
    layers, quantizers = brevitas
    theirs = layers.QuantIdentity(act_quant=quantizers.Uint8ActPerTensorFloat, bit_width=bits, return_quant_tensor=True)
    values = draw(2000).relu()
    with torch.no_grad():
        theirs.train()(values)
        found, ours = theirs.eval()(values), ClippedInput(bits, signed=False)
        ours.alpha.copy_(found.scale * (2**bits - 1))
        step = float(found.scale)
        kept = off_ties(values, step)
        assert torch.equal((ours(values) / step).round()[kept], found.int().float()[kept])
    assert kept.float().mean() > 0.99


def brevitas_twin(module, bits, brevitas):
    """The network with brevitas's layers in place of its own, weights and inputs of so many bits, the ends of 8."""
    layers, quantizers = brevitas
    twin, paths = copy.deepcopy(module), list(quantizable(module))
    for path in paths:
        layer, width = twin.get_submodule(path), 8 if path in (paths[0], paths[-1]) else bits
        inputs = {"input_quant": quantizers.Uint8ActPerTensorFloat, "input_bit_width": 8 if path == paths[0] else bits}
        common = {"bias": layer.bias is not None, "weight_bit_width": width, **inputs}
        common["weight_quant"] = quantizers.Int8WeightPerTensorFloat
        if isinstance(layer, nn.Conv2d):
            names = ("in_channels", "out_channels", "kernel_size", "stride", "padding")
            made = layers.QuantConv2d(*(getattr(layer, name) for name in names), **common)
        else:
            made = layers.QuantLinear(layer.in_features, layer.out_features, **common)
        made.load_state_dict(layer.state_dict(), strict=False)
        twin.set_submodule(path, made)
    return twin


@pytest.mark.slow
@pytest.mark.parametrize("bits", [4, 2])
def test_digits_are_told_as_well_as_by_brevitas(brevitas, bits, capsys):
    """The same float network, examples, optimizer and minibatches; at most a point below."""
    ours, theirs = [], []
    for seed in (0, 1):
        subject, learning = float_subject(seed, 260), teaching(250)
        twin = replace(subject, module=brevitas_twin(subject.module, bits, brevitas))
        teach(twin, learning, 7 + seed)
        theirs.append(right(twin))
        numbers = {"sat.bits": bits, "sat.input_bits": bits, "sat.alpha": ALPHA, "sat.teach": learning}
        (method,) = choose(EVALUATIONS, ["sat"], numbers)
        made = apply(method, subject, 7 + seed)
        assert sum(isinstance(part, PackedLayer) for part in made.module.modules()) == len(quantizable(subject.module))
        ours.append(right(made))
    with capsys.disabled():
        print(f"\n{bits} bits: ours {ours}, brevitas {theirs}")
    assert sum(ours) / 2 >= sum(theirs) / 2 - 1.0
