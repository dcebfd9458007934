"""SAT as a transform: what it plans, what it refuses, and what a file gives back."""

import pytest
import torch
from judged import classifier
from torch import nn

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_bit_operations
from envs.evaluation.quantization.codes import packed_bytes
from envs.evaluation.quantization.layer import PackedLayer
from envs.evaluation.quantization.places import LayerBits, PlacesConfig
from envs.evaluation.quantization.sat import SAT
from envs.evaluation.quantization.swapping import calibrate, without_decay
from envs.evaluation.quantization.uniform import ClippedInput
from envs.evaluation.recipe import load_network, network_base, rebuild, same_bits, save_network
from envs.evaluation.subject import Subject
from envs.evaluation.tasks import ClassifierTask, DenseTask
from envs.evaluation.transform import TeachConfig, apply, check_traits
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import choose
from rlsuite.nn.plain import mlp
from rlsuite.nn.vision.resnet import ResNet20, ResNetConfig
from rlsuite.optim.choice import OptimizerConfig

QUICK = TeachConfig(fit=FitConfig(steps=6, batch_size=16), rounds=1)


def sat(**changes):
    overrides = {f"sat.{key}": value for key, value in {"teach": QUICK, **changes}.items()}
    (method,) = choose(EVALUATIONS, ["sat"], overrides)
    return method


def plan(subject, **changes):
    return SAT(config=sat(**changes).config).plan(subject)


def dense(subject):
    split = subject.task.source("train")
    task = DenseTask(split, split, metric=lambda output, target: output, unit="dB", floor=0.0)
    return Subject(subject.module, subject.example, task, subject.base)


def normalized():
    config, task = ResNetConfig(width=4, depth=1), classifier().task
    base = network_base("resnet20", channels=1, size=8, outputs=2, config=config)
    return Subject(ResNet20(1, 8, 2, config, 0).eval(), classifier().example, task, base)


def test_the_plan_has_the_papers_places():
    found = plan(classifier(), fan="larger")
    # Convolutions 1 -> 4 -> 4 of 3 x 3, then 16 -> 8 -> 2.
    assert found == {
        "layers": {"body.1": [8, 8], "body.3": [4, 4], "body.6": [4, 4], "head": [8, 4]},
        "fans": {"body.1": 36, "body.3": 36, "body.6": 16, "head": 8},
        "signed": [],
        "pictures": ["body.1"],
    }
    assert plan(classifier(), fan="outputs")["fans"] == {"body.1": 36, "body.3": 36, "body.6": 8, "head": 2}
    assert list(plan(classifier(), rescale="last")["fans"]) == ["head"]
    assert plan(classifier(), rescale="none")["fans"] == {}
    assert plan(classifier(), rescale="last", places=PlacesConfig(first=8, last=32))["fans"] == {}
    assert plan(classifier(), bits=3, input_bits=32)["layers"]["body.3"] == [3, 32]


def test_a_trained_network_keeps_what_it_knew():
    subject = classifier()
    fans = plan(subject)["fans"]
    for path, layer in (("head", subject.module.head), ("body.3", subject.module.body[3])):
        assert fans[path] == pytest.approx(1 / float(layer.weight.detach().var()), rel=1e-5)
    inputs, method = subject.task.source("test").tensors["input"], SAT(config=sat(bits=8).config)
    outputs = {}
    for name in ("trained", "larger"):
        module = method.rebuild(subject.copy(), plan(subject, bits=8, fan=name))
        calibrate(Subject(module, subject.example, subject.task, subject.base), 1.0, 256, 0)
        with torch.no_grad():
            outputs[name] = module(inputs)
    with torch.no_grad():
        before = subject.module(inputs)
    off = {name: float((found - before).square().mean() / before.var()) for name, found in outputs.items()}
    assert off["trained"] < 0.1 < off["larger"]


def test_layers_that_are_normalized_need_no_constant():
    assert list(plan(normalized())["fans"]) == ["head"]
    assert len(plan(normalized(), rescale="all")["fans"]) == len(plan(normalized())["layers"])


def test_policies_take_in_both_signs_first():
    task = ClassifierTask(*[Arrays({"input": torch.randn(64, 3), "label": torch.zeros(64).long()})] * 2, num_classes=2)
    subject = Subject(mlp(3, (8, 8), 2, seed=0), torch.randn(1, 3), task, classifier().base)
    found = plan(subject)
    assert found["signed"] == ["0"]
    assert found["layers"] == {"0": [8, 8], "2": [4, 4], "4": [8, 4]}
    assert found["pictures"] == []


@pytest.mark.parametrize("changes", [{}, {"bits": 2, "scheme": "centred"}, {"clip": "pact", "clamped_steps": 3}])
def test_a_file_gives_the_bits_that_were_trained(changes, tmp_path):
    subject = classifier()
    before = {name: value.clone() for name, value in subject.module.state_dict().items()}
    changed = apply(sat(**changes), subject, 3)
    assert all(torch.equal(value, before[name]) for name, value in subject.module.state_dict().items())
    inputs = subject.task.source("test").tensors["input"]
    path = tmp_path / "network.safetensors"
    save_network(path, changed.module, changed.base, changed.recipe)
    module, *_ = load_network(path)
    with torch.no_grad():
        assert same_bits(module(inputs), changed.module(inputs))
    bits = changes.get("bits", 4)
    widths = {"body.1": 8, "body.3": bits, "body.6": bits, "head": 8}
    packed = {name: part for name, part in changed.module.named_modules() if isinstance(part, PackedLayer)}
    assert {name: part.codes.numel() for name, part in packed.items()} == {
        name: packed_bytes(width, packed[name].num_weights) for name, width in widths.items()
    }
    macs = {"body.1": 576, "body.3": 576, "body.6": 128, "head": 16}
    expected = macs["body.1"] * 64 + (macs["body.3"] + macs["body.6"]) * bits**2 + macs["head"] * 8 * bits
    assert count_bit_operations(changed.module, subject.example) == expected
    with torch.device("meta"):
        assert rebuild(changed.base, changed.recipe).state_dict().keys() == changed.module.state_dict().keys()
    with pytest.raises(UserError, match="quantize a network once"):
        check_traits([sat()], changed.traits)


