"""BNAS: binary cells and what they cost, potentials by hand, trials, budgets, and a search that goes on to the same."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from judged import classifier
from torch import nn

from envs.evaluation import recipe
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_macs, count_parameters
from envs.evaluation.quantization.binary_convolutions import (
    XnorLayer,
    binary_convolution,
    pack_binary_layers,
    reconstruction_error,
)
from envs.evaluation.quantization.binary_layer import BinaryLayer
from envs.evaluation.search import bnas
from envs.evaluation.search.bandit import Arms, trial_epochs
from envs.evaluation.search.bnas import (
    BNAS_XNOR_1,
    BNASConfig,
    MixedEvaluator,
    by_potential,
    by_upper_bounds,
    potential,
    searched,
)
from envs.evaluation.search.elimination import architecture_of, play, within_budget
from envs.evaluation.search.evaluators import SharedEvaluator
from envs.evaluation.search.shared_weights import SharedConfig
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.optim.choice import OptimizerConfig

BINARY = ("xnor", "xnor_layer", "xnor_one_bit", "rbnn")
CELLS = CellSpaceConfig(
    operations=("max_pool_3x3", "skip_connect", "sep_conv_3x3"),
    nodes=2,
    width=4,
    layout=("normal", "reduction"),
    convolution="xnor",
)
SPACE = CellSpace(CELLS, channels=1, size=8, outputs=2)
CONFIG = BNASConfig(
    space=CELLS,
    mixed_epochs=1,
    tries=1,
    shared=SharedConfig(batch_size=64),
    statistics=1,
    teach=TeachConfig(fit=FitConfig(steps=20, batch_size=32, optimizer=OptimizerConfig(learning_rate=3e-3))),
)


def space_of(convolution, **changes):
    return CellSpace(dataclasses.replace(CELLS, convolution=convolution, **changes), channels=1, size=8, outputs=2)


@pytest.mark.parametrize("convolution", BINARY)
def test_macs_and_kilobytes_of_binary_cells_once_packed(convolution):
    space, rng, example = space_of(convolution), np.random.default_rng(0), torch.rand(1, 1, 8, 8)
    for _ in range(3):
        architecture = space.sample(rng)
        network, cost = space.build(architecture).eval(), space.cost(architecture)
        with torch.no_grad():
            before = network(example)
        packed = pack_binary_layers(network)
        with torch.no_grad():
            assert torch.equal(packed(example), before)
        layers = [part for part in packed.modules() if isinstance(part, BinaryLayer)]
        scales = sum(layer.scale.numel() for layer in layers)
        assert cost["macs"] == count_macs(packed, example)
        assert cost["parameters"] == count_parameters(packed) + scales
        bits = sum(layer.num_weights for layer in layers)
        assert cost["kilobytes"] * 8e3 == bits + 32 * (cost["parameters"] - bits)
        assert (cost["binary_macs"] > 0) == (convolution in ("xnor_one_bit", "rbnn"))


@pytest.mark.parametrize("convolution", BINARY)
@pytest.mark.parametrize("options", [{"partial": 2, "affine": False}, {}], ids=["partial", "whole"])
def test_extract_from_binary_supernets(convolution, options):
    space, rng = space_of(convolution, picks=0), np.random.default_rng(0)
    supernet, pictures = Supernet(space, seed=3, **options), torch.rand(2, 1, 8, 8)
    architecture = space.sample(rng)
    child = supernet.eval().extract(architecture)
    with torch.no_grad():
        assert torch.equal(supernet(pictures, architecture), child(pictures))
    supernet.train()(pictures, architecture).sum().backward()
    child.train()(pictures).sum().backward()
    theirs = {name: part.grad for name, part in child.named_parameters()}
    assert all(gradient is not None for gradient in theirs.values())


@pytest.mark.parametrize("convolution", ["xnor", "rbnn"])
def test_seeds_draw_binary_weights(convolution):
    def weights(seed):
        space = space_of(convolution)
        network = space.build(space.sample(np.random.default_rng(0)))
        space.draw(network, seed)
        return torch.cat([v.flatten() for name, v in network.state_dict().items() if "cells" in name])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("drawn", [False, True])
def test_latent_weights_start_small_enough_to_change_signs(drawn):
    """He's deviation of 32 inputs is 0.25; a tenth of it is crossed by most weights in 10 steps of Adam at 3e-3."""
    generator = torch.Generator().manual_seed(0)
    layer = binary_convolution("xnor", 32, 512, 1, generator=generator)
    if drawn:
        layer.draw(generator)
    assert float(layer.weight.detach().std()) == pytest.approx(0.025, rel=0.02)
    before, optimizer = layer.weight.detach().sign(), torch.optim.Adam(layer.parameters(), 3e-3)
    for _ in range(10):
        layer.weight.grad = before.clone()
        optimizer.step()
    assert float((layer.weight.detach().sign() != before).double().mean()) > 0.7  # |w| < 0.03


