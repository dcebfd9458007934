"""What learns while a search goes on: shared weights, relaxations, predictors, and the transform around them."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from judged import classifier
from torch import nn

from envs.evaluation import catalogue, recipe
from envs.evaluation.search.door import Search, space_of_plan
from envs.evaluation.search.evaluators import PartTask, SharedEvaluator, TrainedEvaluator, halves
from envs.evaluation.search.predictors import MLP, ByCost, Ridge
from envs.evaluation.search.relaxation import PartialChannels, Relaxation, Relaxed, above, shuffle, turns
from envs.evaluation.search.shared_weights import SharedConfig, SharedWeights
from envs.evaluation.search.space import Space
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.spaces.code import EncoderConfig, EncoderSpace
from envs.evaluation.search.strategy import Proposal, search
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig, fit
from rlsuite.methods import choose
from rlsuite.optim.choice import OptimizerConfig

CONFIG = CellSpaceConfig(
    operations=("skip_connect", "conv_3x3", "max_pool_3x3"), nodes=2, width=4, layout=("normal", "reduction"), picks=1
)
SPACE = CellSpace(CONFIG, channels=1, size=8, outputs=2)
SHARED = SharedConfig(batch_size=32, paths=2, total=60, optimizer=OptimizerConfig(name="sgd", learning_rate=0.05))
QUICK = TeachConfig(fit=FitConfig(steps=40, batch_size=32, optimizer=OptimizerConfig(learning_rate=3e-3)))


def shared(seed=0):
    task = halves(classifier().task, 0)
    return SharedWeights(Supernet(SPACE, seed=seed, affine=False), task, SHARED, seed=seed)


class Rounds:
    """Trains random paths and judges others."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def ask(self):
        draw = [SPACE.sample(self.rng) for _ in range(8)]
        return Proposal(train=tuple(draw[:6]), judge=tuple(draw[6:]))

    def tell(self, scores):
        pass


def test_halves_are_disjoint_and_leave_the_test_alone():
    task = classifier().task
    part = halves(task, 0)
    assert len(part.source("train")) == len(part.source("test")) == 128
    assert not set(part.parts["train"].index.tolist()) & set(part.parts["test"].index.tolist())
    scores = part.score(classifier().module, 0)
    assert scores.shape == (128,)
    assert set(scores) <= {0.0, 100.0}

    class Plain:
        unit, box, floor, interactive = "return", None, 0.0, False

        def loss(self, module, batch):
            return batch["label"].float()

    source = task.source("test")
    assert np.array_equal(PartTask(Plain(), source, source).score(nn.Identity(), 0), -source.tensors["label"].numpy())


def test_shared_weights_learn_and_only_where_paths_go():
    weights = shared()
    rng = np.random.default_rng(0)
    paths = [SPACE.sample(rng) for _ in range(3)]
    before = {name: value.clone() for name, value in weights.supernet.state_dict().items()}
    first = weights.train(paths, 6)
    assert weights.train(paths, 18) < first
    used = {(slot, path[part.place]) for slot, part in weights.supernet.slots.items() for path in paths}
    for name, value in weights.supernet.network.state_dict().items():
        owner, inside, rest = name.partition(".choices.")
        if inside and (owner, int(rest.partition(".")[0])) not in used:
            assert torch.equal(value, before[f"network.{name}"])
    assert not torch.equal(weights.supernet.network.head.weight, before["network.head.weight"])


class Killed(SharedEvaluator):
    calls = 0

    def score(self, judge):
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return super().score(judge)


def test_resume_of_shared_weights_ends_in_the_same_bits(tmp_path):
    found = []
    for name in ("whole", "killed"):
        folder, evaluator = tmp_path / name, SharedEvaluator(shared(), steps=5, statistics=2)
        if name == "killed":
            with pytest.raises(KeyboardInterrupt):
                search(SPACE, Rounds(1), Killed(shared(), steps=5, statistics=2), budget=8, folder=folder)
        search(SPACE, Rounds(1), evaluator, budget=8, folder=folder)
        found.append(((folder / "history.jsonl").read_bytes(), evaluator.shared.supernet.state_dict()))
        assert len(list(folder.glob("round-*"))) == 1  # only what is gone on from
    (whole, weights), (again, others) = found
    assert whole == again
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


def test_shared_weights_of_another_supernet_are_refused(tmp_path):
    shared().save(tmp_path)
    other = CellSpace(
        CellSpaceConfig(nodes=3, width=4, layout=("normal",), reductions=()), channels=1, size=8, outputs=2
    )
    with pytest.raises(UserError, match="another supernet"):
        SharedWeights(Supernet(other, seed=0), halves(classifier().task, 0), SHARED, seed=0).load(tmp_path)


def test_trained_candidates_learn_once_and_a_failed_one_is_nan():
    subject, calls = classifier(), []
    space = EncoderSpace(EncoderConfig(stages=2, blocks=1, largest=16), channels=1, size=8, outputs=2)

    def put(module, network):
        calls.append(network)
        return network

    evaluator = TrainedEvaluator(space, subject, put, QUICK, seed=0)
    (score,) = evaluator.score([(0, 0, 0, 1)])
    assert evaluator.score([(0, 0, 0, 1)]) == [score]
    assert len(calls) == 1
    assert score > 60.0
    wild = TeachConfig(
        fit=FitConfig(steps=40, batch_size=32, optimizer=OptimizerConfig(name="sgd", learning_rate=1e30))
    )
    assert np.isnan(TrainedEvaluator(space, subject, put, wild, seed=0).score([(0, 0, 0, 1)])).all()


