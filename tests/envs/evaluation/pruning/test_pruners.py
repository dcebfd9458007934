"""Methods of pruning as transforms: files give the same bits, subjects stay, and what a user may get wrong."""

import math

import pytest
import torch
from judged import QUICK, classifier

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_macs, measure_size
from envs.evaluation.pruning.graph import couple
from envs.evaluation.recipe import FORMAT, load_network, rebuild, same_bits, save_network, write_weights
from envs.evaluation.transform import TeachConfig, apply, check_traits, teach
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import choose, from_plain, to_plain
from rlsuite.nn.plain import PlainPolicyConfig, build_plain_policy
from rlsuite.nn.vision.resnet import ResNet20, ResNetConfig

HARDLY = TeachConfig(fit=FitConfig(steps=1, batch_size=16), rounds=1)
NAMES = [name for name in EVALUATIONS if name.startswith("pruning/")]


def method(name, **numbers):
    short = name.rpartition("/")[2]
    own = {
        "hrank": {"smallest_map": 2},
        "cogd": {"choose": "share", "start": "ones", "learn": QUICK, "mask_every": 10},
    }
    numbers = {"teach": QUICK, **own.get(short, {}), **numbers}
    (found,) = choose(EVALUATIONS, [name], {f"{short}.{key}": value for key, value in numbers.items()})
    return found


@pytest.mark.parametrize("name", NAMES)
def test_apply_save_and_load(name, tmp_path):
    subject = classifier()
    teach(subject, QUICK, 0)
    before = [value.clone() for value in subject.module.state_dict().values()]
    chosen = method(name, ratio=0.5)
    changed = apply(chosen, subject, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(before, subject.module.state_dict().values(), strict=True))
    (step,) = changed.recipe
    assert all(len(kept) == 2 for path, kept in step.plan["kept"].items() if path != "body.6")
    sizes = measure_size(changed)
    assert sizes["macs"] < 0.6 * measure_size(subject)["macs"]
    assert changed.task.score(changed.module, 0).mean() > 80
    save_network(tmp_path / "network.safetensors", changed.module, changed.base, changed.recipe)
    pictures = subject.task.source("test").tensors["input"]
    again = apply(chosen, subject, seed=1)
    with torch.no_grad():
        assert same_bits(load_network(tmp_path / "network.safetensors")[0](pictures), changed.module(pictures))
        assert same_bits(again.module(pictures), changed.module(pictures))
    assert from_plain(EVALUATIONS, to_plain([chosen])) == (chosen,)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in rebuild(changed.base, changed.recipe).state_dict().items()}
    assert shapes == {key: value.shape for key, value in changed.module.state_dict().items()}


def test_the_smallest_weights_go_by_hand():
    module = build_plain_policy(PlainPolicyConfig(observation_size=2, action_size=1, hidden_sizes=(4, 3)))
    with torch.no_grad():
        module.layers[0].weight.copy_(torch.tensor([[1.0, -2], [0.5, 0.1], [-3, 0], [0, 2]]))
        module.layers[2].weight.copy_(torch.tensor([[1.0, 1, 1, 1], [-2, 0, 0, 0], [0, 0, 5, 0]]))
    subject = type("Subject", (), {"module": module})  # it looks at nothing else
    assert method("l1", ratio=0.5).build().plan(subject) == {"kept": {"layers.0": [0, 2], "layers.2": [0, 2]}}
    assert method("l1", ratio=0.0).build().plan(subject) == {"kept": {}}
    layers = ({"names": ["*.2"], "ratio": 0.0}, {"names": ["*"], "ratio": 0.25})
    assert method("l1", layers=layers).build().plan(subject) == {"kept": {"layers.0": [0, 2, 3]}}


def test_one_layer_after_another():
    subject = classifier()
    chosen = method("l1", ratio=0.5, schedule="layerwise")
    changed = apply(chosen, subject, seed=1)
    together = apply(method("l1", ratio=0.5), subject, seed=1)
    assert changed.recipe[0].plan == together.recipe[0].plan
    assert not torch.equal(changed.module.head.weight, together.module.head.weight)
    assert changed.task.score(changed.module, 0).mean() > 80


