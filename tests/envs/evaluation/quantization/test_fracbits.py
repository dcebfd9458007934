"""FracBits: interpolation and its gradients, costs against hand counts, budgets met, and what a file gives back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from judged import classifier
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_bit_operations
from envs.evaluation.quantization.budget import LearnedCost, nearest_offset, table, uniform_width
from envs.evaluation.quantization.fracbits import FracBits
from envs.evaluation.quantization.fractional import FractionalInput, FractionalWeights, RowWeights, between
from envs.evaluation.quantization.layer import PackedLayer, QuantizedLayer
from envs.evaluation.quantization.places import LayerBits, PlacesConfig
from envs.evaluation.quantization.swapping import calibrate
from envs.evaluation.quantization.uniform import UniformWeights, clamped, unit_codes, unit_levels
from envs.evaluation.recipe import load_network, network_base, rebuild, same_bits, save_network
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig, fit
from rlsuite.methods import choose
from rlsuite.nn.ensemble import EnsembleLinear
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig

QUICK = TeachConfig(fit=FitConfig(steps=20, batch_size=16), rounds=1)


def fracbits(**changes):
    overrides = {"teach": QUICK, "width_rate": 20.0, **changes}
    (method,) = choose(EVALUATIONS, ["fracbits"], {f"fracbits.{key}": value for key, value in overrides.items()})
    return method


def four_convolutions():
    config = ConvNetConfig(widths=(4, 8, 16, 32), strides=(1, 2, 1, 2), hidden=0, batch_norm=True, pool=True)
    base = network_base("conv", channels=1, size=8, outputs=2, config=config)
    return Subject(ConvNet(1, 8, 2, config, 0).eval(), classifier().example, classifier().task, base)


def plan(subject, **changes):
    return FracBits(config=fracbits(**changes).config).plan(subject)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def original(unit, bits):
    return unit_levels(unit_codes(unit, bits, "original"), bits, "original")


@given(width=st.floats(0.0, 7.99), seed=st.integers(0, 20))
def test_a_fractional_width_lies_between_two_whole_ones(width, seed):
    unit = torch.rand(50, generator=torch.Generator().manual_seed(seed))
    learned = torch.tensor(width, requires_grad=True)
    lower = int(float(learned.detach()))
    share = float(learned.detach()) - lower
    below, above = original(unit, lower), original(unit, lower + 1)
    found = between(unit, learned)
    torch.testing.assert_close(found, (1 - share) * below + share * above)
    (gradient,) = torch.autograd.grad(found.sum(), learned)
    torch.testing.assert_close(gradient, (above - below).sum(), rtol=1e-4, atol=1e-5)


def test_it_is_continuous_in_the_width_and_exact_at_whole_ones():
    unit = torch.rand(100, generator=torch.Generator().manual_seed(0))
    for bits in range(9):
        assert torch.equal(between(unit, torch.tensor(float(bits))), original(unit, bits))
        nearly = between(unit, torch.tensor(bits + 1 - 1e-5))
        torch.testing.assert_close(nearly, original(unit, bits + 1), rtol=0, atol=1e-4)


def test_gradients_of_weights_and_widths():
    weight = draw(3, 4).requires_grad_()
    rule = FractionalWeights(3, 3, 2.0, 1, 8, fan=0)
    with torch.no_grad():
        rule.own.width.copy_(torch.tensor([2.3, 4.5, 9.0]))  # the last beyond its limit
    factor = draw(3, 4, seed=1)
    (rule.quantize(weight) * factor).sum().backward()
    unit, squashed = clamped(weight.detach()), weight.detach().tanh()
    slope = factor * (1 - squashed.square()) / squashed.abs().max()
    torch.testing.assert_close(weight.grad, slope)  # straight through
    expected = [(2 * (original(unit[row], bits + 1) - original(unit[row], bits)) * factor[row]).sum()
                for row, bits in ((0, 2), (1, 4))]  # fmt: skip
    torch.testing.assert_close(rule.own.width.grad, torch.tensor([*map(float, expected), 0.0]))


def test_whole_widths_are_the_uniform_rules():
    weight = draw(5, 6)
    for bits in (1, 3, 8):
        rule, alone = FractionalWeights(5, 1, float(bits), 1, 8, fan=6), UniformWeights(bits, fan=6)
        rows = RowWeights([bits] * 5, fan=6)
        expected = alone.quantize(weight)
        assert torch.equal(rule.quantize(weight), expected)
        assert torch.equal(rows.quantize(weight), expected)
        assert torch.equal(rows.pack(rows.codes(weight)[0]), alone.pack(alone.codes(weight)[0]))


def test_rows_of_no_bits_are_zero_and_take_nothing():
    weight, rule = draw(3, 8), RowWeights([0, 2, 3], fan=8)
    codes, scale = rule.codes(weight)
    values = rule.values(codes, scale)
    assert torch.equal(values[0], torch.zeros(8))
    assert float(values.std()) == pytest.approx(8**-0.5)
    assert rule.pack(codes).numel() == 5  # 40 bits
    assert rule.mean_bits == pytest.approx(5 / 3)


def test_alphas_gradient_counts_the_interpolated_rounding():
    rule = FractionalInput(2.5, 1, 8, signed=False, calibrated=True)
    nn.init.constant_(rule.alpha, 2.0)
    inputs = draw(200).relu().requires_grad_()
    rule(inputs).sum().backward()
    unit = inputs.detach().clamp(0, 2) / 2
    levels = 0.5 * original(unit, 2) + 0.5 * original(unit, 3)
    slope = torch.where(inputs.detach() >= 2, torch.ones(()), levels - unit)
    assert float(rule.alpha.grad) == pytest.approx(float(slope.sum()), abs=1e-4)
    assert float(rule.own.width.grad) == pytest.approx(
        float(2 * (original(unit, 3) - original(unit, 2)).sum()), abs=1e-4
    )


def test_costs_by_hand():
    found = plan(classifier(), kilobytes=0.2)
    # Convolutions 1 -> 4 -> 4 of 3 x 3 on 4 x 4 and 2 x 2 pixels, then 16 -> 8 -> 2: weights, outputs, biases, MACs.
    assert found["costs"] == {
        "body.1": [36, 4, 4, 576],
        "body.3": [144, 4, 4, 576],
        "body.6": [128, 8, 8, 128],
        "head": [16, 2, 2, 16],
    }
    assert found["free"] == ["body.3", "body.6"]
    assert found["inputs"] == []
    assert found["target"] == 200.0
    # 52 weights of a byte, 18 biases of 4, and 272 weights of w bits: 200 = 52 + 72 + 34 w.
    assert found["start"] == pytest.approx(76 / 34 + 0.5)
    operations = plan(classifier(), average=3.0)
    assert operations["inputs"] == ["body.3", "body.6", "head"]
    assert operations["target"] == pytest.approx(576 * 64 + 704 * 9 + 16 * 8 * 3)
    assert operations["start"] == pytest.approx(3.5)


def test_a_budget_out_of_reach_is_refused_with_the_range():
    with pytest.raises(UserError, match=r"kilobytes=0.1: out of reach; this network takes 0\.158 to 0\.396"):
        plan(classifier(), kilobytes=0.1)
    with pytest.raises(UserError, match="bit_operations=1000: out of reach; this network takes"):
        plan(classifier(), bit_operations=1000.0)


def test_inputs_have_a_bit_at_least_where_kernels_may_have_none():
    # The first layer costs 576 x 64. At no bits at all the head still has 8 for its weights and 1 for inputs: 16 x 8.
    with pytest.raises(UserError, match="bit_operations=36900: out of reach; this network takes 36992 to "):
        plan(classifier(), lowest=0, bit_operations=36_900.0)
    # 0.3 bits: 704 weights' MACs times 0.3 x 1 beside these; and widths that are given alike never have inputs of none.
    found = plan(classifier(), lowest=0, average=0.3)
    assert found["target"] == pytest.approx(36_992 + 704 * 0.3)
    assert found["start"] == pytest.approx(0.8)
    uniform = plan(classifier(), lowest=0, average=0.3, allocation="uniform")
    assert set(uniform["input_widths"].values()) == {1}


@pytest.mark.parametrize("changes", [{"average": 7.8}, {"average": 0.3, "lowest": 0}])
def test_widths_start_where_they_learn(changes):
    """Half a bit above the budget's own width may lie beyond the limits, where a width has no gradient."""
    subject = four_convolutions()
    transform = FracBits(config=fracbits(**changes, warm_up=0.0).config)
    made = transform.plan(subject)
    assert made["start"] == pytest.approx(changes["average"] + 0.5)
    module = transform.rebuild(subject.copy(), made)
    LearnedCost(module, made, "bit_operations", transform.config).penalty().backward()
    widths = [value for name, value in module.named_parameters() if name.endswith("own.width")]
    assert len(widths) == 7  # of three layers' weights and inputs, and of what the head takes in
    assert all(bool((value.grad != 0.0).all()) for value in widths)