def test_relaxations_mix_what_is_alive_and_learn_on_their_own_half():
    relaxation = Relaxation((3, 2), groups=(0, 0), seed=0)
    assert relaxation.mixture()[1, 2] == 0.0
    assert torch.allclose(relaxation.mixture().sum(1), torch.ones(2))
    assert torch.allclose(relaxation.scales().sum(), torch.ones(()))
    relaxation.give_up(np.array([[False, True, True], [True, True, False]]))
    assert relaxation.mixture()[0, 0] == 0.0

    config = CellSpaceConfig(operations=("conv_3x3", "none"), picks=0, nodes=1, layout=("a",), reductions=(), width=4)
    space = CellSpace(config, channels=1, size=8, outputs=2)
    task = halves(classifier().task, 0)
    relaxed = Relaxed(Supernet(space, seed=0, affine=False), Relaxation(space.sizes, seed=0))
    steps = turns(
        task,
        task.source("train"),
        task.source("test"),
        weights=OptimizerConfig(learning_rate=3e-3),
        architecture=OptimizerConfig(learning_rate=3e-2),
    )
    fit(relaxed, steps, task.source("train"), FitConfig(steps=60, batch_size=32), seed=0)
    assert relaxed.relaxation.strongest() == (0, 0)  # zeros tell nothing apart
    assert relaxed.relaxation.mixture()[:, 0].min() > 0.55


def test_thresholds_pass_a_sigmoids_gradient():
    value, threshold = torch.tensor([0.2, 0.8], requires_grad=True), torch.full((2,), 0.5, requires_grad=True)
    found = above(value, threshold)
    assert found.tolist() == [0.0, 1.0]
    found.sum().backward()
    soft = torch.sigmoid(value - threshold)
    assert torch.allclose(value.grad, soft * (1 - soft))
    assert torch.allclose(threshold.grad, -soft * (1 - soft))


def test_partial_channels_go_through_and_past():
    class Double(nn.Module):
        def forward(self, inputs):
            return 2 * inputs

    inputs = torch.arange(4.0).view(1, 4, 1, 1)
    assert PartialChannels(Double(), 2, 1)(inputs).flatten().tolist() == [0.0, 2.0, 2.0, 3.0]
    assert shuffle(torch.arange(6.0).view(1, 6, 1, 1), 3).flatten().tolist() == [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]
    halved = PartialChannels(nn.MaxPool2d(2), 2, 2)(torch.rand(1, 4, 6, 6))
    assert halved.shape == (1, 4, 3, 3)


class Wide(Space):
    name, sizes = "wide", (4, 4, 4)

    def cost(self, architecture):
        return {"macs": float(sum(architecture)), "parameters": 1.0}


def test_predictors_find_an_additive_order():
    space, rng = Wide(), np.random.default_rng(0)
    value = rng.normal(size=(3, 4))
    all_of_them = [(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    truth = np.array([sum(value[place, choice] for place, choice in enumerate(each)) for each in all_of_them])
    chosen = rng.permutation(64)[:40]
    for predictor in (Ridge(space, penalty=1e-6), MLP(space, seed=0)):
        predictor.fit([all_of_them[i] for i in chosen], truth[chosen])
        assert np.corrcoef(predictor.predict(all_of_them), truth)[0, 1] > 0.97
    assert np.allclose(_ridge(space, all_of_them, truth, chosen).predict(all_of_them), truth, atol=1e-3)
    assert ByCost(lambda each: space.cost(each)["macs"]).predict([(3, 0, 1)]).tolist() == [4.0]
    with pytest.raises(UserError, match="try 2 or more"):
        Ridge(space).fit([(0, 0, 0)], np.array([1.0]))
    with pytest.raises(UserError, match="not finite"):
        Ridge(space).fit([(0, 0, 0), (1, 0, 0)], np.array([1.0, np.nan]))


def _ridge(space, architectures, truth, chosen):
    ridge = Ridge(space, penalty=1e-9)
    ridge.fit([architectures[i] for i in chosen], truth[chosen])
    return ridge


@dataclass(frozen=True, kw_only=True)
class FirstConfig:
    seed: int = 0
    space: EncoderConfig = field(default_factory=lambda: EncoderConfig(stages=2, blocks=1, largest=16))
    teach: TeachConfig = field(default_factory=lambda: QUICK)


class First(Search):
    Config = FirstConfig

    def space_of(self, subject):
        return "encoder", self.config.space

    def find(self, subject, space):
        return space.sample(np.random.default_rng(self.config.seed))


NAMES = {"toys/first": "test_search_learning:First"}


def test_a_search_is_a_transform_whose_file_builds_without_searching(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "EVALUATIONS", NAMES | catalogue.EVALUATIONS)
    (method,) = choose(NAMES, ["first"])
    subject = classifier()
    found = apply(method, subject, 1)
    assert found.task.score(found.module, 0).mean() > 60.0
    (step,) = found.recipe
    assert step.plan["ends"] == {"channels": 1, "size": [8, 8], "outputs": 2}
    space, architecture = space_of_plan(step.plan)
    assert space.check(step.plan["architecture"]) == architecture
    monkeypatch.setattr(First, "find", None)
    recipe.save_network(tmp_path / "network.safetensors", found.module, found.base, found.recipe)
    module, *_ = recipe.load_network(tmp_path / "network.safetensors")
    with torch.no_grad():
        pictures = subject.task.source("test").tensors["input"]
        assert recipe.same_bits(module(pictures), found.module(pictures))
    assert "searched" in found.traits
    for change in ({"space": "cells"}, {"ends": {}}, {"architecture": [9, 9, 9, 9]}, {"ends": {"channels": -1}}):
        with pytest.raises(UserError):
            space_of_plan({**step.plan, **change})
