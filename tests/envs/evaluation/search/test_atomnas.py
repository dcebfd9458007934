"""AtomNAS: prices by hand, cutting against masking, resumption, and searches of pictures and policies."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from judged import classifier
from torch import nn

from envs.evaluation import recipe
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_macs
from envs.evaluation.pruning.shrink import take
from envs.evaluation.search.atomnas import AtomNASConfig, found_architecture, report, shrinking
from envs.evaluation.search.atoms import (
    cut_axes,
    cut_module,
    cut_optimizer,
    cut_tensors,
    find_atoms,
    fold_constants,
    survivors,
)
from envs.evaluation.search.shrinking import Price, ShrinkConfig, Shrinking
from envs.evaluation.search.spaces.chain import AtomSpace, ChainConfig
from envs.evaluation.search.spaces.code import ActorConfig
from envs.evaluation.transform import apply
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.nn.gate import gated, ungated
from rlsuite.nn.plain import PlainPolicyConfig, build_plain_policy, mlp
from rlsuite.optim.choice import OptimizerConfig, make_optimizer

CHAIN = ChainConfig(widths=(4, 4, 6), strides=(1, 1, 2), stem=4, expansions=(2,), kernels=(3, 5))
SPACE = AtomSpace(CHAIN, channels=1, size=8, outputs=2)
SHRINK = ShrinkConfig(
    rho=0.12,
    rise=0.1,
    threshold=0.1,
    average_batch=64,
    average=0.9,
    statistics=2,
    fit=FitConfig(steps=40, batch_size=32, optimizer=OptimizerConfig(name="sgd", learning_rate=0.1)),
)


def random_network(seed=0):
    """The largest network with scales and shifts that differ, in training mode."""
    network = SPACE.build(SPACE.largest)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1.5, generator=generator)
                part.bias.uniform_(-0.5, 0.5, generator=generator)
                part.running_mean.uniform_(-0.5, 0.5, generator=generator)
    return network


def kill(network, groups, places):
    """Set the scales of atoms at places of each group to 0; return which stay."""
    state = network.state_dict()
    dead = [torch.zeros(len(state[group.scale]), dtype=torch.bool) for group in groups]
    for one, gone in zip(dead, places, strict=True):
        one[gone] = True
    for group, one in zip(groups, dead, strict=True):
        state[group.scale][one] = 0.0
    return survivors(groups, [state[group.scale] for group in groups], dead, network)


PLACES = ([0, 3], [1], [2, 5, 6], list(range(8)), [0], [4, 7])  # of the second block, kernel 5 goes wholly


def cut(network, optimizer, groups, kept):
    state, weights = network.state_dict(), dict(network.named_parameters())
    for group, keep in zip(groups, kept, strict=True):
        gone = torch.tensor([i for i in range(len(state[group.scale])) if i not in keep.tolist()], dtype=torch.int64)
        fold_constants(network, state, group, gone)
    axes = cut_axes(network, groups, kept)
    cut_module(network, groups, kept)
    if optimizer is not None:
        cut_optimizer(optimizer, weights, network, axes)
    return axes


def test_prices_by_hand():
    network = random_network()
    groups = find_atoms(network)
    # 4 -> 8 -> 4 at 8x8: rows 4 * 64, filters 9 * 64 (25 * 64), columns 4 * 64; the last block halves: 9 * 16, 6 * 16.
    macs = [1088, 2112, 1088, 2112, 256 + 144 + 96, 256 + 400 + 96]
    assert [group.macs for group in groups] == macs
    price = Price(groups, network)
    assert price.normalizer == np.mean(macs)
    weights = dict(network.named_parameters())
    expected = sum(
        m / np.mean(macs) * float(weights[g.scale].detach().abs().sum()) for g, m in zip(groups, macs, strict=True)
    )
    assert float(price(weights)) == pytest.approx(expected, rel=1e-5)
    assert np.mean(list(price.shares.values())) == pytest.approx(1.0)
    assert set(Price(groups, network, "equal").shares.values()) == {1.0}
    assert all(name.split(".")[2] == "filter" for name in price.shares)  # the norm behind the depthwise convolution


def test_shrink_keeps_outputs_and_takes_exactly_its_macs():
    network = random_network().eval()
    groups = find_atoms(network)
    kept = kill(network, groups, PLACES)
    pictures = torch.rand(3, 1, 8, 8)
    before, macs = network(pictures), count_macs(network, pictures[:1])
    cut(network, None, groups, kept)
    torch.testing.assert_close(network(pictures), before, atol=1e-6, rtol=1e-5)
    gone = sum(group.macs * len(place) for group, place in zip(groups, PLACES, strict=True))
    assert count_macs(network, pictures[:1]) == macs - gone
    architecture = found_architecture(SPACE, network)
    assert architecture == (6, 7, 5, 0, 7, 6)
    assert SPACE.cost(architecture)["macs"] == macs - gone
    assert "block 1: 3x3 5, 5x5 0" in report(SPACE, architecture)
    SPACE.build(architecture).load_state_dict(network.state_dict())


@pytest.mark.parametrize("name", ["sgd", "adam", "rmsprop"])
def test_shrink_then_a_step_is_the_masked_step(name):
    """Weights, averages of the optimizer and all after one step are those of the network with masked atoms."""
    config, pictures = OptimizerConfig(name=name, learning_rate=1e-2), torch.rand(8, 1, 8, 8).double()
    label = torch.arange(8) % 2
    masked = random_network().double().train()  # Adam makes steps of what is rounding alone in single precision
    groups = find_atoms(masked)
    price = Price(groups, masked)

    def step(network, optimizer, mask=()):
        weights = dict(network.named_parameters())
        optimizer.zero_grad()
        (nn.functional.cross_entropy(network(pictures), label) + 1e-2 * price(weights)).backward()
        for scale, keep in mask:  # what was masked gets no gradient
            gone = torch.ones(len(weights[scale]), dtype=torch.bool).index_fill_(0, keep, value=False)
            weights[scale].grad[gone] = 0.0
            weights[scale.removesuffix("weight") + "bias"].grad[gone] = 0.0
        optimizer.step()

    optimizer = make_optimizer(dict(masked.named_parameters()), config)
    step(masked, optimizer)
    kept = kill(masked, groups, PLACES)
    smaller = copy.deepcopy(masked)
    other = make_optimizer(dict(smaller.named_parameters()), config)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    axes = cut(smaller, other, groups, kept)
    step(masked, optimizer, [(group.scale, keep) for group, keep in zip(groups, kept, strict=True)])
    step(smaller, other)
    wanted = cut_tensors(dict(masked.named_parameters()) | dict(masked.named_buffers()), smaller, axes)
    for path, value in smaller.named_parameters():
        torch.testing.assert_close(value, wanted[path], atol=1e-6, rtol=1e-5, msg=path)
    weights = dict(masked.named_parameters())
    for path, value in smaller.named_parameters():
        for key, state in other.state[value].items():
            whole = optimizer.state[weights[path]][key]
            if isinstance(whole, torch.Tensor):
                cut_whole = take(whole, axes.get(path, ())) if whole.shape == weights[path].shape else whole
                torch.testing.assert_close(state, cut_whole, atol=1e-6, rtol=1e-5, msg=f"{path} {key}")


def test_shrink_guards_blocks_that_change_shapes_and_drops_others():
    network = random_network()
    groups = find_atoms(network)
    kept = kill(network, groups, [range(8)] * 6)
    assert [len(keep) for keep in kept] == [0, 0, 0, 0, 1, 0]
    cut(network, None, groups, kept)
    pictures = torch.rand(2, 1, 8, 8)
    assert network(pictures).shape == (2, 2)
    stem = network.stem(pictures)
    assert torch.equal(network.blocks[1](network.blocks[0](stem)), stem)  # nothing is left but the shortcut
    assert found_architecture(SPACE, network) == (0, 0, 0, 0, 1, 0)


def test_shrink_of_hidden_units_and_folded_gates():
    layers = mlp(3, (5, 4), 2, seed=0)
    network = gated(layers)
    inputs = torch.randn(6, 3)
    assert torch.equal(network(inputs), layers(inputs))
    groups = find_atoms(network)
    assert [group.macs for group in groups] == [3 + 4, 5 + 2]
    kept = kill(network, groups, ([1, 4], [0]))
    before = network(inputs)
    cut(network, None, groups, kept)
    torch.testing.assert_close(network(inputs), before)
    with torch.no_grad():
        network[2].weight.mul_(1.7)
    wanted = network(inputs)
    plain = ungated(network)
    torch.testing.assert_close(plain(inputs), wanted)
    assert [tuple(layer.weight.shape) for layer in plain if isinstance(layer, nn.Linear)] == [(3, 3), (3, 3), (2, 3)]
    with pytest.raises(ValueError, match="LayerNorm"):
        gated(mlp(3, (4,), 2, layer_norm=True, seed=0))


def test_dead_in_weights_and_average_both():
    learning = shrinking(classifier(), SPACE, dataclasses.replace(SHRINK, least=0.0), 0)
    scale = learning.groups[0].scale
    learning.module.state_dict()[scale][:2] = 0.0  # the average still remembers them
    assert learning.shrink() == 0
    learning.average[scale][1:3] = 0.0  # the weights still have the third
    assert learning.shrink() == learning.groups[0].macs
    assert learning.shrink(final=True) == learning.groups[0].macs  # by the average alone
    whole = dataclasses.replace(SHRINK, least=0.5)
    other = shrinking(classifier(), SPACE, whole, 0)
    other.module.state_dict()[scale][0], other.average[scale][0] = 0.0, 0.0
    assert other.shrink() == 0  # too few MACs
    assert other.shrink(final=True) > 0


def test_it_shrinks_while_it_learns_and_no_decay_touches_scales():
    config = dataclasses.replace(
        SHRINK, fit=dataclasses.replace(SHRINK.fit, optimizer=OptimizerConfig(name="sgd", learning_rate=0.1))
    )
    learning = shrinking(classifier(), SPACE, config, 0)
    spared = learning.optimizer.param_groups[0]
    assert spared["weight_decay"] == 0.0
    assert all(weight.dim() == 1 for weight in spared["params"])
    learning.run()
    left = [epoch["macs"] for epoch in learning.epochs]
    assert left[-1] < 0.8 * learning.whole
    assert any(later < learning.whole for later in left[:-1])  # before the end
    assert learning.task.score(learning.module, 0).mean() > 80


def test_resume_ends_in_the_same_network(tmp_path, monkeypatch):
    whole = shrinking(classifier(), SPACE, SHRINK, 0)
    whole.run(tmp_path / "whole")
    killed = shrinking(classifier(), SPACE, SHRINK, 0)
    save, calls = killed.save, []

    def stops(folder):
        save(folder)
        calls.append(folder)
        if len(calls) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(killed, "save", stops)
    with pytest.raises(KeyboardInterrupt):
        killed.run(tmp_path / "killed")
    assert killed.epochs[-1]["macs"] < killed.whole  # it had shrunk
    again = shrinking(classifier(), SPACE, SHRINK, 0)
    again.run(tmp_path / "killed")
    one, two = whole.module.state_dict(), again.module.state_dict()
    assert list(one) == list(two)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    other = shrinking(classifier(), SPACE, dataclasses.replace(SHRINK, rho=0.5), 0)
    with pytest.raises(UserError, match="another search"):
        other.run(tmp_path / "killed")


def test_as_a_transform_it_keeps_the_budget_learns_once_and_reloads(tmp_path):
    budget = 0.6 * SPACE.cost(SPACE.largest)["macs"]
    config = AtomNASConfig(macs=budget, space=CHAIN, shrink=SHRINK, trials=2)
    found = apply(Method("search/atomnas", config, EVALUATIONS["search/atomnas"]), classifier(), 0)
    assert count_macs(found.module, found.example) <= budget
    assert found.task.score(found.module, 0).mean() > 80  # though nothing was taught after the search
    recipe.save_network(tmp_path / "network.safetensors", found.module, found.base, found.recipe)
    module, *_ = recipe.load_network(tmp_path / "network.safetensors")
    pictures = found.task.source("test").tensors["input"]
    with torch.no_grad():
        assert recipe.same_bits(module(pictures), found.module(pictures))
    for macs, line in ((5, "atomnas.macs=5: the smallest network of atom needs"), (budget, "raise shrink.rho")):
        shrink = dataclasses.replace(SHRINK, rho=1e-9)
        worse = AtomNASConfig(macs=macs, space=CHAIN, shrink=shrink, trials=1)
        with pytest.raises(UserError, match=line):
            apply(Method("search/atomnas", worse, EVALUATIONS["search/atomnas"]), classifier(), 0)


class Copying:
    """A task of vectors: tell the first two numbers."""

    interactive, unit, box, floor = False, "negative loss", None, -1.0

    def __init__(self):
        inputs = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
        self.data = Arrays({"input": inputs, "action": inputs[:, :2].clamp(-1, 1)})

    def source(self, split):
        return self.data

    def loss(self, module, batch):
        return (module(batch["input"]) - batch["action"]).square().mean(1)

    def score(self, module, seed):
        with torch.no_grad():
            return -self.loss(module, self.data.tensors).numpy()


def test_a_plain_policy_loses_units(tmp_path):
    policy = PlainPolicyConfig(observation_size=4, action_size=2, hidden_sizes=(8,))
    module = build_plain_policy(policy)
    subject = dataclasses.replace(classifier(), module=module, example=torch.zeros(1, 4), task=Copying())
    subject = dataclasses.replace(subject, base=recipe.policy_base(policy))
    shrink = dataclasses.replace(SHRINK, rho=0.02, fit=dataclasses.replace(SHRINK.fit, steps=80))
    config = AtomNASConfig(actor=ActorConfig(depth=2, smallest=1, largest=24), shrink=shrink)
    found = apply(Method("search/atomnas", config, EVALUATIONS["search/atomnas"]), subject, 0)
    hidden = [layer.out_features for layer in found.module.layers if isinstance(layer, nn.Linear)][:-1]
    assert sum(hidden) < 40
    assert found.task.score(found.module, 0).mean() > -0.1
    recipe.save_network(tmp_path / "n.safetensors", found.module, found.base, found.recipe)
    again, *_ = recipe.load_network(tmp_path / "n.safetensors")
    with torch.no_grad():
        assert recipe.same_bits(
            again(subject.task.data.tensors["input"]), found.module(found.task.data.tensors["input"])
        )


def test_networks_without_atoms_are_refused():
    with pytest.raises(UserError, match="no atoms"):
        Shrinking(classifier().copy(), classifier().task, SHRINK, seed=0)
    with pytest.raises(UserError, match="units leave one by one"):
        AtomNASConfig(actor=ActorConfig(smallest=16))
