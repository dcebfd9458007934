"""What every quantizer of the catalogue keeps to: numbers, bits, files, one line for what it cannot do, and kills.

`rlsuite.fit` has its own test of a process that is killed with signal 9; here every method is stopped in its last
learning, without a chance to save, and goes on through all it does around `fit`.
"""

import dataclasses

import pytest
import torch
from judged import stripes
from torch import nn

from envs.evaluation import transform
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import itemize_bytes, measure_size
from envs.evaluation.recipe import load_network, network_base, rebuild, same_bits, save_network
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask, over_examples
from envs.evaluation.transform import apply
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import fit
from rlsuite.methods import choose, from_plain, to_plain
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig

NAMES = [name.rpartition("/")[2] for name in EVALUATIONS if name.startswith("quantization/")]
# Numbers that a network this small wants: widths that there is something to learn of, ends that are whole numbers.
NUMBERS = {
    "adabits": {"bits": [4, 2]},
    "fracbits": {"average": 3.0, "width_rate": 20.0},
    "pams": {
        "bits": 4,
        "structure_weight": 0.0,
        "teach.fit.optimizer.learning_rate": 5e-3,
        "places.first": 8,
        "places.last": 8,
    },
    "quantization_networks": {"levels": "ternary", "input_bits": 2, "renormalize": 2, "epochs": 3},
    "rbnn": {"epochs": 3},
    "sat": {"bits": 2, "clamped_steps": 2},
    "balanced": {"bits": 3},
}
BEHIND = {"bn_fixed_point": ["pams"]}  # what must have been done before


@pytest.fixture(scope="module")
def learned():
    """A small network with BatchNorm that tells stripes apart nearly always."""
    made = fresh()
    transform.teach(made, teaching(60), 0)
    return made


def fresh():
    config = ConvNetConfig(widths=(4, 6, 8), strides=(1, 2, 2), hidden=0, batch_norm=True)
    task = ClassifierTask(stripes(192, 1), stripes(64, 2), num_classes=2)
    base = network_base("conv", channels=1, size=8, outputs=2, config=config)
    return Subject(ConvNet(1, 8, 2, config, 0).eval(), task.source("test").tensors["input"][:1], task, base)


def teaching(steps):
    usual = transform.TeachConfig()
    return dataclasses.replace(usual, fit=dataclasses.replace(usual.fit, steps=steps, batch_size=32), rounds=1)


def methods(name, steps=6, **fit_numbers):
    """The method, and those that it stands behind."""
    names = [*BEHIND.get(name, []), name]
    numbers = {f"{each}.{key}": value for each in names for key, value in NUMBERS.get(each, {}).items()}
    for each in names:
        groups = ("teach", "weights") if each == "brelu" else ("teach",)
        for key, value in {"steps": steps, "batch_size": 32, **fit_numbers}.items():
            numbers |= {f"{each}.{group}.fit.{key}": value for group in groups}
        numbers[f"{each}.teach.rounds"] = 1
    return choose(EVALUATIONS, names, numbers)


