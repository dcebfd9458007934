"""BatchNorm in fixed point: quantized networks become whole numbers that give the levels of exact fractions."""

import dataclasses
from collections import OrderedDict

import pytest
import torch
from integer_subjects import conv, pictures, policy, residual
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.quantization.bn_chain import Chain
from envs.evaluation.quantization.bn_fixed_point import BNFixedPoint, BNFixedPointConfig, certify
from envs.evaluation.quantization.integer import Affine, Lookup, Product
from envs.evaluation.quantization.integer_agreement import disagreements
from envs.evaluation.quantization.layer import PackedLayer
from envs.evaluation.quantization.levels import input_codes, input_integers
from envs.evaluation.recipe import load_network, rebuild, same_bits, save_network
from envs.evaluation.transform import TeachConfig, apply, check_traits
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import choose

FEW = TeachConfig(fit=FitConfig(steps=3, batch_size=32), rounds=1)


def quantized(subject, name="pams", **keys):
    keys = {f"{name}.{key}".replace("__", "."): value for key, value in keys.items()}
    (method,) = choose(EVALUATIONS, [f"quantization/{name}"], {f"{name}.teach.fit.batch_size": 32, **keys})
    config = dataclasses.replace(method.config, teach=FEW)
    return apply(dataclasses.replace(method, config=config), subject, 0)


def pams(subject, bits=6, ends=8):
    return quantized(subject, bits=bits, calibration=2, places__first=ends, places__last=ends)


def balanced(subject, bits=3, ends=4):
    return quantized(subject, "balanced", bits=bits, input_bits=bits, places__first=ends, places__last=ends)


def fixed(subject, share=0.0):
    transform = BNFixedPoint(config=BNFixedPointConfig(share=share))
    module = transform.rebuild(subject.copy(), transform.plan(subject))
    found = transform.solve(dataclasses.replace(subject, module=module))
    return transform.finish(module), found


SUBJECTS = {
    "pams on pictures": lambda: pams(conv()),
    "pams with a sigmoid": lambda: pams(conv(squash="sigmoid"), bits=4),
    "balanced on pictures": lambda: balanced(conv()),
    "pams on a policy": lambda: pams(policy(), bits=5),
}


