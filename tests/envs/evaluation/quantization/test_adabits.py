"""AdaBits: a network at a width is the network of that width, in memory and in a file; what a battery pays."""

import pytest
import torch
from judged import classifier
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_bit_operations, count_bytes
from envs.evaluation.quantization.adabits import AdaBits, load_at, recalibrate
from envs.evaluation.quantization.adaptive import (
    AdaptiveInput,
    AdaptiveWeights,
    SwitchableAffine,
    SwitchableNorm,
    at_width,
    copy_width,
    set_width,
    widths_of,
)
from envs.evaluation.quantization.battery import BatteryConfig, BatteryPolicy
from envs.evaluation.quantization.codes import packed_bytes
from envs.evaluation.quantization.layer import PackedLayer
from envs.evaluation.quantization.places import LayerBits, PlacesConfig
from envs.evaluation.quantization.uniform import SCHEMES, UniformWeights
from envs.evaluation.recipe import load_network, network_base, rebuild, same_bits, save_network
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import choose
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig

QUICK = TeachConfig(fit=FitConfig(steps=4, batch_size=16), rounds=1)
WIDTHS = (6, 4, 3)


def adabits(**changes):
    overrides = {"teach": QUICK, "bits": WIDTHS, **changes}
    (method,) = choose(EVALUATIONS, ["adabits"], {f"adabits.{key}": value for key, value in overrides.items()})
    return method


def normalized():
    config = ConvNetConfig(widths=(4, 4, 4), hidden=0, batch_norm=True, pool=True)
    base = network_base("conv", channels=1, size=8, outputs=2, config=config)
    return Subject(ConvNet(1, 8, 2, config, 0).eval(), classifier().example, classifier().task, base)


def learning(subject, **changes):
    transform = AdaBits(config=adabits(**changes).config)
    return transform, transform.rebuild(subject.copy(), transform.plan(subject))


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_weights_at_a_width_are_those_of_that_width_alone(scheme):
    weight = draw(9, 7).requires_grad_()
    rule = AdaptiveWeights(WIDTHS, fan=9, scheme=scheme)
    for bits in WIDTHS:
        rule.bits = bits
        alone = UniformWeights(bits, fan=9, scheme=scheme)
        found = rule.quantize(weight)
        assert torch.equal(found, alone.quantize(weight))
        one, other = (torch.autograd.grad(each.sum(), weight)[0] for each in (found, alone.quantize(weight)))
        assert torch.equal(one, other)
        if scheme != "original":
            codes, scales = rule.codes(weight.detach())
            assert torch.equal(rule.values(codes, scales), found.detach())
            assert torch.equal(alone.codes(weight.detach())[0], codes >> (6 - bits))
            assert scales.shape == (3,)


@pytest.mark.parametrize("make", [classifier, normalized])
def test_the_network_at_a_width_is_the_network_of_that_width_bit_for_bit(make, tmp_path):
    subject = make()
    made = apply(adabits(), subject, 3)
    inputs = subject.task.source("test").tensors["input"]
    assert widths_of(made.module) == WIDTHS
    path = tmp_path / "all.safetensors"
    save_network(path, made.module, made.base, made.recipe)
    again, *_ = load_network(path)
    outputs = {}
    for bits in WIDTHS:
        alone = load_at(made, bits)
        file = tmp_path / f"{bits}.safetensors"
        save_network(file, alone.module, alone.base, alone.recipe)
        loaded, *_ = load_network(file)
        with torch.no_grad(), at_width(made.module, bits), at_width(again, bits):
            outputs[bits] = made.module(inputs)
            assert same_bits(again(inputs), outputs[bits])
            assert same_bits(alone.module(inputs), outputs[bits])
            assert same_bits(loaded(inputs), outputs[bits])
            assert count_bit_operations(made.module, subject.example) == count_bit_operations(loaded, subject.example)
        with pytest.raises(UserError, match=f"bits=8: the network never learned this width; use one of {bits}"):
            set_width(loaded, 8)
    assert not torch.equal(outputs[6], outputs[3])
    assert same_bits(made.module(inputs).detach(), outputs[6])


def test_a_file_holds_the_codes_of_one_width():
    made = apply(adabits(), classifier(), 3)
    for one, bits in ((made, 6), (load_at(made, 3), 3)):
        packed = {part.num_weights: part for part in one.module.modules() if isinstance(part, PackedLayer)}
        sizes = {count: part.codes.numel() for count, part in packed.items()}
        # Convolutions 1 -> 4 -> 4 of 3 x 3, then 16 -> 8 -> 2; the first and the last of 8 bits.
        assert sizes == {36: 36, 144: packed_bytes(bits, 144), 128: packed_bytes(bits, 128), 16: 16}
    assert count_bytes(load_at(made, 3)) < count_bytes(made)
    assert packed[144].scale.shape == (1,)


