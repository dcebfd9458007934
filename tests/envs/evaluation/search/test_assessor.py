"""The assessor: its graph by hand, what gets gradients, and that hidden labels never count."""

import json

import numpy as np
import pytest
import torch
from judged import classifier

from envs.evaluation import recipe
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.search.assessor import Assessor, AssessorConfig, AssessorNetwork, propagation
from envs.evaluation.search.assessor_search import AssessorSearch, AssessorSearchConfig
from envs.evaluation.search.evaluators import FunctionEvaluator
from envs.evaluation.search.evolution import EvolutionConfig, RegularizedEvolution
from envs.evaluation.search.predictors import Ridge
from envs.evaluation.search.prefilter import Prefilter, Ranked, RankedConfig
from envs.evaluation.search.random import RandomSearch
from envs.evaluation.search.space import Space
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.spaces.code import EncoderConfig
from envs.evaluation.search.strategy import search
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.optim.choice import OptimizerConfig

SMALL = AssessorConfig(width=4, code=8, hidden=16, steps=20, batch_size=40)


class Wide(Space):
    name, sizes = "wide", (4, 4, 4, 4)

    def cost(self, architecture):
        return {"macs": float(sum(architecture)), "parameters": 1.0}


SPACE = Wide()
RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=(4, 4))


def value(architecture):
    return float(sum(TRUTH[place, choice] for place, choice in enumerate(architecture)))


def sample(count, seed):
    rng = np.random.default_rng(seed)
    return list(dict.fromkeys(SPACE.sample(rng) for _ in range(3 * count)))[:count]


