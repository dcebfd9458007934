"""PAMS: the quantizer's properties, calibration, placements, distillation, and what a file gives back."""

import copy
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from judged import classifier
from torch import nn
from toy_environments import PointEnv

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.policy_task import PolicyTask
from envs.evaluation.probes import count_bit_operations, count_macs, count_parameters, layer_macs
from envs.evaluation.quantization.layer import PackedLayer, QuantizedLayer
from envs.evaluation.quantization.max_scale import MaxScale, measuring
from envs.evaluation.quantization.pams import HUNG, PAMS, PAMSConfig
from envs.evaluation.quantization.rules import MaxAbsInput, MaxAbsWeights
from envs.evaluation.quantization.structure import compared_features, structure_loss
from envs.evaluation.quantization.symmetric_integer import IntegerLayer, integer_network
from envs.evaluation.recipe import load_network, network_base, policy_base, rebuild, same_bits, save_network
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import DenseTask
from envs.evaluation.transform import TeachConfig, apply, check_traits
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import choose, from_plain, to_plain
from rlsuite.metrics.pictures import psnr
from rlsuite.nn.plain import PlainPolicyConfig, build_plain_policy
from rlsuite.nn.vision.doors import sites
from rlsuite.nn.vision.edsr import EDSR, EDSRConfig

QUICK = {"pams.teach": TeachConfig(fit=FitConfig(steps=6, batch_size=16), rounds=2), "pams.calibration": 2}


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scale_of(alpha, bits):
    rule = MaxScale(bits)
    with torch.no_grad():
        rule.alpha.fill_(alpha)
    return rule


def pams(**changes):
    (method,) = choose(EVALUATIONS, ["pams"], QUICK | {f"pams.{key}": value for key, value in changes.items()})
    return method


def enlarger(blocks=2):
    config = EDSRConfig(width=6, blocks=blocks, scale=2)
    source = Arrays({"input": draw(20, 3, 8, 8).sigmoid(), "target": draw(20, 3, 16, 16, seed=1).sigmoid()})
    task = DenseTask(source, source, metric=psnr, unit="dB", floor=10.0)
    module = EDSR(3, 8, 3, config, 0).eval()
    with torch.no_grad():
        module.tail[-1].weight.copy_(0.1 * draw(3, 6, 3, 3))
    base = network_base("edsr", channels=3, size=8, outputs=3, config=config)
    return Subject(module, source.tensors["input"][:1], task, base)


def policy():
    config = PlainPolicyConfig(observation_size=2, action_size=1, hidden_sizes=(16, 16))
    module = build_plain_policy(config, seed=1)
    task = PolicyTask(PointEnv, build_plain_policy(config, seed=1), episodes=2, states=64, num_envs=8)
    return Subject(module, torch.zeros(1, 2), task, policy_base(config), gained=frozenset({"policy"}))


SUBJECTS = {"classifier": classifier, "enlarger": enlarger, "policy": policy}


# -- the quantizer ---------------------------------------------------------------------------------------------------


@given(alpha=st.floats(0.01, 50.0), bits=st.integers(2, 8), seed=st.integers(0, 99))
def test_quantizing_is_idempotent_bounded_and_near(alpha, bits, seed):
    rule, inputs = scale_of(alpha, bits), 20.0 * draw(100, seed=seed)
    with torch.no_grad():
        once = rule(inputs)
        assert torch.equal(rule(once), once)
    levels, limit = 2 ** (bits - 1) - 1, float(rule.alpha)
    assert once.abs().max() <= limit
    inside = inputs.abs() <= limit
    assert ((once - inputs)[inside].abs() <= limit / (2 * levels) * (1 + 1e-5)).all()
    assert len(once.unique()) <= 2 * levels + 1


def test_gradients_by_hand():
    rule, inputs = scale_of(1.0, 3), torch.tensor([0.4, 1.5, -0.1, -3.0, 2.0], requires_grad=True)
    rule(inputs).backward(torch.tensor([1.0, 1.0, 1.0, 1.0, 5.0]))
    assert inputs.grad.tolist() == [1, 0, 1, 0, 0]
    # n = 3. Clipped ones give their signs, 1 - 1 + 5; of the others the rounding: 1/3 - 0.4, and 0 + 0.1.
    assert float(rule.alpha.grad) == pytest.approx(5.0 + (1 / 3 - 0.4) + 0.1, abs=1e-6)


