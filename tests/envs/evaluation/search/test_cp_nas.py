"""CP-NAS: scores and losses by hand, fair rounds, Child and Parent on the same examples, and going on to the same."""

import dataclasses

import numpy as np
import pytest
import torch
from judged import classifier

from envs.evaluation import recipe
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.quantization.binary_convolutions import XnorLayer, reconstruction_error
from envs.evaluation.quantization.binary_layer import BinaryLayer
from envs.evaluation.search.bandit import Arms
from envs.evaluation.search.cp_nas import (
    ChildParentEvaluator,
    CPNASConfig,
    Watched,
    _renew_along,
    centre_loss,
    child_parent,
    mixed_score,
    score_range,
    searched,
)
from envs.evaluation.search.elimination import play
from envs.evaluation.search.shared_weights import SharedConfig, SharedWeights
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.optim.choice import OptimizerConfig

CELLS = CellSpaceConfig(
    operations=("skip_connect", "sep_conv_3x3"),
    nodes=2,
    width=4,
    layout=("normal", "reduction"),
    convolution="xnor_one_bit",
)
SPACE = CellSpace(CELLS, channels=1, size=8, outputs=2)
CONFIG = CPNASConfig(
    space=CELLS,
    tries=1,
    shared=SharedConfig(batch_size=64),
    statistics=1,
    teach=TeachConfig(fit=FitConfig(steps=20, batch_size=32, optimizer=OptimizerConfig(learning_rate=3e-3))),
)


def test_scores_by_hand():
    assert mixed_score(0.9, 0.6, 2.0) == pytest.approx(1.2)
    assert mixed_score(0.9, 0.7, 2.0) < mixed_score(0.9, 0.6, 2.0)  # a better Child of an equal Parent
    assert mixed_score(0.9, 0.6, 0.0) == pytest.approx(0.6)
    assert mixed_score(0.9, 0.6, 1.0) == pytest.approx(0.9)
    for beta in (0.0, 0.5, 1.0, 2.0, 3.0):
        corners = [mixed_score(parent, child, beta) for parent in (0.0, 1.0) for child in (0.0, 1.0)]
        assert score_range(beta) == (min(corners), max(corners))


def test_bandit_trials_of_cp_nas_and_the_indicator_by_hand():
    arms, indicators = Arms((8,) * 14), []
    rule = child_parent(arms, 3, 0, 2.0, indicators, np.random.default_rng(0))
    assert play(rule, lambda path: 0.5) == 105
    assert len(indicators) == 7
    arms, indicators, seen = Arms((3,)), [], []

    def reward(path):
        seen.append(path[0])
        return (0.2, 0.5, 0.8)[path[0]] if len(seen) > 3 else 0.9 - 0.3 * path[0]

    assert play(child_parent(arms, 1, 1, 2.0, indicators, np.random.default_rng(0)), reward) == 3 + 3 + 2
    assert sorted(seen[:3]) == sorted(seen[3:6]) == [0, 1, 2]
    z = -1.0 + 3.0 * np.array([0.2, 0.5, 0.8])
    assert indicators[0][0] == pytest.approx(np.exp(z) / np.exp(z).sum())  # warm-up does not count
    assert indicators[1][0, 0] == 0.0
    assert arms.best() == (2,)
    assert play(child_parent(Arms((1,)), 3, 1, 2.0, [], np.random.default_rng(0)), reward) == 0