def test_a_learning_that_stops_early_meets_the_budget():
    """Patience ends it before widths are rounded: on their own they would all go to the nearest whole one."""
    subject = four_convolutions()
    stopped = TeachConfig(fit=FitConfig(steps=40, batch_size=16, held_out=0.2, patience=1, check_every=1), rounds=1)
    made = apply(fracbits(average=3.0, teach=stopped), subject, 3)
    cost = count_bit_operations(made.module, subject.example)
    assert cost == pytest.approx(made.recipe[-1].plan["target"], rel=0.011)


def test_a_layer_that_is_named_has_the_bits_that_it_is_given():
    """Those of `highest`, too, which all others could get."""
    named = PlacesConfig(first=8, last=8, layers=(LayerBits(names=("body.3",), weights=8, inputs=8),))
    found = plan(classifier(), average=3.0, places=named)
    assert found["free"] == ["body.6"]
    assert found["inputs"] == ["body.6", "head"]
    head = PlacesConfig(first=8, last=8, layers=(LayerBits(names=("head",), weights=8, inputs=6),))
    assert plan(classifier(), average=3.0, places=head)["inputs"] == ["body.3", "body.6"]
    with pytest.raises(UserError, match=r"free_last=true: places\.layers names head"):
        plan(classifier(), average=3.0, places=head, free_last=True)