def test_alphas_gradient_is_what_autograd_makes_of_the_formula_with_a_straight_through_round():
    inputs, weights = draw(50), draw(50, seed=1)
    rule, alpha = scale_of(0.8, 4), torch.tensor(0.8, requires_grad=True)
    (rule(inputs) * weights).sum().backward()
    scaled = torch.maximum(torch.minimum(inputs, alpha), -alpha) * 7 / alpha
    plain = (scaled + (scaled.round() - scaled).detach()) * alpha / 7
    (plain * weights).sum().backward()
    torch.testing.assert_close(rule.alpha.grad, alpha.grad)


def test_alpha_gets_one_from_every_clipped_positive_input():
    rule = scale_of(0.5, 8)
    rule(torch.linspace(1.0, 2.0, 30)).sum().backward()
    assert float(rule.alpha.grad) == pytest.approx(30.0)


def test_an_alpha_below_zero_is_held_above_it_and_still_learns():
    rule = scale_of(-0.2, 8)
    outputs = rule(torch.tensor([1.0, 2.0]))
    assert torch.isfinite(outputs).all()
    assert (outputs > 0).all()
    outputs.sum().backward()
    assert float(rule.alpha.grad) == pytest.approx(2.0)


# -- calibration -----------------------------------------------------------------------------------------------------


def test_calibration_is_the_moving_average_of_the_mean_largest_input():
    rule, batches = MaxScale(8), [draw(4, 3, 2, 2, seed=seed) for seed in range(3)]
    with measuring(rule, 0.9):
        assert all(torch.equal(rule(batch), batch) for batch in batches)  # nothing is clipped or rounded meanwhile
    first, second, third = (float(batch.abs().flatten(1).amax(1).mean()) for batch in batches)
    assert float(rule.alpha) == pytest.approx(0.9 * (0.9 * first + 0.1 * second) + 0.1 * third, rel=1e-6)
    kept = rule.alpha.clone()
    rule.train()(10.0 * batches[0])
    assert torch.equal(rule.alpha, kept)
    assert list(rule.state_dict()) == ["alpha"]


def test_apply_calibrates_before_it_learns_and_lets_alpha_learn_faster():
    subject = classifier()
    transform = PAMS(config=pams().config)
    module = transform.rebuild(subject.copy(), transform.plan(subject))
    changed = Subject(module, subject.example, subject.task, subject.base)
    transform.calibrate(changed, 3)
    started = {name: value.clone() for name, value in module.named_parameters()}
    assert all(0.1 < float(value) < 9.0 for name, value in started.items() if name.endswith("alpha"))
    transform.train(changed, subject, 3)
    moved = {name: float((value - started[name]).abs().max()) for name, value in module.named_parameters()}
    assert max(moved[name] for name in moved if name.endswith("alpha")) > 0.01
    assert max(moved[name] for name in moved if not name.endswith("alpha")) < 0.02


# -- placements ------------------------------------------------------------------------------------------------------


def test_residual_blocks_are_quantized_at_three_places():
    subject = enlarger(blocks=1)
    plan = PAMS(config=pams(bits=4).config).plan(subject)
    assert plan == {
        "layers": {"body.0.first": [4, 4], "body.0.second": [4, 4]},
        "sites": {"body.0.branch": 4, "body.0.input": 4},
        "at": {"body.0.first": "body.0.input"},
    }
    faithful = PAMS(config=pams(bits=4, placement="faithful").config).plan(subject)
    assert faithful["layers"]["body.0.first"] == [4, 32]
    assert faithful["sites"] == {"body.0.branch": 4, "body.0.skip": 4}


@pytest.mark.parametrize("placement", ["integer", "faithful"])
def test_a_block_is_its_formula(placement):
    subject = enlarger(blocks=1)
    transform = PAMS(config=pams(bits=4, placement=placement).config)
    network = transform.rebuild(subject.copy(), transform.plan(subject))
    block, inputs = network.body[0], draw(2, 6, 8, 8)
    with torch.no_grad():
        for place, rule in enumerate(part for part in block.modules() if isinstance(part, MaxScale)):
            rule.alpha.fill_(1.0 + 0.3 * place)
        shortcut = sites(block, "input" if placement == "integer" else "skip")
        act1 = next(iter(shortcut.values())).hung[HUNG]
        act2, act3 = block.second.input_rule, block.branch.hung[HUNG]

        def convolve(quantized, values):
            weight = quantized.weight_rule.quantize(quantized.layer.weight)
            return nn.functional.conv2d(values, weight, quantized.layer.bias, padding=1)

        branch = convolve(block.first, act1(inputs) if placement == "integer" else inputs)
        expected = act3(convolve(block.second, act2(branch.relu()))) + act1(inputs)
        torch.testing.assert_close(block(inputs), expected, rtol=0, atol=0)