def test_the_error_of_filters_by_hand():
    layer = XnorLayer(nn.Conv2d(1, 2, 1, bias=False))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([2.0, -3.0]).view(2, 1, 1, 1))
    assert float(reconstruction_error(layer).detach()) == 0.0  # one weight a filter is its own scale
    layer = XnorLayer(nn.Conv2d(2, 1, 1, bias=False))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -3.0]).view(1, 2, 1, 1))
    error = reconstruction_error(nn.Sequential(layer, nn.Conv2d(1, 1, 1)))
    assert float(error.detach()) == 1.0  # scale 2: (1 - 2)^2 and (3 - 2)^2, their mean
    error.backward()
    assert layer.weight.grad.flatten().tolist() == [-1.0, -1.0]
    assert float(reconstruction_error(nn.Conv2d(1, 1, 1)).detach()) == 0.0
    rotated = binary_convolution("rbnn", 4, 2, 1, generator=torch.Generator().manual_seed(0))
    assert float(reconstruction_error(rotated).detach()) > 0.0


def test_potentials_by_hand():
    arms = Arms((3,))
    arms.alive[0, 2] = False
    for path, reward in (((0,), 0.5), ((1,), 0.7)):
        arms.update(path, reward)
    alpha = np.array([[0.6, 0.4, 0.0]])
    stage = potential(arms, alpha, accuracy_share=0.5, standardized=False)
    first = 1.0 / (1.0 + math.exp(0.2))
    assert stage.accuracy[0] == pytest.approx([first, 1.0 - first, 0.0])
    assert stage.potential[0] == pytest.approx([0.5 * 0.6 + 0.5 * first, 0.5 * 0.4 + 0.5 * (1 - first), 0.0])
    assert stage.potential[0, 0] > stage.potential[0, 1]  # alpha rules
    far = potential(arms, alpha, accuracy_share=0.5, standardized=True)
    assert far.accuracy[0, 0] == pytest.approx(1.0 / (1.0 + math.exp(2.0)))
    assert far.potential[0, 0] < far.potential[0, 1]
    assert potential(arms, alpha, accuracy_share=0.0, standardized=False).potential[0] == pytest.approx(alpha[0])


def test_bandit_trials_of_bnas():
    config, stages = BNASConfig(), []
    arms, alphas = Arms((8,) * 3), [np.full((3, 8), 0.125)] * 7
    counted = []

    def reward(path):
        counted.append(path)
        return 0.5 + 0.05 * (path[0] == 6)

    assert play(by_potential(arms, config, alphas, stages, np.random.default_rng(0)), reward) == 105
    assert trial_epochs(8, 3, between=5) == 140
    assert len(stages) == 7
    for place in range(3):  # each operation three times in the first stage
        assert sorted(path[place] for path in counted[:24]) == sorted(list(range(8)) * 3)
    assert arms.best()[0] == 6
    arms = Arms((4,) * 2, momentum=0.7)
    rule = by_upper_bounds(arms, 3, np.random.default_rng(0))
    assert play(rule, lambda path: 0.1 + 0.25 * path[0]) == 27
    assert (arms.counts.sum(1) == 27).all()


def test_the_published_cells_are_in_the_space():
    space = CellSpace(BNASConfig().space, channels=3, size=16, outputs=10)
    architecture = architecture_of(space, BNAS_XNOR_1)
    assert sum(choice > 0 for choice in architecture) == 16
    with torch.no_grad():
        assert space.build(architecture).eval()(torch.rand(1, 3, 16, 16)).shape == (1, 10)


def test_budgets_exchange_what_is_worth_least_for_what_it_saves():
    rng = np.random.default_rng(0)
    values = rng.random((10, 3))
    for _ in range(5):
        architecture = SPACE.sample(rng)
        whole = SPACE.cost(architecture)["kilobytes"]
        assert within_budget(SPACE, architecture, values, whole) == architecture
        least = SPACE.cost(SPACE.smallest("kilobytes"))["kilobytes"]
        budget = 0.5 * (whole + least)
        found = within_budget(SPACE, architecture, values, budget)
        assert SPACE.valid(found)
        assert SPACE.cost(found)["kilobytes"] <= budget
    conv = tuple(3 * (choice > 0) for choice in architecture)
    present = 1
    values[:] = 0.0
    values[:, 2] = 1.0
    values[present, 2] = 0.0  # no loss here
    found = within_budget(SPACE, conv, values, SPACE.cost(conv)["kilobytes"] - 1e-6)
    assert [place for place in range(10) if found[place] != conv[place]] == [present]


