"""PAMS at 8 bits beside what other libraries make of the same network: none is better or worse than chance says."""

import copy

import numpy as np
import pytest
import torch
from judged import classifier, stripes
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.transform import TeachConfig, apply, teach
from rlsuite.fit import FitConfig
from rlsuite.methods import choose
from rlsuite.nn.plain import mlp

POINTS = 2.0  # of 1,000 pictures: less than two standard errors of a difference at 85 % right answers
NUMBERS = {  # what is measured before any learning, as theirs is
    "pams.calibration": 8,
    "pams.places.first": 8,
    "pams.places.last": 8,
    "pams.teach.rounds": 1,
    "pams.teach.fit.steps": 1,
    "pams.teach.fit.batch_size": 32,
    "pams.teach.fit.optimizer.learning_rate": 1e-9,
    "pams.alpha_learning_rate": 1e-9,
}


def in_eight_bits(subject):
    (method,) = choose(EVALUATIONS, ["pams"], NUMBERS)
    return apply(method, subject, 0).module


def made_hard(subject):
    """Let a subject learn stripes in so much noise that it errs, and be tried on 1,000 pictures."""
    subject.task.splits = {"train": stripes(1000, 1), "test": stripes(1000, 5)}
    generator = torch.Generator().manual_seed(3)
    for source in subject.task.splits.values():
        pictures = source.tensors["input"]
        source.tensors["input"] = 0.2 * pictures + 0.8 * torch.rand(pictures.shape, generator=generator)
    teach(subject, TeachConfig(fit=FitConfig(steps=150, batch_size=64), rounds=2), 0)
    return subject


def score(subject, module):
    with torch.no_grad():
        return float(np.mean(subject.task.score(module.eval(), 0)))


def agree(subject, theirs, name):
    before, found, kept = (score(subject, one) for one in (subject.module, theirs, in_eight_bits(subject)))
    print(f"right answers in %: float {before:.1f}, {name} {found:.1f}, ours {kept:.1f}")
    assert 75.0 < before < 99.0
    assert abs(found - kept) <= POINTS
    assert abs(before - kept) <= POINTS


def layers_of(module):
    return [(path, part) for path, part in module.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]


def test_brevitas_keeps_as_much():
    layers = pytest.importorskip("brevitas.nn")
    quant = pytest.importorskip("brevitas.quant")
    calibrate = pytest.importorskip("brevitas.graph.calibrate")
    taught = made_hard(classifier())
    module = copy.deepcopy(taught.module)
    both = {"weight_quant": quant.Int8WeightPerTensorFloat, "input_quant": quant.Int8ActPerTensorFloat}
    for path, part in layers_of(module):
        if isinstance(part, nn.Conv2d):
            numbers = {"stride": part.stride, "padding": part.padding}
            theirs = layers.QuantConv2d(part.in_channels, part.out_channels, part.kernel_size, **numbers, **both)
        else:
            theirs = layers.QuantLinear(part.in_features, part.out_features, bias=True, **both)
        theirs.load_state_dict(part.state_dict(), strict=False)
        module.set_submodule(path, theirs)
    module.eval()
    with torch.no_grad(), calibrate.calibration_mode(module):
        for index in torch.arange(256).split(32):
            module(taught.task.source("train").examples(index)["input"])
    agree(taught, module, "brevitas")


def test_torchao_keeps_as_much():
    """Its dynamic 8 bits are of linear layers, so these are of a network of such."""
    quantization = pytest.importorskip("torchao.quantization")
    subject = classifier()
    module = nn.Sequential(nn.Flatten(), *mlp(64, (32, 32), 2, seed=0)).eval()
    subject = type(subject)(module, subject.example, subject.task, subject.base)
    subject = made_hard(subject)
    theirs = copy.deepcopy(module)
    quantization.quantize_(theirs, quantization.Int8DynamicActivationInt8WeightConfig())
    agree(subject, theirs, "torchao")