def test_thirty_two_bits_are_the_float_network():
    for subject in (classifier(), enlarger()):
        changed = PAMS(config=pams(bits=32).config)
        module = changed.rebuild(subject.copy(), changed.plan(subject))
        assert same_bits(module(subject.example), subject.module(subject.example))
        assert not any(isinstance(part, QuantizedLayer | MaxScale) for part in module.modules())


def test_bit_operations_count_where_inputs_are_quantized():
    subject = enlarger(blocks=1)
    macs = layer_macs(subject.module, subject.example)
    quantized = macs["body.0.first"] + macs["body.0.second"]
    total = count_macs(subject.module, subject.example)
    changed = apply(pams(bits=4), subject, 0)
    assert count_bit_operations(changed.module, subject.example) == (total - quantized) * 1024 + quantized * 16
    faithful = apply(pams(bits=4, placement="faithful"), subject, 0)
    expected = (total - quantized) * 1024 + macs["body.0.first"] * 128 + macs["body.0.second"] * 16
    assert count_bit_operations(faithful.module, subject.example) == expected
    alphas = 3
    assert count_parameters(changed.module) == count_parameters(subject.module) + alphas


# -- distillation ----------------------------------------------------------------------------------------------------


def test_structure_loss_by_hand():
    student = torch.tensor([[[[3.0, 0.0]], [[1.0, 2.0]]]])  # mean squares 5 and 2, of length sqrt(29)
    teacher = torch.tensor([[[[0.0, 2.0]], [[0.0, 2.0]]]])  # 0 and 4, of length 4
    expected = ((5 / 29**0.5) ** 2 + (2 / 29**0.5 - 1.0) ** 2) / 2
    assert float(structure_loss(student, teacher)) == pytest.approx(expected, rel=1e-6)
    features = draw(3, 4, 5, 5)
    assert float(structure_loss(features, features.clone())) == 0.0
    assert float(structure_loss(2.0 * features, features)) == pytest.approx(0.0, abs=1e-12)  # only where, not how much


def test_feature_maps_of_the_float_network_teach():
    subject = enlarger()
    outputs = [apply(pams(bits=4, structure_weight=weight), subject, 1).output() for weight in (0.0, 100.0)]
    assert not torch.equal(*outputs)
    assert not subject.module.tail._forward_pre_hooks
    with pytest.raises(UserError, match="features=head2: the network has no such module"):
        apply(pams(features="head2"), subject, 1)


def test_where_feature_maps_are_compared():
    for subject, path in ((enlarger(), "tail"), (classifier(), "body.5"), (policy(), "")):
        assert compared_features(subject.module, subject.example, "") == path
    flat = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert compared_features(flat, torch.zeros(1, 4), "") == ""
    with pytest.raises(UserError, match="features=1: no maps"):
        compared_features(flat, torch.zeros(1, 4), "1")


# -- in the frame ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SUBJECTS)
def test_a_file_gives_the_bits_that_were_trained(kind, tmp_path):
    subject = SUBJECTS[kind]()
    before = {name: value.clone() for name, value in subject.module.state_dict().items()}
    learned = []
    method = pams(bits=4)
    finish = PAMS.finish
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            PAMS, "finish", lambda self, module: finish(self, learned.append(module.eval()) or copy.deepcopy(module))
        )
        changed = apply(method, subject, 5)
    inputs = draw(1000, *subject.example.shape[1:], seed=2)
    if subject.task.box:
        inputs = inputs.sigmoid()
    path = tmp_path / "network.safetensors"
    save_network(path, changed.module, changed.base, changed.recipe)
    module, *_ = load_network(path)
    with torch.no_grad():
        outputs = changed.module(inputs)
        assert same_bits(learned[0](inputs), outputs)
        assert same_bits(module(inputs), outputs)
    assert all(torch.equal(value, before[name]) for name, value in subject.module.state_dict().items())
    assert any(isinstance(part, PackedLayer) for part in changed.module.modules())
    with pytest.raises(UserError, match="quantize a network once"):
        check_traits([method], changed.traits)


def test_the_same_seed_gives_the_same_bits():
    one, other = (apply(pams(bits=4), classifier(), 7).module.state_dict() for _ in range(2))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_quantizing_again_after_learning_starts_from_the_teacher():
    subject = policy()
    changed = apply(pams(bits=8), subject, 0)
    observation = subject.task.source("test").tensors["input"]
    with torch.no_grad():
        difference = (changed.module(observation) - subject.module(observation)).abs().max()
    assert 0.0 < float(difference) < 0.2


