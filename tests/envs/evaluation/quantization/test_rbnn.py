"""RBNN as a method: what becomes binary, its schedule, what is kept and read again, and what it refuses."""

import copy

import pytest
import torch
from judged import classifier
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_bit_operations, count_bytes, count_parameters
from envs.evaluation.quantization.binary_layer import BinaryLayer, SignInput, StandardizedInput, use_backend
from envs.evaluation.quantization.rbnn import RBNN, RBNNConfig, epoch_begins, epoch_of
from envs.evaluation.quantization.rotated import RotatedLayer
from envs.evaluation.recipe import load_network, rebuild, same_bits, save_network
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig, fit
from rlsuite.methods import choose
from rlsuite.optim.choice import OptimizerConfig

QUICK = {
    "rbnn.epochs": 4,
    "rbnn.teach.rounds": 1,
    "rbnn.teach.fit.steps": 30,
    "rbnn.teach.fit.batch_size": 32,
    "rbnn.teach.fit.schedule.warmup": 0,
    "rbnn.teach.fit.optimizer.name": "adam",  # the network has no normalization
    "rbnn.teach.fit.optimizer.learning_rate": 0.05,
}


def method(**numbers):
    chosen = QUICK | {f"rbnn.{key}": value for key, value in numbers.items()}
    return choose(EVALUATIONS, ["rbnn"], chosen)[0]


def test_it_learns_and_comes_back_with_the_same_bits(tmp_path):
    subject = classifier()
    changed = apply(method(**{"teach.fit.steps": 80}), subject, seed=3)
    assert changed.recipe[-1].plan == {"layers": {"body.3": [1, 1], "body.6": [1, 1]}}
    assert {type(changed.module.get_submodule(path)) for path in ("body.3", "body.6")} == {BinaryLayer}
    assert changed.task.score(changed.module, 0).mean() >= 90.0
    assert "quantized" in changed.traits
    assert not any("rotation" in name or "mixing" in name for name in changed.module.state_dict())

    path = tmp_path / "network.safetensors"
    save_network(path, changed.module, changed.base, changed.recipe)
    module, *_ = load_network(path)
    pictures = subject.task.source("test").tensors["input"]
    with torch.no_grad():
        expected = changed.module(pictures)
        assert same_bits(module(pictures), expected)
        assert same_bits(use_backend(module, "popcount")(pictures), expected)
    with torch.device("meta"):
        hollow = rebuild(changed.base, changed.recipe)
    assert hollow.state_dict().keys() == changed.module.state_dict().keys()


def test_a_weight_is_a_bit_and_a_product_one_operation():
    subject = classifier()
    changed = apply(method(), subject, seed=3)
    assert changed.module.body[3].codes.numel() == 4 * 4 * 9 // 8
    assert count_parameters(changed.module) == count_parameters(subject.module)
    macs = {"body.1": 9 * 4 * 16, "body.3": 9 * 16 * 4, "body.6": 16 * 8, "head": 16}
    expected = 1024 * (macs["body.1"] + macs["head"]) + macs["body.3"] + macs["body.6"]
    assert count_bit_operations(changed.module, changed.example) == expected
    assert count_bytes(changed) > 0