def test_original_levels_keep_float_weights_or_one_width(tmp_path):
    subject = classifier()
    made = apply(adabits(scheme="original"), subject, 3)
    alone = apply(adabits(scheme="original", at=4, only=True), subject, 3)
    inputs = subject.task.source("test").tensors["input"]
    with torch.no_grad(), at_width(made.module, 4):
        assert same_bits(made.module(inputs), alone.module(inputs))
    assert any(isinstance(part, PackedLayer) for part in alone.module.modules())
    with pytest.raises(UserError, match="keeps no codes that could be shifted"):
        load_at(made, 4)


def test_one_step_takes_in_every_width():
    subject = classifier()
    transform, module = learning(subject)
    for part in module.modules():
        if getattr(part, "alpha", None) is not None:
            nn.init.constant_(part.alpha, 1.0)
    batch = subject.task.source("train").examples(torch.arange(32))
    losses = transform._joint(subject)(module, batch)
    losses["loss"].backward()
    joint = {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}
    summed = {name: torch.zeros_like(value) for name, value in joint.items()}
    for bits in WIDTHS:
        module.zero_grad()
        with at_width(module, bits):
            subject.task.loss(module, batch).mean().backward()
        for name, value in module.named_parameters():
            if value.grad is not None:
                summed[name] += value.grad
    assert sorted(losses) == ["loss", "loss_3_bits", "loss_4_bits", "loss_6_bits"]
    for name, value in joint.items():
        torch.testing.assert_close(value, summed[name], rtol=1e-4, atol=1e-6)


def own_of(module, place):
    """What a width has for itself."""
    found = []
    for part in module.modules():
        if isinstance(part, SwitchableNorm):
            found += part.norms[place].state_dict().values()
        elif isinstance(part, AdaptiveInput | SwitchableAffine):
            found += [value[place] for value in part.parameters()]
    return [value.detach().clone() for value in found]


def test_a_width_that_learns_alone_leaves_the_others_theirs():
    subject = normalized()
    _, module = learning(subject)
    before = [own_of(module, place) for place in range(3)]
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    module.train()
    for part in module.modules():
        if getattr(part, "alpha", None) is not None:
            nn.init.constant_(part.alpha, 2.0)
    before = [own_of(module, place) for place in range(3)]
    with at_width(module, 4):
        subject.task.loss(module, subject.task.source("train").examples(torch.arange(32))).mean().backward()
    optimizer.step()
    after = [own_of(module, place) for place in range(3)]
    for place in (0, 2):
        assert all(torch.equal(one, other) for one, other in zip(before[place], after[place], strict=True))
    assert sum(not torch.equal(one, other) for one, other in zip(before[1], after[1], strict=True)) > 10


def test_evaluating_at_a_width_leaves_nothing_behind():
    made = apply(adabits(at=4), classifier(), 3)
    inputs = made.task.source("test").tensors["input"]
    before = made.module(inputs).detach()
    with at_width(made.module, 3):
        assert not torch.equal(made.module(inputs), before)
    assert same_bits(made.module(inputs).detach(), before)
    with pytest.raises(RuntimeError), at_width(made.module, 3):
        made.module(inputs[:, :, 0])
    assert same_bits(made.module(inputs).detach(), before)
    with at_width(made.module, 4):
        assert same_bits(made.module(inputs).detach(), before)


def test_a_layer_that_is_named_keeps_one_width():
    """Also where that is the most bits, which all others have."""
    named = PlacesConfig(first=8, last=8, layers=(LayerBits(names=("body.3",), weights=8, inputs=8),))
    found = AdaBits(config=adabits(bits=(8, 4), places=named).config).plan(classifier())
    assert found["adaptive"] == ["body.6"]
    assert found["inputs"] == ["body.6", "head"]
    head = PlacesConfig(first=8, last=8, layers=(LayerBits(names=("head",), weights=8, inputs=6),))
    found = AdaBits(config=adabits(bits=(8, 4), places=head).config).plan(classifier())
    assert found["adaptive"] == found["inputs"] == ["body.3", "body.6"]


def test_shared_parts_are_shared():
    _, module = learning(normalized(), switch_norm=False, switch_alpha=False)
    assert not any(isinstance(part, SwitchableNorm | SwitchableAffine) for part in module.modules())
    assert {len(part.alpha) for part in module.modules() if isinstance(part, AdaptiveInput)} == {1}


