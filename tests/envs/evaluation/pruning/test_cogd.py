"""Masks on channels: what they do to a network, what folding leaves, and what CoGD's steps make of them."""

import math

import pytest
import torch
from judged import classifier, stripes
from torch import nn
from torch.nn import functional

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.pruning.cogd import CoGD, CoGDConfig, MaskSteps, _pull
from envs.evaluation.pruning.graph import couple
from envs.evaluation.pruning.soft_mask import Student
from envs.evaluation.recipe import network_base
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import choose
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.optim.cogradient import CogradientConfig

HARDLY = TeachConfig(fit=FitConfig(steps=1, batch_size=16), rounds=1)
BRIEF = TeachConfig(
    fit=FitConfig(steps=24, batch_size=32, optimizer=OptimizerConfig(name="sgd", learning_rate=0.05)), rounds=1
)


def student_of(subject, **numbers):
    module = subject.copy()
    coupling = couple(module)
    numbers = {"start": "normal", "seed": 0} | numbers
    return Student(module, coupling, coupling.named(), subject.output().numel(), **numbers)


def normalized():
    config = ConvNetConfig(widths=(4, 4), hidden=8, batch_norm=True)
    task = ClassifierTask(stripes(64, 1), stripes(32, 2), num_classes=2)
    base = network_base("conv", channels=1, size=8, outputs=2, config=config)
    module = ConvNet(1, 8, 2, config, 0).eval()
    with torch.no_grad():
        for name, value in module.named_buffers():
            if name.endswith("running_mean"):
                value.copy_(torch.linspace(-0.2, 0.3, len(value)))
    return Subject(module, task.source("test").tensors["input"][:1], task, base)


@pytest.mark.parametrize("make", [classifier, normalized])
def test_masks_multiply_channels_and_fold_into_weights(make):
    subject = make()
    student = student_of(subject, start="ones").eval()
    pictures = subject.task.source("test").tensors["input"][:8]
    with torch.no_grad():
        assert torch.allclose(student(pictures), subject.module(pictures))  # it begins as its teacher
        for mask in student.masks:
            mask.copy_(torch.rand(len(mask), generator=torch.Generator().manual_seed(len(mask))))
        masked = student(pictures)
        drawn = [mask.clone() for mask in student.masks]
        for mask in student.masks:
            mask[0] = 0.0
        seen = {}
        for path in student.places[student.names[1]]:
            student.network.get_submodule(path).register_forward_hook(lambda _, __, out: seen.update(out=out))
        student(pictures)
        assert not seen["out"][:, 0].any()
        assert seen["out"][:, 1:].any()
        for mask, before in zip(student.masks, drawn, strict=True):
            mask.copy_(before)
        folded = student.fold()
        assert torch.allclose(folded(pictures), masked, atol=1e-5)
        assert not torch.allclose(masked, subject.module(pictures), atol=1e-2)
    assert {type(part) for part in folded.modules()} == {type(part) for part in subject.module.modules()}


def test_channels_of_zero_masks_can_be_cut_without_a_difference():
    """Behind ReLU a mask of zero is a channel that is not there."""
    subject = classifier()
    student = student_of(subject, start="ones").eval()
    with torch.no_grad():
        for mask in student.masks:
            mask[::2] = 0.0
        pictures = subject.task.source("test").tensors["input"][:8]
        masked = student(pictures)
        transform = CoGD(config=CoGDConfig())
        masks = {name: mask.detach() for name, mask in zip(student.names, student.masks, strict=True)}
        folded = student.fold()
        kept = {name: transform.keep([mask, torch.ones(len(mask))], 0.3) for name, mask in masks.items()}
        assert kept[student.names[0]] == [1, 3]
        cut = transform.rebuild(folded, {"kept": kept})
        assert torch.allclose(cut(pictures), masked, atol=1e-5)


@pytest.mark.parametrize("make", [classifier, normalized])
def test_weights_behind_a_mask_of_zero_stay_so_that_a_channel_that_is_kept_can_learn(make):
    subject = make()
    student = student_of(subject, start="ones")
    with torch.no_grad():
        for mask in student.masks:
            mask[::2], mask[1::2] = 0.0, 0.5
    path = student.places[student.names[0]][0]
    wanted = subject.module.get_submodule(path).weight.detach().clone()
    wanted[1::2] *= 0.5
    assert torch.equal(student.fold().get_submodule(path).weight, wanted)


def test_a_share_of_zero_masks_leaves_no_dead_channel():
    """All masks become zero; of the channels that stay none is without a gradient, which behind ReLU is for ever."""
    subject = classifier()
    made = apply(method(choose="share", ratio=0.5, sparsity=100.0), subject, seed=1)
    plan = made.recipe[0].plan
    assert plan["zero_masks"] > sum(len(kept) for kept in plan["kept"].values())
    layers = [part for part in made.module.modules() if isinstance(part, nn.Conv2d)]
    assert all((layer.weight != 0).flatten(1).any(1).all() for layer in layers)


