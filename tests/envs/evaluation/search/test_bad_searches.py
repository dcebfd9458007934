"""What searches are given and cannot use: one line that names the fix; a candidate that fails does not end a search."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from judged import classifier, stripes
from killed_search import CONFIGS, SGD, SHARED, cells, subject_of

from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.search.assessor import Assessor, AssessorConfig
from envs.evaluation.search.atomnas import AtomNASConfig
from envs.evaluation.search.autonl import AutoNLConfig
from envs.evaluation.search.door import network_of, network_task
from envs.evaluation.search.evaluators import SharedEvaluator, TableEvaluator, halves
from envs.evaluation.search.evolution import RegularizedEvolution
from envs.evaluation.search.ncp import CodePredictor, PredictorConfig
from envs.evaluation.search.random import RandomSearch
from envs.evaluation.search.shared_weights import SharedWeights
from envs.evaluation.search.shrinking import ShrinkConfig
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.spaces.code import EncoderConfig, EncoderSpace
from envs.evaluation.search.spaces.nas_bench_201 import NasBench201Space
from envs.evaluation.search.strategy import Proposal, search
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.tasks import ClassifierTask
from envs.evaluation.transform import apply
from rlsuite.errors import UserError
from rlsuite.methods import Method
from rlsuite.nn.action_range import ActionRange
from rlsuite.nn.picture_policy import PicturePolicy

BUDGETS = {
    "search/cars": {"macs": 5.0},
    "search/bnas": {"kilobytes": 0.1},
    "search/cp_nas": {"kilobytes": 0.1},
    "search/ncp": {"macs": 5.0},
    "search/assessor": {"macs": 5.0},
    "search/autospace": {"macs": 5.0},
    "search/autonl": {"macs": 5.0},
    "search/atomnas": {"macs": 5.0},
}
SPACE = CellSpace(cells("max_pool_3x3", "sep_conv_3x3"), channels=1, size=8, outputs=2)


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_that_nothing_satisfies(name):
    config = dataclasses.replace(CONFIGS[name], **BUDGETS[name])
    key, value = next(iter(BUDGETS[name].items()))
    line = rf"^{name.removeprefix('search/')}\.{key}={value:g}: the smallest network of \w+ needs [\d.]+$"
    with pytest.raises(UserError, match=line):
        apply(Method(name, config, EVALUATIONS[name]), classifier(), 0)


def test_a_price_of_nothing_meets_no_budget():
    """It cannot be raised by a factor: each of the trainings would be the same."""
    for config, change, line in (
        (AutoNLConfig, {"weight": 0.0}, "weight=0: a budget is met .* begin above 0"),
        (AtomNASConfig, {"shrink": ShrinkConfig(rho=0.0)}, r"shrink\.rho=0: a budget is met .* begin above 0"),
    ):
        config(**change)
        with pytest.raises(UserError, match=line):
            config(macs=1e6, **change)


def test_a_space_that_is_disconnected_everywhere():
    config = CellSpaceConfig(
        operations=("none", "skip_connect"), picks=1, inputs=1, nodes=1, layout=("a",), reductions=()
    )
    space = CellSpace(config, channels=1, size=8, outputs=2)
    space.valid = lambda architecture: False
    with pytest.raises(UserError, match="no cell of this space lets anything pass; name more operations"):
        space.sample(np.random.default_rng(0))


@pytest.mark.parametrize("name", ["search/bnas", "search/abandit_nas", "search/cp_nas"])
def test_one_operation_leaves_nothing_to_search(name):
    config = CONFIGS[name]
    operation = "conv_3x3" if name == "search/abandit_nas" else "sep_conv_3x3"
    config = dataclasses.replace(config, space=dataclasses.replace(config.space, operations=(operation,)))
    found = apply(Method(name, config, EVALUATIONS[name]), classifier(), 0)
    assert set(found.recipe[0].plan["architecture"]) <= {0, 1}


def test_one_label_is_too_few():
    space = EncoderSpace(EncoderConfig(stages=2, blocks=2, largest=16), channels=1, size=8, outputs=2)
    one, score = [(0, 0, 0, 0)], np.array([1.0])
    for predictor in (
        Assessor(space, AssessorConfig(steps=2, batch_size=4), seed=0),
        CodePredictor(space, PredictorConfig(epochs=1), seed=0),
    ):
        with pytest.raises(UserError, match="try 2 or more"):
            predictor.fit(one, score)


@pytest.mark.parametrize("name", ["search/cars", "search/ncp", "search/autospace"])
def test_examples_of_one_class_tell_nothing(name):
    data = stripes(64, 0)
    data.tensors["label"].zero_()
    subject = dataclasses.replace(classifier(), task=ClassifierTask(data, data, num_classes=2))
    with pytest.raises(UserError, match="are all of one class; give more"):
        apply(Method(name, CONFIGS[name], EVALUATIONS[name]), subject, 0)


class Pairs:
    """Trains and judges two fixed architectures for three rounds."""

    def __init__(self):
        self.told = []
        rng = np.random.default_rng(0)
        self.pair = (SPACE.sample(rng), SPACE.sample(rng))

    def ask(self):
        return Proposal(train=self.pair, judge=self.pair) if len(self.told) < 3 else Proposal()

    def tell(self, scores):
        self.told.append(scores)


def test_shared_weights_that_diverge_are_the_worst_and_the_search_goes_on():
    task = halves(classifier().task, 0)
    wild = dataclasses.replace(SHARED, clip_norm=0.0, optimizer=dataclasses.replace(SGD, learning_rate=1e30))
    shared = SharedWeights(Supernet(SPACE, seed=0, affine=False), task, wild, seed=0)
    strategy = Pairs()
    outcome = search(SPACE, strategy, SharedEvaluator(shared, steps=3, statistics=1), budget=100)
    assert len(strategy.told) == 3
    assert all(score == -math.inf for _, score in outcome.judged)


def test_another_table_is_refused(tmp_path):
    space, column = NasBench201Space(), np.linspace(10.0, 90.0, 15625)
    begin = {"budget": 5, "folder": tmp_path, "description": {"seed": 0}}
    search(space, RandomSearch(space, seed=0), TableEvaluator(column), **begin)
    search(space, RandomSearch(space, seed=0), TableEvaluator(column.copy()), **begin)
    with pytest.raises(UserError, match=r"another search \(table differ"):
        search(space, RandomSearch(space, seed=0), TableEvaluator(column[::-1].copy()), **begin)
    with pytest.raises(UserError, match="asks for others now"):
        search(space, RegularizedEvolution(space, seed=9), TableEvaluator(column), **begin)


def test_another_space_of_as_many_choices_is_refused(tmp_path):
    other = CellSpace(cells("max_pool_3x3", "sep_conv_3x3", width=8), channels=1, size=8, outputs=2)
    assert other.sizes == SPACE.sizes
    search(SPACE, RandomSearch(SPACE, seed=0), TableLike(), budget=3, folder=tmp_path)
    with pytest.raises(UserError, match=r"another search \(numbers differ"):
        search(other, RandomSearch(other, seed=0), TableLike(), budget=3, folder=tmp_path)


class TableLike:
    def prepare(self, train):
        pass

    def score(self, judge):
        return [float(sum(one)) for one in judge]

    def save(self, folder):
        pass

    def load(self, folder):
        pass


def test_policies_over_pictures_keep_their_bounds():
    """A search sees the policy's task through its bounds, and its network goes in between them."""
    subject = subject_of("search/cars")
    low, high = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 1.0])
    policy = PicturePolicy(subject.module, ActionRange(low, high)).eval()

    class Imitation:
        interactive, unit, box, floor = False, "return", (0.0, 1.0), 0.0
        data = stripes(96, 0)

        def source(self, split):
            return self.data

        def visited(self, module, seed):
            raise TypeError

        def loss(self, module, batch):
            actions = module(batch["input"])
            assert (actions >= low).all()
            assert (actions <= high).all()
            return (actions - batch["label"][:, None].float()).square().mean(1)

        def score(self, module, seed):
            with torch.no_grad():
                return -self.loss(module, self.data.tensors).numpy()

    subject = dataclasses.replace(subject, module=policy, task=Imitation())
    assert network_task(subject).loss(subject.module.network, Imitation.data.tensors).shape == (96,)
    for name in ("search/cars", "search/ncp"):
        found = apply(Method(name, CONFIGS[name], EVALUATIONS[name]), subject, 0)
        assert isinstance(found.module, PicturePolicy)
        assert network_of(found.module) is found.module.network
        assert np.isfinite(found.task.score(found.module, 0)).all()
        assert "searched" in found.traits
