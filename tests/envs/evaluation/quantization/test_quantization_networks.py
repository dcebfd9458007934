"""Quantization Networks: the two stages, what decays and at which rates, what is kept, what is refused."""

import pytest
import torch
from judged import classifier
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.quantization.codes import packed_bytes
from envs.evaluation.quantization.layer import PackedLayer, QuantizedLayer
from envs.evaluation.quantization.quantization_networks import (
    QuantizationNetworks,
    QuantizationNetworksConfig,
    estimate_norms,
    norms,
    stage_optimizer,
)
from envs.evaluation.quantization.staircase import LEVELS, StepInput, StepWeights, softly
from envs.evaluation.recipe import load_network, rebuild, same_bits, save_network
from envs.evaluation.transform import apply
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig, fit
from rlsuite.methods import choose
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, make_optimizer

QUICK = {
    "quantization_networks.epochs": 4,
    "quantization_networks.renormalize": 2,
    "quantization_networks.teach.rounds": 1,
    "quantization_networks.teach.fit.steps": 40,
    "quantization_networks.teach.fit.batch_size": 32,
    "quantization_networks.teach.fit.optimizer.learning_rate": 0.02,
}


def method(**numbers):
    chosen = QUICK | {f"quantization_networks.{key}": value for key, value in numbers.items()}
    return choose(EVALUATIONS, ["quantization_networks"], chosen)[0]


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# -- the method ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("levels", "bits"), [("ternary", 2), ("pm4", 3), ("binary", 1)])
def test_it_learns_and_comes_back_with_the_same_bits(tmp_path, levels, bits):
    subject = classifier()
    changed = apply(method(levels=levels, input_bits=2, **{"teach.fit.steps": 160}), subject, seed=3)
    assert changed.recipe[-1].plan == {"layers": {"body.3": [bits, 2], "body.6": [bits, 2]}, "signed": []}
    layer = changed.module.body[3]
    assert isinstance(layer, PackedLayer)
    assert layer.codes.numel() == packed_bytes(bits, 144)
    assert (layer.weight_bits, layer.input_bits, layer.scale.shape) == (bits, 2, ())
    assert not any("weight_rule" in name for name in changed.module.state_dict())
    assert set((layer.weight / layer.scale).round().flatten().tolist()) <= set(LEVELS[levels])
    assert changed.task.score(changed.module, 0).mean() >= 85.0

    path = tmp_path / "network.safetensors"
    save_network(path, changed.module, changed.base, changed.recipe)
    module, *_ = load_network(path)
    pictures = subject.task.source("test").tensors["input"]
    with torch.no_grad():
        assert same_bits(module(pictures), changed.module(pictures))
    with torch.device("meta"):
        hollow = rebuild(changed.base, changed.recipe)
    assert hollow.state_dict().keys() == changed.module.state_dict().keys()


def test_what_is_kept_is_what_hard_steps_give():
    torch.manual_seed(0)
    learned = QuantizedLayer(nn.Linear(9, 5), StepWeights(LEVELS["pm4"]), StepInput(3, signed=True)).eval()
    inputs = draw(20, 9)
    learned.weight_rule.staircase.start(learned.learned_weight)
    learned.input_rule.staircase.start(inputs)
    with torch.no_grad():
        expected = learned(inputs)
        packed = PackedLayer(learned)
        assert same_bits(packed(inputs), expected)
        with softly(learned, 3.0):
            assert not torch.equal(learned(inputs), expected)
        assert same_bits(learned(inputs), expected)


def test_weights_come_first_and_inputs_second(monkeypatch):
    seen = []
    transform = method(input_bits=2).build()
    subject = classifier()
    module = transform.rebuild(subject.copy(), transform.plan(subject))
    usual = transform.hook(module)

    def hook(step, share):
        usual(step, share)
        rule = module.body[3].input_rule
        seen.append((step, rule.passing, rule.staircase.temperature, float(module.body[3].weight_rule.staircase.alpha)))

    monkeypatch.setattr(transform, "hook", lambda _: hook)
    transform.train(type(subject)(module, subject.example, subject.task, subject.base), subject, 0)
    first, second = seen[:21], seen[21:]
    assert [step for step, *_ in first] == [step for step, *_ in second] == list(range(21))
    assert {passing for _, passing, *_ in first} == {True}
    assert {passing for _, passing, *_ in second} == {False}
    for stage in (first, second):
        assert [temperature for *_, temperature, _ in stage] == [10.0] * 5 + [20.0] * 5 + [30.0] * 5 + [40.0] * 6
    assert first[-1][3] == second[0][3] != first[0][3]  # alpha goes on from where the first stage left it


def test_temperature_stays_at_the_largest():
    transform = QuantizationNetworks(config=QuantizationNetworksConfig(epochs=10, largest_temperature=55.0))
    assert [transform.temperature(share) for share in (0.0, 0.05, 0.1, 0.55, 0.99, 1.0)] == [10, 10, 20, 55, 55, 55]


def test_scales_have_no_decay_and_all_else_a_tenth_of_the_rate():
    transform = method(learn_thresholds=True).build()
    subject = classifier()
    module = transform.rebuild(subject.copy(), transform.plan(subject))
    config = OptimizerConfig(
        name="sgd", learning_rate=1.0, weight_decay=0.1, groups=(GroupConfig(names=("head.*",), learning_rate=2.0),)
    )
    optimizer = make_optimizer(dict(module.named_parameters()), stage_optimizer(config, module, 0.1))
    own, head, rest = optimizer.param_groups
    assert (own["lr"], own["weight_decay"], len(own["params"])) == (1.0, 0.0, 12)
    assert (head["lr"], head["weight_decay"]) == (0.2, 0.1)
    assert (rest["lr"], rest["weight_decay"]) == (0.1, 0.1)