@given(target=st.floats(10.0, 90.0), tolerance=st.floats(1e-3, 0.2))
def test_the_offset_is_the_nearest_of_those_tried(target, tolerance):
    tried = []

    def cost(offset):
        tried.append((abs((50 + 40 * offset) / target - 1), offset))
        return 50 + 40 * offset

    found = nearest_offset(cost, target, tolerance=tolerance, trials=10)
    assert tried[0][1] == 0.0
    assert found == min(tried)[1]
    assert len(tried) == 10 or min(tried)[0] <= tolerance
    assert min(tried)[0] <= max(tolerance, 40 / target * 2**-8)
    assert uniform_width(lambda width: 3 * width, 7.5, 0, 8) == pytest.approx(2.5)


@pytest.mark.parametrize("changes", [{"average": 3.0}, {"kilobytes": 3.0}, {"kilobytes": 3.0, "lowest": 0}])
def test_kernels_meet_the_budget_and_files_give_the_bits_that_were_trained(changes, tmp_path):
    subject = four_convolutions()
    made = apply(fracbits(**changes), subject, 3)
    found = made.recipe[-1].plan
    widths = found["widths"]
    assert {path: len(each) for path, each in widths.items()} == {"body.3.0": 8, "body.5.0": 16, "body.7.0": 32}
    packed = {path: part for path, part in made.module.named_modules() if isinstance(part, PackedLayer)}
    for path, each in widths.items():
        weights = found["costs"][path][0] // len(each)
        assert packed[path].codes.numel() == -(-weights * sum(each) // 8)
    if "average" in changes:
        cost = count_bit_operations(made.module, subject.example)
    else:
        rows = table(made.module, found)
        cost = sum(row["bytes"] for row in rows.values())
        assert rows["body.1.0"] == {"macs": 2304, "weight_bits": {"8": 4}, "input_bits": 8, "bytes": 36}
        assert sum(rows["body.3.0"]["weight_bits"].values()) == 8
    assert cost == pytest.approx(found["target"], rel=0.011)
    inputs = subject.task.source("test").tensors["input"]
    save_network(tmp_path / "network", made.module, made.base, made.recipe)
    module, *_ = load_network(tmp_path / "network")
    with torch.no_grad():
        assert same_bits(module(inputs), made.module(inputs))
    with torch.device("meta"):
        assert rebuild(made.base, made.recipe).state_dict().keys() == made.module.state_dict().keys()


def test_the_last_layers_widths_are_learned_where_they_are_free():
    subject = four_convolutions()
    bound, free = (plan(subject, kilobytes=2.0, free_last=each) for each in (False, True))
    assert free["free"] == [*bound["free"], "head"]
    assert free["start"] > bound["start"] - 1e-9  # a head of less than 8 bits leaves more to the others
    made = apply(fracbits(kilobytes=2.0, free_last=True), subject, 3)
    found = made.recipe[-1].plan
    assert len(found["widths"]["head"]) == 2
    cost = sum(row["bytes"] for row in table(made.module, found).values())
    assert cost == pytest.approx(2000.0, rel=0.011)
    operations = plan(subject, average=3.0, free_last=True)
    assert operations["inputs"] == operations["free"]
    with pytest.raises(UserError, match="bit_operations=10: out of reach"):
        plan(subject, bit_operations=10.0, free_last=True)


def test_widths_that_lie_close_meet_the_budget():
    """128 widths within 0.01: steps of 0.002, where ten trials end, have many of them in between."""
    width = torch.linspace(3.48, 3.49, 128)

    def cost(offset):
        return float((width + offset).round().sum())

    target = 3.0 * 128 + 50
    few, many = (nearest_offset(cost, target, tolerance=0.001, trials=trials) for trials in (10, 20))
    assert abs(cost(many) / target - 1) <= 0.0025 < abs(cost(few) / target - 1)


def test_widths_learn_until_they_are_whole_and_rest_then():
    subject = four_convolutions()
    transform = FracBits(config=fracbits(average=3.0, per="layer", harden_at=0.5).config)
    made = transform.plan(subject)
    module = transform.rebuild(subject.copy(), made)
    seen = []

    def keep(part, inputs):
        seen.append(torch.cat([value.detach().clone() for name, value in module.named_parameters()
                               if name.endswith("own.width")]))  # fmt: skip

    handle = module.register_forward_pre_hook(keep)
    transform.train(Subject(module, subject.example, subject.task, subject.base), subject, 0)
    handle.remove()
    learning = seen[-20:]
    assert not torch.equal(learning[0], learning[9])
    assert torch.equal(learning[10], learning[10].round())
    assert all(torch.equal(one, learning[10]) for one in learning[10:])
    found = transform.decided(module, made)
    module = transform.finish(module)
    inputs = subject.task.source("test").tensors["input"]
    again = transform.finish(transform.rebuild(subject.copy(), found))
    again.load_state_dict(module.state_dict())
    assert same_bits(again(inputs).detach(), module(inputs).detach())


@pytest.mark.parametrize("killed_at", [7, 15])
def test_a_learning_that_was_killed_goes_on_to_the_same_widths(killed_at, tmp_path):
    subject = four_convolutions()
    transform = FracBits(config=fracbits(average=3.0, harden_at=0.5).config)
    made = transform.plan(subject)
    config = FitConfig(steps=20, batch_size=16, check_every=1, save_every=5)

    def learn(folder, stop):
        module = transform.rebuild(subject.copy(), made)
        calibrate(Subject(module, subject.example, subject.task, subject.base), 0.7, 64, 0)
        cost = LearnedCost(module, made, "bit_operations", transform.config)

        def loss(network, batch):
            return {"loss": subject.task.loss(network, batch).mean() + cost.penalty()}

        def hook(step, share):
            cost.at_share(step, share)
            if step == stop:
                raise KeyboardInterrupt

        fit(module, loss, subject.task.source("train"), config, seed=1, hooks=[hook], run_dir=folder)
        return module

    whole = learn(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "killed", killed_at)
    again = learn(tmp_path / "killed", None)
    assert transform.decided(again, made) == transform.decided(whole, made)
    state = whole.state_dict()
    for name, value in again.state_dict().items():
        assert torch.equal(value, state[name])


def test_the_cost_pulls_once_it_counts_and_only_while_widths_are_learned():
    transform = FracBits(config=fracbits(average=3.0, kappa=2.0, warm_up=0.1).config)
    subject = four_convolutions()
    made = transform.plan(subject)
    cost = LearnedCost(transform.rebuild(subject.copy(), made), made, "bit_operations", transform.config)
    assert float(cost.penalty().detach()) == 0.0
    cost.at_share(0, 0.1)
    expected = 2.0 * (float(cost.cost().detach()) / made["target"] - 1.0)
    assert expected > 0.0  # half a bit above
    assert float(cost.penalty().detach()) == pytest.approx(expected, rel=1e-5)
    cost.at_share(0, 0.8)
    assert cost.hard
    assert float(cost.penalty().detach()) == 0.0
    assert float(cost.cost()) == float(cost._of(lambda own: own.rounded(0.0)))


@pytest.mark.parametrize("allocation", ["uniform", "random"])
def test_allocations_to_compare_with_cost_the_same(allocation):
    target = plan(four_convolutions(), average=3.0)["target"]
    found = [plan(four_convolutions(), average=3.0, allocation=allocation, draw=draw) for draw in (0, 1, 0)]
    assert found[0] == found[2]
    for one in found:
        made = FracBits(config=fracbits().config)
        module = made.finish(made.rebuild(four_convolutions().copy(), one))
        cost = count_bit_operations(module, four_convolutions().example)
        assert cost == pytest.approx(target, rel=0.011)
    distinct = {tuple(width[0] for width in one["widths"].values()) for one in found}
    assert len(distinct) == (1 if allocation == "uniform" else 2)


def test_what_it_refuses():
    for changes, message in (
        ({"kilobytes": 1.0, "bit_operations": 5.0}, "a budget is one of them"),
        ({"lowest": 0, "per": "layer"}, "takes out whole layers"),
        ({"lowest": 8}, "lowest=8, highest=8"),
        ({"highest": 17}, "highest=17"),
        ({"harden_at": 1.5}, "harden_at=1.5"),
        ({"trials": 0}, "trials=0"),
        ({"per": "filter"}, "per=filter"),
        ({"kappa": -1.0}, "kappa"),
    ):
        with pytest.raises(UserError, match=message):
            fracbits(**changes)
    assert "stacked" in FracBits.refuses
    with pytest.raises(TypeError, match="cannot share a weight rule that learns"):
        QuantizedLayer(EnsembleLinear(2, 3, 4), FractionalWeights(4, 1, 2.0, 1, 8, fan=0))
    made = plan(four_convolutions(), average=3.0, allocation="uniform")
    whole = made["widths"]
    for damage in ({"free": None}, {"target": 3}, {"widths": {"body.3.0": 3}}, {"widths": whole | {"body.3.0": [3]}},
                   {"input_widths": {"head": 9}}, {"widths": whole | {"body.3.0": [True] * 8}}):  # fmt: skip
        with pytest.raises(UserError, match="its plan is damaged"):
            FracBits(config=fracbits().config).rebuild(four_convolutions().copy(), made | damage)