def test_two_channels_stay_and_shares_are_by_mask_then_by_weight():
    zeros, share = CoGD(config=CoGDConfig()), CoGD(config=CoGDConfig(choose="share"))
    masks, weights = torch.tensor([0.0, 0.5, 0.0, 0.0]), torch.tensor([1.0, 1.0, 3.0, 2.0])
    assert zeros.keep([masks, weights], 0.25) == [1, 2]  # of the zeros the one of the larger weights
    assert zeros.keep([torch.tensor([0.1, 0.5, 0.0, 0.2]), weights], 0.25) == [0, 1, 3]
    assert share.keep([masks, weights], 0.25) == [1, 2, 3]
    assert share.keep([masks, weights], 0.5) == [1, 2]


def test_losses_by_hand():
    student = student_of(classifier())
    inputs = stripes(4, 0).tensors["input"]
    wanted = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0], [0.5, 0.5]])
    said = student(inputs)
    sizes = [tuple(layer.weight.shape) for layer in student.discriminator]
    assert sizes == [(128, 2), (256, 128), (128, 256)]
    real, fake = student.discriminator(wanted), student.discriminator(said)
    taken = functional.softplus(-fake).mean()  # -log of what the discriminator gives for "teacher"
    found = student.imitation_loss(inputs, wanted, 3.0)
    assert float(found["loss"].detach()) == pytest.approx(
        float((3.0 * (said - wanted).square().mean() + taken).detach()), rel=1e-5
    )
    judged = functional.softplus(-real).mean() + functional.softplus(fake).mean() + taken
    assert float(student.discriminator_loss(inputs, wanted)["loss"].detach()) == pytest.approx(
        float(judged.detach()), rel=1e-5
    )


def test_pull_is_the_residuals_step_through_the_filter():
    """dG / dW_j is m_j times the gradient with respect to m_j W_j; a mask of zero says nothing."""
    mask = torch.tensor([0.5, 0.0, 2.0])
    gradient, moved = (
        torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, -6.0]]),
        torch.tensor([[1.0, 1.0], [1.0, 1.0], [2.0, 1.0]]),
    )
    assert _pull(gradient, mask, moved).tolist() == [6.0, 0.0, 2.0]


def test_a_mask_step_is_the_proximal_step():
    subject = classifier()
    student = student_of(subject, start="ones")
    config = CoGDConfig(mask_every=3, mask_rate=0.1, sparsity=0.5, learn=BRIEF, cogradient=CogradientConfig(kind="off"))
    steps = MaskSteps(student, subject, config)
    before = [mask.detach().clone() for mask in student.masks]
    makers = [weight for name in student.names for weight in student.makers(name)]
    gradients = steps._gradients(list(student.masks), makers, 3)[: len(before)]
    for step in (0, 1, 2):
        steps(step, step / 24)
    assert all(torch.equal(a, b) for a, b in zip(before, student.masks, strict=True))  # none is due
    steps(3, 3 / 24)
    for old, new, gradient in zip(before, student.masks, gradients, strict=True):
        assert torch.allclose(new, (old - 0.1 * gradient - 0.05).clamp_min(0.0), atol=1e-6)
    after = [mask.detach().clone() for mask in student.masks]
    steps(3, 3 / 24)  # the end of one round is the beginning of the next
    assert all(torch.equal(a, b) for a, b in zip(after, student.masks, strict=True))


def method(**numbers):
    numbers = {"mask_every": 2, "mask_rate": 0.1, "learn": BRIEF, "teach": HARDLY, **numbers}
    return choose(EVALUATIONS, ["cogd"], {f"cogd.{key}": value for key, value in numbers.items()})[0]


def test_projection_fires_and_without_it_the_base_method_is_left():
    subject = classifier()
    plans = {
        kind: apply(method(**{"cogradient.kind": kind}), subject, seed=1).recipe[0].plan for kind in ("off", "coupled")
    }
    assert plans["off"]["sent_back"] == 0.0
    assert 0.0 < plans["coupled"]["sent_back"] < 1.0
    still = apply(method(**{"cogradient.largest": 0.0}), subject, seed=1)
    assert still.recipe[0].plan["kept"] == plans["off"]["kept"]


def test_ratio_zero_leaves_layers_whole_and_several_makers_are_left_alone():
    subject = classifier()
    whole = apply(method(ratio=0.0), subject, seed=1)
    assert whole.recipe[0].plan["kept"] == {}
    layers = ({"names": ["body.3"], "ratio": 0.0},)
    some = apply(method(layers=layers, choose="share", ratio=0.5), subject, seed=1)
    assert set(some.recipe[0].plan["kept"]) == {"body.1", "body.6"}


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="schedule=layerwise: masks learn together"):
        CoGDConfig(schedule="layerwise")
    for change in (
        {"choose": "best"},
        {"start": "zeros"},
        {"mask_every": 0},
        {"sparsity": math.nan},
        {"mask_rate": 0.0},
    ):
        with pytest.raises(UserError, match=next(iter(change))):
            CoGDConfig(**change)
    subject = classifier()
    large = nn.Sequential(subject.module, nn.Linear(2, 5000))
    with pytest.raises(UserError, match="returns 5000 numbers, too many to imitate"):
        Student(large, couple(large), couple(large).named(), 5000, "ones", 0)