def test_norms_are_estimated_with_hard_steps():
    torch.manual_seed(0)
    network = nn.Sequential(QuantizedLayer(nn.Linear(6, 3), StepWeights(LEVELS["ternary"])), nn.BatchNorm1d(3))
    network[0].weight_rule.staircase.start(network[0].learned_weight)
    source = Arrays({"input": draw(40, 6)})
    estimate_norms(network, source, 4, 10, 0)
    with torch.no_grad():
        hard = network[0](source.tensors["input"])
    torch.testing.assert_close(network[1].running_mean, hard.mean(0), atol=1e-5, rtol=1e-4)
    assert network[1].momentum == 0.1
    assert not network[1].training
    assert list(norms(nn.Linear(2, 2))) == []


class KilledError(Exception):
    pass


@pytest.mark.parametrize("killed_at", [4, 11])
def test_a_killed_learning_goes_on_to_the_same_bits(tmp_path, killed_at):
    config = FitConfig(steps=16, batch_size=32, check_every=1, save_every=3)

    def run(folder, kill):
        subject, transform = classifier(), method(input_bits=2).build()
        module = transform.rebuild(subject.copy(), transform.plan(subject))
        for part in module.modules():
            if isinstance(part, QuantizedLayer):
                part.weight_rule.staircase.start(part.learned_weight)
        usual = transform.hook(module)

        def hook(step, share):
            usual(step, share)
            if step == kill:
                raise KilledError

        def loss(network, batch):
            return {"loss": subject.task.loss(network, batch).mean()}

        fit(module, loss, subject.task.source("train"), config, seed=1, hooks=[hook], run_dir=folder)
        return module.state_dict()

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", killed_at)
    resumed = run(tmp_path / "killed", None)
    assert all(same_bits(whole[name], resumed[name]) for name in whole)


def test_float_weights_and_float_inputs():
    weights_alone = apply(method(input_bits=32), classifier(), seed=3)
    assert weights_alone.module.body[3].input_bits == 32
    inputs_alone = apply(method(levels="float", input_bits=2), classifier(), seed=3)
    assert isinstance(inputs_alone.module.body[3], QuantizedLayer)
    assert inputs_alone.module.body[3].weight_bits == 32


# -- refusals ------------------------------------------------------------------------------------------------------

REFUSED = {
    "levels": ("quaternary", "levels=quaternary"),
    "input_bits": (7, "input_bits=7: use 1 to 6"),
    "beta": (0.0, "beta=0.0: use a finite number above 0"),
    "epochs": (0, "epochs=0"),
    "first_temperature": (-1.0, "first_temperature=-1.0"),
    "largest_temperature": (1.0, "largest_temperature=1.0"),
    "input_share": (1.0, "input_share=1.0"),
    "renormalize": (-1, "renormalize=-1"),
    "teach.fit.optimizer.groups": ([{"names": ["*.alpha"], "weight_decay": 0.1}], "have none; use 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_out_of_range_are_refused(name):
    value, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as error:
        method(**{name: value})
    assert "\n" not in str(error.value)


def test_nothing_to_quantize_is_refused():
    with pytest.raises(UserError, match="nothing to quantize"):
        method(levels="float", input_bits=32)


def test_networks_that_cannot_be_quantized_are_refused():
    subject = classifier()
    with pytest.raises(UserError, match="is no such layer"):
        apply(method(**{"places.layers": [{"names": ["tail"], "weights": 2, "inputs": 4}]}), subject, 0)
    with pytest.raises(UserError, match="weights have 2 bits"):
        apply(method(**{"places.layers": [{"names": ["body.3"], "weights": 5, "inputs": 4}]}), subject, 0)
    with pytest.raises(UserError, match="quantize a network once"):
        apply(method(), apply(method(), subject, 0), 0)
    broken = classifier()
    with torch.no_grad():
        broken.module.body[3].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"body\.3: its weights are not finite"):
        apply(method(), broken, 0)
    dead = classifier()
    with torch.no_grad():
        dead.module.body[3].weight.zero_()
    with pytest.raises(UserError, match=r"body\.3: the largest value is 0"):
        apply(method(), dead, 0)
    empty = classifier()
    empty.task.splits["train"] = Arrays({"input": torch.zeros(0, 1, 8, 8), "label": torch.zeros(0, dtype=torch.int64)})
    with pytest.raises(UserError, match="no examples"):
        apply(method(), empty, 0)


def test_a_beta_of_zero_or_less_in_a_file_is_refused():
    changed = apply(method(input_bits=2), classifier(), seed=3)
    state = changed.module.state_dict()
    state["body.3.input_rule.staircase.beta"] = torch.tensor(-0.1)
    with pytest.raises(UserError, match="a scale of 0 or less"):
        changed.module.load_state_dict(state)


@pytest.mark.parametrize(
    "plan",
    [
        None,
        {"layers": {"body.3": [2, 4]}},
        {"layers": {"body.9": [2, 4]}, "signed": []},
        {"layers": {}, "signed": ["x"]},
    ],
)
def test_damaged_plans_are_refused(plan):
    with pytest.raises(UserError, match="its plan is damaged"):
        method().build().rebuild(classifier().copy(), plan)