def test_distances_from_class_means_by_hand():
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 1.0]], requires_grad=True)
    loss = centre_loss(features, torch.tensor([0, 0, 2]))
    assert float(loss.detach()) == 1.0  # means (1, 0) and (5, 1)
    loss.backward()
    assert features.grad.tolist() == [[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]
    equal = torch.ones(4, 3)
    assert float(centre_loss(equal, torch.tensor([1, 1, 0, 0]))) == 0.0


def test_the_loss_is_zero_for_filters_of_one_size_and_features_are_what_the_head_sees():
    network = SPACE.build(SPACE.sample(np.random.default_rng(0))).eval()
    pictures = torch.rand(3, 1, 8, 8)
    watched = Watched(network)
    with torch.no_grad():
        assert torch.equal(watched(pictures), network(pictures))
        assert torch.equal(network.head(watched.features), network(pictures))
        for part in network.modules():
            if isinstance(part, XnorLayer):
                part.weight.copy_(0.25 * part.weight.sign())
    assert float(reconstruction_error(network).detach()) == 0.0


def test_child_and_parent_see_the_same_minibatches_and_share_no_weights(monkeypatch):
    seen, built, train, init = {}, [], SharedWeights.train, ChildParentEvaluator.__init__

    def watched(self, paths, steps, **options):
        seen.setdefault(id(self), []).append((tuple(paths), self.step, steps, self.seed, self.config))
        return train(self, paths, steps, **options)

    def kept(self, child, parent, beta):
        built.extend((child, parent))
        init(self, child, parent, beta)

    monkeypatch.setattr(SharedWeights, "train", watched)
    monkeypatch.setattr(ChildParentEvaluator, "__init__", kept)
    found = searched(SPACE, classifier(), CONFIG)
    one, other = seen.values()
    assert one == other
    assert len(one) == len(found.trials) == 2 + 2
    child, parent = (evaluator.shared for evaluator in built)
    assert child.task is parent.task
    assert not {id(p) for p in child.supernet.parameters()} & {id(p) for p in parent.supernet.parameters()}
    layers = [part for part in child.supernet.modules() if isinstance(part, XnorLayer)]
    assert layers
    assert all(layer.input_bits == 1 for layer in layers)
    assert not any(isinstance(part, XnorLayer) for part in parent.supernet.modules())
    for trial in found.trials:
        assert trial["z"] == mixed_score(trial["parent"], trial["child"], CONFIG.beta)
        assert 0.0 <= min(trial["parent"], trial["child"]) <= max(trial["parent"], trial["child"]) <= 1.0


def test_resume_of_cp_nas_ends_in_the_same_history_cells_and_log(tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, space=dataclasses.replace(CELLS, convolution="rbnn"))
    space = CellSpace(config.space, channels=1, size=8, outputs=2)
    found = []
    for name in ("whole", "killed"):
        if name == "killed":
            calls, score = [], ChildParentEvaluator.score

            def stops(self, judge, score=score, calls=calls):
                calls.append(1)
                if len(calls) == 4:
                    raise KeyboardInterrupt
                return score(self, judge)

            with monkeypatch.context() as patch:
                patch.setattr(ChildParentEvaluator, "score", stops)
                with pytest.raises(KeyboardInterrupt):
                    searched(space, classifier(), config, tmp_path / name)
        result = searched(space, classifier(), config, tmp_path / name)
        files = [path for path in sorted((tmp_path / name).rglob("*")) if path.is_file()]
        kept = [path.read_bytes() for path in files if path.name == "history.jsonl" or path.suffix == ".safetensors"]
        assert len(kept) >= 5
        found.append((result.architecture, result.trials, [each.tolist() for each in result.indicators], kept))
    assert found[0] == found[1]
    with pytest.raises(UserError, match="beta"):
        searched(space, classifier(), dataclasses.replace(config, beta=0.5), tmp_path / "whole")


@pytest.mark.parametrize("convolution", ["xnor_one_bit", "rbnn"])
def test_as_a_transform_it_keeps_a_bit_a_weight_and_reloads(tmp_path, convolution):
    cells = dataclasses.replace(CELLS, convolution=convolution, operations=("sep_conv_3x3",))
    config = dataclasses.replace(CONFIG, space=cells)  # one operation: nothing to search
    found = apply(Method("search/cp_nas", config, EVALUATIONS["search/cp_nas"]), classifier(), 0)
    recipe.save_network(tmp_path / "network.safetensors", found.module, found.base, found.recipe)
    module, *_ = recipe.load_network(tmp_path / "network.safetensors")
    pictures = found.task.source("test").tensors["input"]
    with torch.no_grad():
        assert recipe.same_bits(module(pictures), found.module(pictures))
    layers = [part for part in module.modules() if isinstance(part, BinaryLayer)]
    assert layers
    assert all(layer.input_bits == 1 for layer in layers)


def test_wrong_numbers_are_refused():
    for wrong, message in (({"beta": -1.0}, "beta"), ({"tries": 0}, "tries=0"), ({"warm_up": -1}, "warm_up=-1")):
        with pytest.raises(UserError, match=message):
            CPNASConfig(**wrong)
    with pytest.raises(UserError, match=r"cp_nas.kilobytes=0.1: the smallest network of cell needs"):
        searched(SPACE, classifier(), dataclasses.replace(CONFIG, kilobytes=0.1))


def test_rotations_are_renewed_along_the_path_alone():
    space = CellSpace(dataclasses.replace(CELLS, convolution="rbnn", picks=0), channels=1, size=8, outputs=2)
    supernet, path = Supernet(space, seed=0), (0, 1, 0, 1, 0) * 2
    before = {name: value.clone() for name, value in supernet.network.state_dict().items() if "rotation" in name}
    _renew_along(supernet, path)
    after = supernet.network.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    slots = supernet.slots
    for name in before:
        owner, inside, rest = name.partition(".choices.")
        along = not inside or int(rest.partition(".")[0]) == path[slots[owner].place]
        assert (name in changed) <= along, name
    assert any(".choices." in name for name in changed)
    assert any(".choices." not in name for name in changed)