def test_propagation_is_symmetric_and_contracts():
    edges = torch.rand(9, 9)
    edges = (edges + edges.T) * (torch.rand(9, 9) > 0.5)
    edges = torch.maximum(edges, edges.T).fill_diagonal_(0.0)
    found = propagation(edges)
    assert torch.allclose(found, found.T)
    assert torch.linalg.eigvalsh(found).abs().max() <= 1 + 1e-5
    assert torch.equal(propagation(torch.zeros(4, 4)), torch.eye(4))
    by_hand = propagation(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert torch.allclose(by_hand, torch.full((2, 2), 0.5))


def test_similarity_by_hand():
    # A fixed sigma takes directions, here at 0, 90 and 60 degrees, 2 from the middle: chords 2 sqrt(2), 2 and less.
    codes = torch.tensor([[3.0, 0.0], [0.0, 0.1], [0.5, 0.75**0.5]])
    fixed = AssessorNetwork((1, 4, 4), AssessorConfig(sigma=1.0, tau=1e-5))
    with torch.no_grad():
        fixed.log_norm.fill_(np.log(2.0))
    found = fixed.similarity(codes).detach()
    assert found[0, 1] == pytest.approx(np.exp(-(2**0.5)), rel=1e-4)
    assert found[0, 2] == pytest.approx(np.exp(-1.0), rel=1e-4)
    assert found.diagonal().tolist() == [0.0] * 3
    few = AssessorNetwork((1, 4, 4), AssessorConfig(sigma=1.0, tau=0.3))
    few.load_state_dict(fixed.state_dict())
    assert few.similarity(codes)[0, 1] == 0.0
    assert few.similarity(codes)[0, 2] == found[0, 2]
    # By the batch: tau^(d / 2), 2 being the median node's distance to the second of its neighbours.
    line = torch.tensor([[0.0], [1.0], [3.0], [3.5]])
    near = AssessorNetwork((1, 4, 4), AssessorConfig(neighbours=2, tau=0.5)).similarity(line)
    assert near[0, 1] == pytest.approx(0.5**0.5, rel=1e-4)
    assert near[2, 3] == pytest.approx(0.5**0.25, rel=1e-4)
    assert near[0, 2] == near[0, 3] == near[1, 3] == 0.0


def test_median_node_has_as_many_neighbours_as_asked_for():
    network = AssessorNetwork((1, 4, 4), AssessorConfig(neighbours=10, tau=0.1))
    codes = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    degree = (network.similarity(codes) > 0).sum(1).double().median()
    assert 9 <= degree <= 11


def test_the_paper_s_sigma_leaves_an_empty_graph_for_codes_of_norm_1():
    network = AssessorNetwork((1, 4, 4), AssessorConfig(sigma=0.01, tau=1e-5))
    codes = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    assert network.log_norm == 0.0
    assert network.similarity(codes).abs().sum() == 0.0


@pytest.mark.parametrize("tau", [1e-5, 0.1])
def test_with_the_paper_s_sigma_half_of_the_pairs_are_edges_at_first(tau):
    network = AssessorNetwork((1, 4, 4), AssessorConfig(sigma=0.01, tau=tau))
    matrices = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    network.begin_norm(matrices)
    _, codes, edges = network(matrices)
    assert float((edges > 0).double().mean()) == pytest.approx(0.5 * 29 / 30, abs=0.01)
    assert torch.equal(codes, network.encoder(matrices))  # as long as they are


@pytest.mark.parametrize("tau", [1e-5, 0.1])
def test_with_the_paper_s_sigma_it_learns(tau):
    tried, others, asked = sample(60, 1), sample(120, 2), sample(100, 3)
    config = AssessorConfig(width=8, code=16, hidden=32, steps=200, batch_size=120, sigma=0.01, tau=tau)
    assessor = Assessor(SPACE, config, seed=0)
    scores = np.array([value(one) for one in tried])
    assessor.fit(tried, scores, others)
    found = assessor.assess(asked)
    assert np.corrcoef(found.mean, [value(one) for one in asked])[0, 1] > 0.95
    assert 0 < found.degree < 100
    label = torch.from_numpy(assessor.output.apply(scores)).float()
    with torch.no_grad():
        losses = assessor.losses(assessor._matrices([*tried, *others]), label, torch.ones(60))
    assert losses["regression"] < 0.1
    assert losses["reconstruction"] < 0.5


def test_with_reconstruction_alone_the_regression_learns_nothing():
    assessor = Assessor(SPACE, AssessorConfig(width=4, code=8, hidden=16, reconstruction=1.0), seed=0)
    assessor.network = assessor._fresh()
    matrices = torch.from_numpy(np.stack([SPACE.matrix(one) for one in sample(12, 0)])).float()
    assessor.losses(matrices, torch.randn(4), torch.ones(4))["loss"].backward()
    for layer in (assessor.network.first, assessor.network.second):
        assert layer.weight.grad is None or not layer.weight.grad.any()
    assert assessor.network.encoder[0].weight.grad.any()


def test_without_edges_it_is_a_perceptron_on_codes():
    with_graph = AssessorNetwork((1, 4, 4), AssessorConfig(width=4, code=8, hidden=16, sigma=1e-4, tau=0.9))
    alone = AssessorNetwork((1, 4, 4), AssessorConfig(width=4, code=8, hidden=16, sigma=1e-4, graph=False))
    alone.load_state_dict(with_graph.state_dict())
    matrices = torch.rand(6, 1, 4, 4)
    codes = alone.encoder(matrices)
    by_hand = alone.second(torch.relu(alone.first(codes))).squeeze(1)
    assert torch.equal(alone(matrices)[0], by_hand)
    far = with_graph(matrices * torch.tensor([1.0, -1, 2, -2, 3, -3]).view(6, 1, 1, 1))
    assert far[2].sum() == 0.0


def test_gradients_flow_through_similarities():
    network = AssessorNetwork((1, 4, 4), AssessorConfig(neighbours=3, tau=0.1))
    codes = torch.randn(10, 5, requires_grad=True)
    network.similarity(codes).sum().backward()
    assert codes.grad.abs().sum() > 0


def test_it_learns_and_tells_how_sure_it_is():
    tried, others, asked = sample(60, 1), sample(120, 2), sample(100, 3)
    assessor = Assessor(SPACE, AssessorConfig(width=8, code=16, hidden=32, steps=80, batch_size=120), seed=0)
    assessor.fit(tried, np.array([value(one) for one in tried]), others)
    found = assessor.assess(asked)
    assert np.corrcoef(found.mean, [value(one) for one in asked])[0, 1] > 0.8
    assert found.deviation.shape == (100,)
    assert 1 < found.degree < 119
    assert found.spread > 0.1


def test_hidden_labels_change_nothing_and_seeds_give_the_same():
    """Labels of architectures given as others are nowhere: what is told depends on tried ones and on matrices alone."""
    tried, others = sample(20, 1), sample(40, 2)
    scores = np.array([value(one) for one in tried])
    hidden = {one: value(one) for one in others}
    found = []
    for _ in range(2):
        assessor = Assessor(SPACE, SMALL, seed=4)
        assessor.fit(tried, scores, others)
        found.append(assessor.predict(others))
        values = list(hidden.values())
        hidden = dict(zip(hidden, RNG.permutation(values), strict=True))
    assert np.array_equal(*found)
    assessor = Assessor(SPACE, SMALL, seed=4)
    assessor.fit(tried, scores)
    assert not np.array_equal(found[0], assessor.predict(others))  # others without labels count


def test_weights_of_labels_and_files(tmp_path):
    tried = sample(20, 1)
    scores = np.array([value(one) for one in tried])
    assessor, other = Assessor(SPACE, SMALL, seed=4), Assessor(SPACE, SMALL, seed=4)
    assessor.fit(tried, scores, weights=np.ones(20))
    other.fit(tried, scores, weights=np.array([5.0] + [1.0] * 19))
    asked = sample(30, 5)
    assert not np.array_equal(assessor.predict(asked), other.predict(asked))
    assessor.save(tmp_path / "assessor.safetensors")
    again = Assessor(SPACE, SMALL, seed=4)
    again.load(tmp_path / "assessor.safetensors")
    assert np.allclose(again.predict(asked), assessor.predict(asked), atol=1e-12)
    other = Assessor(SPACE, SMALL, seed=5)
    other.load(tmp_path / "assessor.safetensors")  # the seed is that of what was saved
    assert np.array_equal(other.predict(asked), again.predict(asked))
    with pytest.raises(UserError, match="another space"):
        Assessor(SPACE, AssessorConfig(), seed=4).load(tmp_path / "assessor.safetensors")


def test_an_assessor_of_other_operations_is_refused(tmp_path):
    def cells(*operations):
        config = CellSpaceConfig(operations=operations, nodes=2, width=4, layout=("normal", "reduction"))
        return CellSpace(config, channels=1, size=8, outputs=2)

    space, rng = cells("max_pool_3x3", "skip_connect"), np.random.default_rng(0)
    assessor = Assessor(space, SMALL, seed=0)
    assessor.fit([space.sample(rng) for _ in range(5)], np.arange(5.0))
    assessor.save(tmp_path / "assessor.safetensors")
    Assessor(cells("max_pool_3x3", "skip_connect"), SMALL, seed=0).load(tmp_path / "assessor.safetensors")
    with pytest.raises(UserError, match="another space"):
        Assessor(cells("sep_conv_3x3", "conv_1x1"), SMALL, seed=0).load(tmp_path / "assessor.safetensors")


def test_labels_without_scores_are_refused():
    tried = sample(20, 1)
    scores = np.array([value(one) for one in tried])
    assessor = Assessor(SPACE, SMALL, seed=4)
    with pytest.raises(UserError, match="try 2 or more"):
        assessor.fit(tried[:1], scores[:1])


def test_ranked_search_beats_random_and_resumes(tmp_path):
    best = max(
        value(one) for one in ((a, b, c, d) for a in range(4) for b in range(4) for c in range(4) for d in range(4))
    )

    def ranked(seed):
        config = RankedConfig(labels=20, others=20, candidates=100, picks=5)
        return Ranked(SPACE, lambda number: Ridge(SPACE), config, seed=seed)

    found = [value(search(SPACE, ranked(seed), FunctionEvaluator(value), budget=40).best) for seed in range(3)]
    plain = [
        value(search(SPACE, RandomSearch(SPACE, seed=seed), FunctionEvaluator(value), budget=40).best)
        for seed in range(3)
    ]
    assert np.mean(found) > np.mean(plain)
    assert max(found) == pytest.approx(best)
    search(SPACE, ranked(0), FunctionEvaluator(value), budget=30, folder=tmp_path / "a")
    calls = []

    def stops(architecture):
        calls.append(architecture)
        if len(calls) == 23:
            raise KeyboardInterrupt
        return value(architecture)

    with pytest.raises(KeyboardInterrupt):
        search(SPACE, ranked(0), FunctionEvaluator(stops), budget=30, folder=tmp_path / "b")
    search(SPACE, ranked(0), FunctionEvaluator(value), budget=30, folder=tmp_path / "b")
    assert (tmp_path / "a/history.jsonl").read_bytes() == (tmp_path / "b/history.jsonl").read_bytes()


def test_prefilter_tries_fewer_and_tells_predictions_for_the_rest():
    def inner():
        return RegularizedEvolution(SPACE, EvolutionConfig(population=10, sample=3), seed=0)

    strategy = Prefilter(SPACE, inner(), lambda number: Ridge(SPACE), keep=0.2, warm_up=15, every=5, seed=0)
    told = []
    tell = strategy.inner.tell
    strategy.inner.tell = lambda scores: (told.append(list(scores)), tell(scores))
    outcome = search(SPACE, strategy, FunctionEvaluator(value), budget=40)
    assert outcome.queries == 40
    assert len(told) > 45  # some were told a prediction
    late = [score for _, score in outcome.judged[20:]]
    early = [score for _, score in outcome.judged[:15]]
    assert np.mean(late) > np.mean(early) + 0.5


def test_as_a_transform_it_finds_and_reloads(tmp_path):
    quick = TeachConfig(fit=FitConfig(steps=10, batch_size=32, optimizer=OptimizerConfig(learning_rate=3e-3)))
    config = AssessorSearchConfig(
        macs=60_000,
        trials=6,
        ranked=RankedConfig(labels=4, others=10, candidates=10, picks=2),
        assessor=SMALL,
        candidate=quick,
        encoder=EncoderConfig(stages=2, blocks=2, largest=16),
        teach=quick,
    )
    method = Method("search/assessor", config, EVALUATIONS["search/assessor"])
    assert method.kind is AssessorSearch
    found = apply(method, classifier(), 0)
    json.dumps(found.recipe[0].plan)
    recipe.save_network(tmp_path / "network.safetensors", found.module, found.base, found.recipe)
    module, *_ = recipe.load_network(tmp_path / "network.safetensors")
    pictures = found.task.source("test").tensors["input"]
    with torch.no_grad():
        assert recipe.same_bits(module(pictures), found.module(pictures))
    with pytest.raises(UserError, match=r"assessor.macs=10: the smallest network of encoder needs"):
        apply(Method("search/assessor", AssessorSearchConfig(macs=10), EVALUATIONS["search/assessor"]), classifier(), 0)