def test_dynamic_ranges_have_nothing_to_learn():
    changed = apply(pams(max_scale="largest"), classifier(), 0)
    assert any(isinstance(part, MaxAbsInput) for part in changed.module.modules())
    assert not any("alpha" in name for name in changed.module.state_dict())


@pytest.mark.parametrize("kind", ["enlarger", "classifier"])
def test_the_integer_network_agrees_within_one_level(kind):
    subject = SUBJECTS[kind]()
    changed = apply(pams(bits=8), subject, 5)
    network = integer_network(changed.module, changed.recipe[-1].plan["at"], HUNG)
    layers = {path: part for path, part in network.named_modules() if isinstance(part, IntegerLayer)}
    assert set(layers) == set(changed.recipe[-1].plan["layers"])
    inputs = subject.task.source("test").examples(torch.arange(10))["input"]
    seen = []
    with torch.no_grad():
        for module in (network, changed.module):
            taken = {}
            for path, part in module.named_modules():
                if path in layers:
                    part.register_forward_pre_hook(lambda _, x, path=path, taken=taken: taken.update({path: x[0]}))
            outputs = module(inputs)
            seen.append({path: layers[path].rule.integers(x)[0] for path, x in taken.items()} | {"out": outputs})
    integer, float_ones = seen
    for path, layer in layers.items():
        assert (integer[path] - float_ones[path]).abs().max() <= 1
        assert layer.product.weight.dtype == torch.int8
        assert layer.sums(integer[path]).dtype == torch.int32
    torch.testing.assert_close(integer["out"], float_ones["out"], rtol=1e-3, atol=1e-2)


def test_integer_sums_are_exact_and_refused_beyond_32_bits():
    torch.manual_seed(0)
    packed = PackedLayer(QuantizedLayer(nn.Linear(300, 4), MaxAbsWeights(8), scale_of(1.0, 8)))
    layer = IntegerLayer("layer", packed, packed.input_rule)
    integers = torch.randint(-127, 128, (5, 300))
    expected = integers @ (packed.integers() - 127).long().T
    assert torch.equal(layer.sums(integers.float()).long(), expected)
    wide = PackedLayer(QuantizedLayer(nn.Linear(300, 4), MaxAbsWeights(16), scale_of(1.0, 16)))
    with pytest.raises(UserError, match="beyond 32 bits; use fewer bits"):
        IntegerLayer("layer", wide, wide.input_rule)


# -- what is refused -------------------------------------------------------------------------------------------------

WRONG = {
    "pams.bits": (0, "bits=0: use 2 to 16, or 32 for floats"),
    "pams.placement": ("blocks", "blocks"),
    "pams.max_scale": ("dynamic", "dynamic"),
    "pams.calibration": (0, "use 1 batch or more"),
    "pams.calibration_decay": (1.0, "less than 1"),
    "pams.bitts": (4, "bits"),
    "pams.places": ({"first": 40}, "first=40: use 1 to 16"),
}


@pytest.mark.parametrize("key", WRONG)
def test_bad_numbers_are_refused_in_a_line(key):
    value, words = WRONG[key]
    with pytest.raises(UserError, match=words) as caught:
        choose(EVALUATIONS, ["quantization/pams"], {key: value})
    assert "\n" not in str(caught.value)


def test_numbers_survive_a_file():
    layers = [{"names": ["body.*"], "weights": 3, "inputs": 5}]
    (method,) = choose(EVALUATIONS, ["pams"], {"pams.places": {"layers": layers}})
    assert from_plain(EVALUATIONS, json.loads(json.dumps(to_plain([method])))) == (method,)
    assert method.config == PAMSConfig(places=method.config.places)


def test_blocks_are_asked_for_where_there_are_some():
    with pytest.raises(UserError, match="no residual blocks; use placement=layers"):
        PAMS(config=pams(placement="integer").config).plan(classifier())


@pytest.mark.parametrize(
    "damage",
    [{"sites": {"body.9.input": 4}}, {"sites": {"body.0.input": 99}}, {"sites": 3}, {"at": {"head": "body.0.input"}}],
)
def test_plans_that_do_not_fit_are_refused(damage):
    subject = enlarger(blocks=1)
    plan = PAMS(config=pams().config).plan(subject) | damage
    with pytest.raises(UserError):
        PAMS(config=pams().config).rebuild(subject.copy(), plan)


def test_a_recipe_that_quantizes_twice_is_refused():
    changed = apply(pams(bits=4), classifier(), 0)
    with pytest.raises(UserError, match="is no layer that can be quantized"):
        rebuild(changed.base, changed.recipe * 2)