def test_budgets_exchange_nothing_for_none():
    space = space_of("xnor", operations=("none", "skip_connect", "sep_conv_3x3"))
    conv = tuple(3 * (choice > 0) for choice in space.sample(np.random.default_rng(0)))
    values = np.zeros((10, 3))
    values[:, 2] = 1.0
    found = within_budget(space, conv, values, space.cost(conv)["kilobytes"] - 1e-6)
    assert found != conv
    assert 1 not in found


@pytest.mark.parametrize("call", [2, 4])
def test_resume_of_bnas_ends_in_the_same_history_and_cells(tmp_path, monkeypatch, call):
    found = []
    for name in ("whole", "killed"):
        if name == "killed":
            calls, score = [], SharedEvaluator.score

            def stops(self, judge, score=score, calls=calls):
                calls.append(1)
                if len(calls) == call:
                    raise KeyboardInterrupt
                return score(self, judge)

            with monkeypatch.context() as patch:
                patch.setattr(SharedEvaluator, "score", stops)
                with pytest.raises(KeyboardInterrupt):
                    searched(SPACE, classifier(), CONFIG, tmp_path / name)
        result = searched(SPACE, classifier(), CONFIG, tmp_path / name)
        files = [path for path in sorted((tmp_path / name).rglob("*")) if path.is_file()]
        names = ("history.jsonl", "alphas.json")
        kept = [path.read_bytes() for path in files if path.name in names or path.suffix == ".safetensors"]
        assert len(kept) >= 5
        found.append((result.architecture, [stage.potential.tolist() for stage in result.stages], kept))
    assert found[0][:2] == found[1][:2]
    assert found[0][2] == found[1][2]
    with pytest.raises(UserError, match="choose another folder"):
        searched(SPACE, classifier(), dataclasses.replace(CONFIG, tries=2), tmp_path / "whole")


def test_alpha_learns_from_the_other_half_and_not_from_the_weights_turn():
    seen = []

    class Watched(MixedEvaluator):
        def turn(self, way):
            before = [value.clone() for value in self.shared.supernet.parameters()]
            alpha = self.relaxation.choices.detach().clone()
            super().turn(way)
            after = list(self.shared.supernet.parameters())
            seen.append(
                (
                    all(torch.equal(a, b) for a, b in zip(before, after, strict=True)),
                    not torch.equal(alpha, self.relaxation.choices),
                )
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bnas, "MixedEvaluator", Watched)
        searched(SPACE, classifier(), CONFIG)
    assert len(seen) == 2 * 2  # two stages of an epoch of two minibatches
    assert all(weights_rest and alpha_moves for weights_rest, alpha_moves in seen)


def test_as_a_transform_it_keeps_the_budget_and_reloads(tmp_path):
    least = SPACE.cost(SPACE.smallest("kilobytes"))["kilobytes"]
    config = dataclasses.replace(CONFIG, kilobytes=1.1 * least, rule="ucb")
    found = apply(Method("search/bnas", config, EVALUATIONS["search/bnas"]), classifier(), 0)
    assert SPACE.cost(tuple(found.recipe[0].plan["architecture"]))["kilobytes"] <= 1.1 * least
    recipe.save_network(tmp_path / "network.safetensors", found.module, found.base, found.recipe)
    module, *_ = recipe.load_network(tmp_path / "network.safetensors")
    pictures = found.task.source("test").tensors["input"]
    with torch.no_grad():
        assert recipe.same_bits(module(pictures), found.module(pictures))
    assert any(isinstance(part, BinaryLayer) for part in module.modules())
    tiny = dataclasses.replace(CONFIG, kilobytes=0.1)
    with pytest.raises(UserError, match=r"bnas.kilobytes=0.1: the smallest network of cell needs"):
        apply(Method("search/bnas", tiny, EVALUATIONS["search/bnas"]), classifier(), 0)


def test_wrong_numbers_are_refused():
    for wrong, message in (
        ({"rule": "best"}, "rule"),
        ({"partial": 3}, "partial=3"),
        ({"accuracy_share": 1.5}, "accuracy_share"),
        ({"tries": 0}, "tries=0"),
    ):
        with pytest.raises(UserError, match=message):
            BNASConfig(**wrong)