def quantized(name, subject, steps=6, **fit_numbers):
    for place, method in enumerate(methods(name, steps, **fit_numbers)):
        subject = apply(method, subject, 5 + place)
    return subject


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(same_bits(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", NAMES)
def test_numbers_survive_a_file_and_unknown_ones_are_refused(name):
    chosen = methods(name)
    assert from_plain(EVALUATIONS, to_plain(chosen)) == chosen
    assert choose(EVALUATIONS, [name])[0].build().config == chosen[-1].kind.Config()
    with pytest.raises(UserError, match=f"unknown key '{name}.bitz'"):
        choose(EVALUATIONS, [name], {f"{name}.bitz": 1})


@pytest.mark.parametrize("name", NAMES)
def test_bits_are_the_seeds_and_come_back_from_a_file(name, learned, tmp_path):
    before, training = state(learned.module), learned.module.training
    made, again = quantized(name, learned), quantized(name, learned)
    assert same(before, state(learned.module))
    assert learned.module.training is training
    assert same(state(made.module), state(again.module))
    inputs = learned.task.source("test").tensors["input"]
    with torch.no_grad():
        stream = torch.get_rng_state()
        outputs = made.module(inputs)
        assert torch.equal(torch.get_rng_state(), stream)  # using a network draws nothing
        save_network(tmp_path / "network", made.module, made.base, made.recipe)
        module, base, recipe, _ = load_network(tmp_path / "network")
        assert same_bits(module(inputs), outputs)
        for count in (1, 3):
            torch.testing.assert_close(module(inputs[:count]), outputs[:count], rtol=1e-4, atol=1e-4)
    assert (base, recipe) == (made.base, made.recipe)
    with torch.device("meta"):
        assert rebuild(made.base, made.recipe).state_dict().keys() == made.module.state_dict().keys()
    size = measure_size(made)
    assert set(size) >= {"parameters", "bytes", "macs", "bit_operations"}
    assert size["bit_operations"] < 1024 * measure_size(learned)["macs"]
    assert sum(itemize_bytes(made).values()) == size["bytes"]
    assert made.gained >= methods(name)[-1].kind.gives


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bn_fixed_point"])  # which learns nothing
def test_what_it_makes_learns(name):
    def loss(subject):
        task = subject.task
        errors = over_examples(subject.module, task.source("train"), lambda _, batch: task.loss(subject.module, batch))
        return float(errors.mean())

    start, end = (quantized(name, fresh(), steps) for steps in (1, 30))
    assert loss(end) < loss(start)


# -- kills ---------------------------------------------------------------------------------------------------------


class KilledError(Exception):
    pass


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bn_fixed_point"])
def test_a_killed_schedule_goes_on_to_the_same_bits(name, learned, tmp_path, monkeypatch):
    calls = []

    def kept(folder, kill):
        """`fit` that keeps checkpoints, and dies before the fourth minibatch of its `kill`-th call."""
        calls.clear()

        def called(module, loss, source, config, *, hooks=(), **rest):
            number = len(calls)
            calls.append(number)

            def die(step, share):
                if number == kill and step == 3:
                    raise KilledError

            return fit(module, loss, source, config, hooks=[*hooks, die], run_dir=folder / str(number), **rest)

        monkeypatch.setattr(transform, "fit", called)

    saving = {"check_every": 1, "save_every": 2}
    whole = state(quantized(name, learned, steps=8, **saving).module)
    kept(tmp_path / "whole", None)
    assert same(whole, state(quantized(name, learned, steps=8, **saving).module))
    last = len(calls) - 1
    kept(tmp_path / "killed", last)
    with pytest.raises(KilledError):
        quantized(name, learned, steps=8, **saving)
    kept(tmp_path / "killed", None)
    resumed = quantized(name, learned, steps=8, **saving)
    assert same(whole, state(resumed.module))
    assert (tmp_path / "killed" / str(last) / "metrics.jsonl").exists()


# -- one line for what cannot be done ------------------------------------------------------------------------------

OUT_OF_RANGE = {
    "adabits": [{"bits": [17, 2]}, {"bits": [0]}],
    "balanced": [{"bits": 17}, {"input_bits": 0}],
    "brelu": [{"bits": 1}, {"bits": 9}, {"levels": 0}],
    "fracbits": [{"highest": 17}, {"lowest": -1}, {"input_bits": 0}],
    "pams": [{"bits": 1}, {"bits": 17}],
    "quantization_networks": [{"levels": "pm8"}, {"input_bits": 7}],
    "rbnn": [{"input_bits": 2}],
    "sat": [{"bits": 0}, {"bits": 17}, {"input_bits": 17}],
}


def line(raised):
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 250
    return text


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_bits_out_of_range_are_one_line(name):
    for numbers in OUT_OF_RANGE[name]:
        with pytest.raises(UserError) as raised:
            choose(EVALUATIONS, [name], {f"{name}.{key}": value for key, value in numbers.items()})
        assert "=" in line(raised)


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_not_finite_are_one_line(name, learned):
    broken = dataclasses.replace(learned, module=learned.copy())
    path = next(
        name for name, part in broken.module.named_modules() if name.startswith("body.3") and hasattr(part, "weight")
    )
    with torch.no_grad():
        broken.module.get_submodule(path).weight.view(-1)[0] = float("nan")
    with pytest.raises(UserError) as raised:
        quantized(name, broken)
    assert path in line(raised)


@pytest.mark.parametrize("name", NAMES)
def test_networks_without_such_layers_are_one_line(name, learned):
    bare = dataclasses.replace(learned, module=nn.Sequential(nn.Flatten(), nn.ReLU()))
    with pytest.raises(UserError) as raised:
        quantized(name, bare)
    assert "layer" in line(raised) or "is not" in line(raised)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_calibration_set_is_one_line(name, learned):
    task = ClassifierTask(stripes(1, 1), stripes(64, 2), num_classes=2)
    task.splits["train"] = Arrays({"input": torch.zeros(0, 1, 8, 8), "label": torch.zeros(0, dtype=torch.int64)})
    with pytest.raises(UserError) as raised:
        quantized(name, dataclasses.replace(learned, task=task))
    assert "examples" in line(raised)