@pytest.mark.parametrize("kind", SUBJECTS)
def test_whole_numbers_take_the_levels_of_the_quantized_network(kind):
    subject = SUBJECTS[kind]()
    model, found = fixed(subject)
    inputs = subject.task.source("test").tensors["input"]
    seen = []
    for part in subject.module.modules():
        if isinstance(part, PackedLayer):
            part.register_forward_pre_hook(
                lambda layer, given: seen.append(input_integers(layer.input_rule, given[0]) - input_codes(layer).shift)
            )
    with torch.no_grad():
        expected, outputs = subject.module(inputs), model(inputs)
    values = model.network.values(model.enter(inputs))
    taken = [values[step.sources[0]] for step in model.network.steps if isinstance(step, Product)]
    assert len(seen) == len(taken) > len(found) - 1
    for one, other in zip(seen, taken, strict=True):
        assert (one != other).float().mean() <= 1e-3  # where float32 itself rounds at a jump
    # Half a place of the table, 6 / 2048, of an action in half ranges of 3; else float32's own rounding.
    tolerance = 5e-3 if isinstance(model.network.steps[-1], Lookup) else 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(outputs, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_all_sums_are_certified_and_backends_agree(kind):
    model, found = fixed(SUBJECTS[kind]())
    assert found
    for channels in found:
        certificate = certify(channels)
        assert certificate.mismatches == 0
        assert certificate.points == sum(one.last - one.first + 1 for one in channels.stairs)
        assert certificate.own_shift <= certificate.alone_shift
        assert certificate.shift >= certificate.own_shift
        assert certificate.accumulator_bits <= certificate.unclipped_bits
    assert disagreements(model.network, count=300) == 0


def test_a_dead_and_a_turned_channel_are_exact():
    _, found = fixed(pams(conv()))
    slopes = [float(one.a) for one in found[0].stairs]  # gammas of 0 and -0.8 in channels 0 and 1
    assert slopes[0] == 0.0
    assert slopes[1] < 0.0 < slopes[2]
    assert found[0].made[0].multiplier == 0
    assert found[0].made[1].multiplier < 0


def test_behind_relu_sums_are_of_numbers_from_0():
    """The domain of a channel, of weights w and inputs from 0 to h: the sums of h w below and above 0."""
    model, found = fixed(pams(conv(), bits=4))
    products = [step for step in model.network.steps if isinstance(step, Product)]
    first, second = (step.weight.flatten(1).long() for step in products[:2])
    assert [one.first for one in found[0].stairs] == (-127 * first.abs().sum(1)).tolist()  # the picture's 8 bits
    assert [one.first for one in found[1].stairs] == (7 * second.clamp_max(0).sum(1)).tolist()
    assert [one.last for one in found[1].stairs] == (7 * second.clamp_min(0).sum(1)).tolist()


@pytest.mark.parametrize("make", [pictures, lambda: policy().task.source("test").tensors["input"]])
def test_what_a_file_says_of_its_input_makes_its_input(make):
    inputs = make()
    subject = pams(conv() if inputs.dim() == 4 else policy())
    if inputs.dim() == 2:
        inputs = 20.0 * inputs  # beyond the normalizer's clip, and the rule's
    model, _ = fixed(subject)
    said = model.enter.about()
    value = inputs
    if "clip" in said:
        value = (value - torch.tensor(said["center"])) * torch.tensor(said["scale"])
        value = value.clamp(-said["clip"], said["clip"])
    whole = (value / said["step"]).round().clamp(said["low"], said["high"]) - said["shift"]
    assert (whole != model.enter(inputs)).float().mean() <= 1e-3  # at ties of float32
    assert (said["low"], said["high"], said["shift"]) == (-127, 127, 0)
    assert ("clip" in said) == (inputs.dim() == 2)


def test_bytes_of_8_bits_are_kept_less_128():
    model, found = fixed(quantized(conv(), "balanced", bits=3, input_bits=8, places__first=7, places__last=7))
    affine = next(step for step in model.network.steps if isinstance(step, Affine))
    product = [step for step in model.network.steps if isinstance(step, Product)][1]
    assert (int(affine.low), int(affine.high), product.pad) == (-128, 127, -128)
    assert all(certify(one).mismatches == 0 for one in found)
    assert disagreements(model.network, count=100) == 0


def test_a_share_that_may_differ_saves_bits():
    subject = pams(conv(), bits=8)
    (exact, found), (near, also) = fixed(subject), fixed(subject, share=0.01)
    shifts = [(one.made[0].shift, other.made[0].shift) for one, other in zip(found, also, strict=True)]
    assert all(other <= one for one, other in shifts)
    assert any(other < one for one, other in shifts)
    inputs = subject.task.source("test").tensors["input"]
    with torch.no_grad():
        values = [model.network.values(model.enter(inputs))[2] for model in (exact, near)]
    apart = (values[0].int() - values[1].int()).abs()
    assert apart.max() <= 1
    assert apart.float().mean() <= 0.01


def test_it_follows_quantization_in_a_pipeline_and_comes_back_from_a_file(tmp_path):
    subject = pams(conv(), bits=4)
    (method,) = choose(EVALUATIONS, ["quantization/bn_fixed_point"])
    changed = apply(method, subject, 0)
    save_network(tmp_path / "model.safetensors", changed.module, changed.base, changed.recipe)
    loaded, *_ = load_network(tmp_path / "model.safetensors")
    assert same_bits(loaded(pictures()), changed.module(pictures()))
    with torch.device("meta"):  # without data or numbers
        rebuilt = rebuild(changed.base, changed.recipe)
    assert {name: value.shape for name, value in rebuilt.state_dict().items()} == {
        name: value.shape for name, value in changed.module.state_dict().items()
    }
    with pytest.raises(UserError, match="it computes with whole numbers already"):
        apply(method, changed, 0)
    with pytest.raises(UserError, match="the network is not quantized; quantize it first"):
        check_traits([method], conv().traits)


def test_refusals_name_the_layer_and_the_fix():
    (method,) = choose(EVALUATIONS, ["quantization/bn_fixed_point"])
    with pytest.raises(UserError, match=r"body\.1\.0: its weights are floats; give it bits by places\.first=8"):
        apply(method, pams(conv(), ends=32), 0)
    with pytest.raises(UserError, match="its inputs have no fixed scale"):
        apply(method, quantized(conv(), max_scale="largest", places__first=8, places__last=8), 0)
    with pytest.raises(UserError, match="fixed point takes chains of layers; use quantization/brelu, which has sums"):
        apply(method, pams(residual()), 0)
    for early, name in ((nn.BatchNorm2d(2), "norm"), (nn.ReLU(), "relu")):
        chain = nn.Sequential(OrderedDict({name: early, "core": pams(conv()).module})).eval()
        with pytest.raises(UserError, match=f"{name}: whole numbers begin with the first layer"):
            Chain(chain, (2, 8, 8), "")
    subject = pams(conv())
    subject.module.train()
    with pytest.raises(UserError, match="BatchNorm in training mode"):
        apply(method, subject, 0)
    with pytest.raises(UserError, match=r"body\.1\.0: more than 7 bits of weights"):
        apply(method, balanced(conv(), ends=8), 0)
    with pytest.raises(UserError, match=r"share=1\.0: use 0"):
        BNFixedPointConfig(share=1.0)
    with pytest.raises(UserError, match="its plan is damaged"):
        BNFixedPoint(config=BNFixedPointConfig()).rebuild(nn.Linear(2, 2), {"shape": "8"})