def test_pruning_comes_before_quantization_and_can_follow_itself():
    for name in NAMES:
        with pytest.raises(
            UserError, match=r"quantized; prune first, as in evaluation=\[pruning/l1,quantization/pams\]"
        ):
            check_traits([method(name)], frozenset({"convolutional", "quantized"}))
    with pytest.raises(UserError, match=r"pruning/hrank: the network is not convolutional; .* use pruning/l1"):
        check_traits([method("hrank")], frozenset({"linear", "policy"}))
    once = apply(method("l1", ratio=0.3, teach=HARDLY), classifier(), seed=0)
    twice = apply(method("random", ratio=0.3, teach=HARDLY), once, seed=0)
    module = rebuild(twice.base, twice.recipe)
    module.load_state_dict(twice.module.state_dict())
    assert same_bits(module(twice.example), twice.module(twice.example))


def test_wrong_numbers_are_refused():
    for ratio in (1, 1.5, -0.1, math.nan):
        for name in NAMES:
            with pytest.raises(UserError, match=r"ratio=.*: use 0 or more, and less than 1"):
                method(name, ratio=ratio)
    with pytest.raises(UserError, match="schedule=each: use together, layerwise"):
        method("l1", schedule="each")
    with pytest.raises(UserError, match=r"no layer that can be cut is called so; some are: body.1, body.3"):
        method("l1", layers=[{"names": ["tail"], "ratio": 0.5}]).build().plan(classifier())


DAMAGES = {
    "no plan": lambda plan: None,
    "no kept channels": lambda plan: {},
    "a layer that is not there": lambda plan: {"kept": {"body.9": [0, 1]}},
    "the last layer": lambda plan: {"kept": {"head": [0]}},
    "a channel too far": lambda plan: {"kept": {**plan["kept"], "body.1": [0, 4]}},
    "a negative channel": lambda plan: {"kept": {**plan["kept"], "body.1": [-1, 0]}},
    "a channel twice": lambda plan: {"kept": {**plan["kept"], "body.1": [1, 1]}},
    "no channel": lambda plan: {"kept": {**plan["kept"], "body.1": []}},
    "a fraction": lambda plan: {"kept": {**plan["kept"], "body.1": [0.5, 1]}},
    "a truth": lambda plan: {"kept": {**plan["kept"], "body.1": [False, True]}},
}


@pytest.fixture(scope="module")
def halved():
    return apply(method("l1", ratio=0.5, teach=HARDLY), classifier(), seed=1)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_plans_are_refused(tmp_path, halved, damage):
    changed = halved
    (step,) = changed.recipe
    said = {"base": list(changed.base), "recipe": [[step.name, step.config, DAMAGES[damage](step.plan)]], "about": {}}
    path = tmp_path / "network.safetensors"
    write_weights(path, changed.module.state_dict(), said, format=FORMAT)
    with pytest.raises(UserError, match=r"is not a network that .*: its plan is damaged"):
        load_network(path)


def test_macs_are_those_of_torch_pruning():
    tp = pytest.importorskip("torch_pruning")
    module = ResNet20(3, 16, 10, ResNetConfig(width=20, depth=1), 0).eval()
    example = torch.zeros(1, 3, 16, 16)
    peer = ResNet20(3, 16, 10, ResNetConfig(width=20, depth=1), 0).eval()
    importance = tp.importance.MagnitudeImportance(p=1)
    tp.pruner.MetaPruner(peer, example, importance=importance, pruning_ratio=0.3, ignored_layers=[peer.head]).step()
    theirs, _ = tp.utils.count_ops_and_params(peer, example)
    transform = method("l1", ratio=0.3, coupled=True).build()
    plan = transform.plan(type("Subject", (), {"module": module}))
    assert len(plan["kept"]) == len(couple(module).named())
    ours = count_macs(transform.rebuild(module, plan), example)
    assert count_macs(peer, example) == pytest.approx(ours, rel=0.05)
    assert theirs == pytest.approx(ours, rel=0.05)