def test_the_same_seed_gives_the_same_bits_and_another_other_rotations():
    one, again, other = (apply(method(), classifier(), seed=seed) for seed in (4, 4, 5))
    states = [each.module.state_dict() for each in (one, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_inputs_may_stay_floats():
    changed = apply(method(input_bits=32), classifier(), seed=3)
    assert isinstance(changed.module.body[3].input_rule, StandardizedInput)
    assert changed.module.body[3].input_bits == 32


def test_places_and_hardtanh():
    entries = [{"names": ["body.6"], "weights": 32, "inputs": 32}]
    transform = method(**{"places.layers": entries, "hardtanh": True}).build()
    subject = classifier()
    plan = transform.plan(subject)
    assert plan == {"layers": {"body.3": [1, 1]}}
    module = transform.rebuild(subject.copy(), plan)
    assert isinstance(module.body[3], RotatedLayer)
    assert isinstance(module.body[3].input_rule, SignInput)
    assert isinstance(module.body[2], nn.Hardtanh)
    assert not any(isinstance(part, nn.ReLU) for part in module.modules())


def test_convolutions_of_one_pixel_stay_floats_unless_they_are_wanted():
    subject = classifier()
    subject.module.body[3] = nn.Conv2d(4, 4, 1, stride=2)
    assert set(method().build().plan(subject)["layers"]) == {"body.6"}
    assert set(method(pointwise=True).build().plan(subject)["layers"]) == {"body.3", "body.6"}
    named = [{"names": ["body.3"], "weights": 1, "inputs": 1}]
    assert set(method(**{"places.layers": named}).build().plan(subject)["layers"]) == {"body.3", "body.6"}


# -- the schedule --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "epochs"), [(10, 5), (7, 3), (3, 7), (100, 100), (1000, 33)])
def test_epochs_begin_where_the_share_says(steps, epochs):
    begun = [step for step in range(steps) if epoch_begins(step, step / steps, epochs)]
    assert begun == sorted(
        {-(-epoch * steps // epochs) for epoch in range(epochs) if -(-epoch * steps // epochs) < steps}
    )
    assert not epoch_begins(steps, 1.0, epochs)
    assert epoch_of(0.0, epochs) == 0.0
    assert epoch_of(1.0, epochs) == 1.0
    assert all(epoch_of(step / steps, epochs) == (step * epochs // steps) / epochs for step in range(steps))


def learning(seed=0, **numbers):
    """A network of RBNN that begins to learn."""
    subject = classifier()
    transform = RBNN(config=RBNNConfig(epochs=4, **numbers))
    module = transform.rebuild(subject.copy(), transform.plan(subject))
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, RotatedLayer):
            part.draw_rotation(generator)
    return subject, transform, module


def test_the_hook_sharpens_and_renews_once_an_epoch(monkeypatch):
    renewed = []
    monkeypatch.setattr("envs.evaluation.quantization.rbnn.improve_rotations", lambda *_: renewed.append(step))
    _, transform, module = learning()
    hook, sharpness = transform.hook(module), []
    for step in (*range(8), 7, 8):
        hook(step, step / 8)
        layer = module.body[3]
        sharpness.append((layer.sharpness, layer.slope, layer.input_rule.sharpness))
    assert renewed == [0, 2, 4, 6]
    expected = [10.0 ** (-2 + 3 * epoch / 4) for epoch in (0, 0, 1, 1, 2, 2, 3, 3, 3, 4)]
    assert [t for t, _, _ in sharpness] == pytest.approx(expected)
    assert [k for _, k, _ in sharpness] == pytest.approx([max(1 / t, 1.0) for t in expected])
    assert [t for _, _, t in sharpness] == pytest.approx([max(t, 1.0) for t in expected])


def test_the_clipped_gradient_has_no_schedule():
    _, transform, module = learning(gradient="clipped")
    transform.hook(module)(3, 0.5)
    assert module.body[3].sharpness is None
    assert module.body[3].input_rule.sharpness is None


class KilledError(Exception):
    pass


@pytest.mark.parametrize("killed_at", [5, 11, 14])
def test_a_killed_learning_goes_on_to_the_same_bits(tmp_path, killed_at):
    config = FitConfig(steps=16, batch_size=32, check_every=1, save_every=3, optimizer=OptimizerConfig(name="sgd"))

    def run(folder, kill, seed):
        subject, transform, module = learning(seed)
        hook = transform.hook(module)

        def with_kill(step, share):
            hook(step, share)
            if step == kill:
                raise KilledError

        def loss(network, batch):
            return {"loss": subject.task.loss(network, batch).mean()}

        fit(module, loss, subject.task.source("train"), config, seed=1, hooks=[with_kill], run_dir=folder)
        return module.state_dict()

    whole = run(tmp_path / "whole", None, 0)
    with pytest.raises(KilledError):
        run(tmp_path / "killed", killed_at, 0)
    resumed = run(tmp_path / "killed", None, 99)  # its own rotations do not count: the checkpoint's do
    assert all(same_bits(whole[name], resumed[name]) for name in whole)


# -- refusals ------------------------------------------------------------------------------------------------------

REFUSED = {
    "input_bits": (4, "input_bits=4: use 1, or 32"),
    "epochs": (0, "epochs=0"),
    "cycles": (0, "cycles=0"),
    "gradient": ("sharp", "gradient=sharp"),
    "first_sharpness": (0.0, "first_sharpness=0.0"),
    "last_sharpness": (1e-3, "last_sharpness=0.001"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_out_of_range_are_refused(name):
    value, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as error:
        method(**{name: value})
    assert "\n" not in str(error.value)


def test_networks_that_cannot_be_binary_are_refused():
    subject = classifier()
    with pytest.raises(UserError, match="is no such layer"):
        apply(method(**{"places.layers": [{"names": ["tail"], "weights": 1, "inputs": 1}]}), subject, 0)
    with pytest.raises(UserError, match="weights of 1 bit"):
        apply(method(**{"places.layers": [{"names": ["body.3"], "weights": 2, "inputs": 1}]}), subject, 0)
    every = [{"names": ["*"], "weights": 32, "inputs": 32}]
    with pytest.raises(UserError, match="no layer is left"):
        apply(method(**{"places.layers": every}), subject, 0)
    twice = apply(method(), subject, 0)
    with pytest.raises(UserError, match="quantize a network once"):
        apply(method(), twice, 0)
    broken = classifier()
    with torch.no_grad():
        broken.module.body[3].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(UserError, match=r"body\.3: its weights are not finite"):
        apply(method(), broken, 0)


@pytest.mark.parametrize(
    "plan", [None, {}, {"layers": {"body.9": [1, 1]}}, {"layers": {"body.3": [2, 1]}}, {"layers": {"body.3": [1, 4]}}]
)
def test_damaged_plans_are_refused(plan):
    with pytest.raises(UserError, match="its plan is damaged"):
        method().build().rebuild(classifier().copy(), copy.deepcopy(plan))


def test_the_usual_recipe_is_the_papers():
    teaching = RBNNConfig().teach
    assert isinstance(teaching, TeachConfig)
    optimizer = teaching.fit.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.weight_decay, optimizer.learning_rate) == (
        "sgd",
        0.9,
        1e-4,
        0.1,
    )
    assert (teaching.fit.schedule.kind, teaching.fit.batch_size) == ("cosine", 256)