def test_statistics_are_the_mean_over_batches():
    subject = normalized()
    _, module = learning(subject)
    for part in module.modules():
        if getattr(part, "alpha", None) is not None:
            nn.init.constant_(part.alpha, 2.0)
    changed = Subject(module, subject.example, subject.task, subject.base)
    first = next(part for part in module.modules() if isinstance(part, SwitchableNorm))
    before = first.norms[0].running_mean.clone()
    with at_width(module, 3):
        recalibrate(changed, 8, 32, 0)  # all 256 examples
        images = subject.task.source("train").tensors["input"]
        with torch.no_grad():
            seen = module.body[1][0](images)
    torch.testing.assert_close(first.norms[2].running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert torch.equal(first.norms[0].running_mean, before)
    assert first.norms[2].momentum == 0.1
    copy_width(module, 3, 6)
    assert torch.equal(first.norms[0].running_mean, first.norms[2].running_mean)


@pytest.mark.parametrize("control", ["direct", "descending", "ascending"])
def test_controls_learn_one_width_after_another(control):
    made = apply(adabits(learning=control), normalized(), 3)
    inputs = made.task.source("test").tensors["input"]
    for bits in WIDTHS:
        with at_width(made.module, bits), torch.no_grad():
            assert torch.isfinite(made.module(inputs)).all()
    alphas = next(part for part in made.module.modules() if isinstance(part, AdaptiveInput)).alpha
    assert (len(set(alphas.tolist())) == 1) == (control == "direct")


def test_a_file_of_a_width_needs_no_numbers_to_be_built():
    made = load_at(apply(adabits(), normalized(), 3), 3)
    with torch.device("meta"):
        found = rebuild(made.base, made.recipe).state_dict()
    assert {name: value.shape for name, value in found.items()} == {
        name: value.shape for name, value in made.module.state_dict().items()
    }


def test_what_it_refuses():
    for changes, message in (
        ({"bits": (4, 8)}, r"bits=\[4, 8\]: name widths, most first"),
        ({"bits": ()}, "name widths, most first"),
        ({"bits": (17,)}, "bits=17: use 1 to 16"),
        ({"at": 5}, "at=5: use one of"),
        ({"bits": (4, 2), "scheme": "modified"}, "with 2 bits it does not converge; use scheme=centred"),
        ({"learning": "all"}, "learning=all"),
        ({"recalibration": 0}, "recalibration=0"),
    ):
        with pytest.raises(UserError, match=message):
            adabits(**changes)
    with pytest.raises(UserError, match="nothing normalizes what layers take in"):
        AdaBits(config=adabits(alpha=8.0).config).plan(classifier())
    with pytest.raises(UserError, match="the network has one width; quantize it by quantization/adabits"):
        widths_of(classifier().module)
    plan = AdaBits(config=adabits().config).plan(classifier())
    for damage in ({"adaptive": 3}, {"affine": {"body.2": 4}}, {"affine": {"head": 0}}, {"inputs": None}):
        with pytest.raises(UserError, match="its plan is damaged"):
            AdaBits(config=adabits().config).rebuild(classifier().copy(), plan | damage)


def test_a_battery_pays_for_every_step_and_lowers_the_width():
    made = apply(adabits(), classifier(), 3)
    policy = BatteryPolicy(made.module, made.example, BatteryConfig(capacity=100.0))
    policy.costs = {6: 15.0, 4: 8.0, 3: 5.0}
    inputs, widths = made.example.expand(4, -1, -1, -1), []
    while policy.width():
        widths.append(policy.width())
        assert torch.equal(policy(inputs), made.module(inputs))
    # 6 bits until a third is spent (0, 15, 30 -> 45), 4 until two thirds (45, 53, 61 -> 69), then 3 while 5 are left.
    assert widths == [6, 6, 6, 4, 4, 4, *[3] * 6]
    assert policy.spent == 99.0
    assert torch.equal(policy(inputs), torch.zeros(4, 2))
    policy.charge()
    assert policy.width() == 6
    fixed = BatteryPolicy(made.module, made.example, BatteryConfig(capacity=1e9, fixed=4))
    with at_width(made.module, 4):
        expected = made.module(inputs)
        assert fixed.costs[4] == count_bit_operations(made.module, made.example)
    assert same_bits(fixed(inputs), expected.detach())
    assert fixed.spent == fixed.costs[4]
    with pytest.raises(UserError, match="bits=5: the network never learned this width"):
        BatteryPolicy(made.module, made.example, BatteryConfig(capacity=1.0, fixed=5))
    with pytest.raises(UserError, match="capacity"):
        BatteryConfig(capacity=0.0)