def test_it_learns_at_two_bits():
    subject = classifier()
    quick = TeachConfig(fit=FitConfig(steps=80, batch_size=32, optimizer=OptimizerConfig(learning_rate=3e-3)))
    changed = apply(sat(bits=2, scheme="centred", teach=quick), subject, 0)
    assert changed.task.score(changed.module, 0).mean() > 90.0


def test_alphas_of_the_clamped_stage_are_where_the_others_start(monkeypatch):
    stages = []

    def note(subject, *_, **__):
        rules = [part for part in subject.module.modules() if isinstance(part, ClippedInput)]
        stages.append([float(rule.alpha.detach()) for rule in rules])
        for rule in rules:  # what the stage learns
            nn.init.constant_(rule.alpha, 0.25)

    monkeypatch.setattr("envs.evaluation.quantization.sat.teach", note)
    apply(sat(clamped_steps=3), classifier(), 0)
    assert len(stages) == 2
    assert all(alpha > 0.0 for alpha in stages[0])  # measured
    assert stages[0] != stages[1] == [0.25, 0.25, 0.25]


def test_dropping_the_last_constant_changes_outputs_by_a_factor_alone():
    subject = classifier()
    whole, dropped = (apply(sat(drop_last_scale=drop), subject, 3) for drop in (False, True))
    inputs = subject.task.source("test").tensors["input"]
    scale = float(whole.module.get_submodule("head").scale)
    assert float(dropped.module.get_submodule("head").scale) == 1.0
    assert scale != 1.0
    with torch.no_grad():
        torch.testing.assert_close(dropped.module(inputs) * scale, whole.module(inputs))


def test_what_it_refuses():
    with pytest.raises(UserError, match="outputs are numbers here, not classes"):
        plan(dense(classifier()), drop_last_scale=True)
    for places in (
        PlacesConfig(first=8, last=32),
        PlacesConfig(first=8, last=8, layers=(LayerBits(names=("head",), weights=32, inputs=4),)),
    ):  # a hidden layer is the last one packed then; its constant counts
        with pytest.raises(UserError, match="weights of head, the last layer, stay floats"):
            plan(classifier(), drop_last_scale=True, places=places)
    with pytest.raises(UserError, match="alpha=8: nothing normalizes what layers take in here"):
        plan(classifier(), alpha=8.0)
    assert plan(normalized(), alpha=8.0)["layers"]
    broken = classifier()
    nn.init.constant_(broken.module.head.bias, float("inf"))
    with pytest.raises(UserError, match=r"head\.bias holds NaN or infinity"):
        plan(broken)
    empty = classifier()
    empty.task.splits["train"] = Arrays({"input": torch.zeros(0, 1, 8, 8), "label": torch.zeros(0).long()})
    with pytest.raises(UserError, match="no examples to measure on"):
        plan(empty)
    with pytest.raises(UserError, match="no examples to measure on"):
        calibrate(empty, 0.7, 16, 0)
    none = classifier()
    with pytest.raises(UserError, match="no layer that can be quantized"):
        plan(Subject(nn.Flatten(), none.example, none.task, none.base))
    for key, value in (("bits", 0), ("input_bits", 17), ("scheme", "centered"), ("rescale", "some"), ("fan", "inputs"),
                       ("clip", "none"), ("alpha", -1.0), ("alpha_share", 0.0), ("clamped_steps", -1)):  # fmt: skip
        with pytest.raises(UserError, match=str(value)):
            sat(**{key: value})


@pytest.mark.parametrize(
    "damage",
    [
        {"fans": None},
        {"fans": {"body.3": 0.0}},
        {"fans": {"body.3": 7}},
        {"fans": {"body.2": 3.0}},
        {"signed": ["nowhere"]},
        {"pictures": 3},
        {"layers": {"body.3": [0, 4]}},
    ],
)
def test_damaged_plans_are_refused(damage):
    with pytest.raises(UserError, match="its plan is damaged"):
        SAT(config=sat().config).rebuild(classifier().copy(), plan(classifier()) | damage)


def test_alphas_are_measured_by_the_batchs_own_statistics():
    subject = normalized()
    module = SAT(config=sat().config).rebuild(subject.copy(), plan(subject))
    before = {name: value.clone() for name, value in module.state_dict().items() if "alpha" not in name}
    calibrate(Subject(module, subject.example, subject.task, subject.base), 0.7, 64, 0)
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())
    alphas = [float(part.alpha.detach()) for part in module.modules() if isinstance(part, ClippedInput)]
    assert min(alphas) > 0.1  # statistics of the float weights, which these are not, would give next to nothing
    assert not module.training


def test_only_dense_weights_decay():
    module = SAT(config=sat().config).rebuild(normalized().copy(), plan(normalized()))
    module.append = nn.Conv2d(4, 4, 3, groups=4)
    decayed = TeachConfig(fit=FitConfig(optimizer=OptimizerConfig(weight_decay=0.1)))
    (group,) = without_decay(module, decayed).groups
    assert group.weight_decay == 0.0
    spared = set(group.names)
    assert "append.weight" in spared
    named = dict(module.named_parameters())
    assert all((value.dim() <= 1 or name == "append.weight") == (name in spared) for name, value in named.items())
    assert any(name.endswith("alpha") for name in spared)
    assert without_decay(module, QUICK).groups == ()
