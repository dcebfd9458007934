"""CARS: its rounds, children, selections by hand, reports, and a search that goes on to the same bits."""

import dataclasses

import numpy as np
import pytest
import torch
from judged import classifier
from torch import get_num_threads as threads

from envs.evaluation import recipe
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.search import cars, shared_weights
from envs.evaluation.search import latency_table as latency_table_module
from envs.evaluation.search.cars import (
    CARS,
    CARSConfig,
    CARSSearch,
    EvolutionConfig,
    Member,
    prepared,
    reference_spread,
    select,
    spread_out,
)
from envs.evaluation.search.evaluators import FunctionEvaluator
from envs.evaluation.search.latency_table import latency_table
from envs.evaluation.search.shared_weights import SharedConfig, _Along
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.strategy import search
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import Method
from rlsuite.optim.choice import OptimizerConfig

CELLS = CellSpaceConfig(
    operations=("max_pool_3x3", "skip_connect", "sep_conv_3x3"), nodes=2, width=4, layout=("normal", "reduction")
)
SPACE = CellSpace(CELLS, channels=1, size=8, outputs=2)
TEACH = TeachConfig(fit=FitConfig(steps=20, batch_size=32, optimizer=OptimizerConfig(learning_rate=3e-3)))
CONFIG = CARSConfig(
    space=CELLS,
    evolution=EvolutionConfig(population=4, warm_up=1, generations=2),
    shared=SharedConfig(batch_size=32),
    epochs=1,
    statistics=1,
    teach=TEACH,
)


def parameters(architecture):
    return SPACE.cost(architecture)["parameters"]


def small_is_good(architecture):
    """A score that falls with size: what drives large networks out."""
    return -parameters(architecture)


def strategy(seed=0, **changes):
    config = EvolutionConfig(**{"population": 8, "warm_up": 2, "generations": 6, **changes})
    return CARS(SPACE, [parameters], config, paths=5, seed=seed)


def run(one):
    return search(SPACE, one, FunctionEvaluator(small_is_good), budget=10_000)


def test_rounds_train_first_and_then_judge_parents_and_children():
    one = strategy()
    warm = [one.ask() for _ in range(2)]
    assert all(len(proposal.train) == 5 and not proposal.judge for proposal in warm)
    assert len({path for proposal in warm for path in proposal.train}) > 5  # each minibatch has its own
    for generation in range(6):
        before = list(one.population)
        proposal = one.ask()
        assert len(proposal.judge) == len(set(proposal.judge)) == 16
        if generation:
            assert list(proposal.train) == before == list(proposal.judge[:8])
        for architecture in proposal.judge:
            assert SPACE.check(architecture) == architecture
        one.tell([small_is_good(architecture) for architecture in proposal.judge])
        assert len(one.members) == len(set(one.population)) == 8
    assert one.ask() == ((), ())
    assert len(one.sizes) == 6


def test_children_are_of_three_kinds():
    one = strategy()
    one.population = [SPACE.sample(one.rng) for _ in range(8)]
    blocks = list(SPACE.blocks())

    def nodes_of(child, parents):
        return sum(any(all(child[p] == parent[p] for p in places) for parent in parents) for places in blocks)

    crossed = dataclasses.replace(one.config, mutation=0.0, crossover=1.0)
    one.config = crossed
    for _ in range(30):
        assert nodes_of(one._child(), one.population) == len(blocks)  # each node is a member's
    one.config = dataclasses.replace(one.config, mutation=0.0, crossover=0.0)
    fresh = [nodes_of(one._child(), one.population[:1]) for _ in range(60)]
    assert np.mean(fresh) < 0.5 * len(blocks)
    one.config = dataclasses.replace(one.config, mutation=1.0, crossover=0.0)
    mutants = [nodes_of(one._child(), one.population) for _ in range(60)]
    assert np.mean(fresh) < np.mean(mutants) < len(blocks)


def test_the_trap_and_the_way_out():
    """Where small networks score best, one sorting keeps small ones alone, CARS's two keep the largest, too."""
    kept = {}
    for selection in ("pnsga3", "nsga3"):
        found = []
        for seed in range(3):
            one = strategy(seed, selection=selection)
            run(one)
            found.append(one.sizes[-1][2])
        kept[selection] = np.mean(found)
    assert kept["pnsga3"] > 1.3 * kept["nsga3"]


def test_selection_by_hand():
    rng = np.random.default_rng(0)
    scores, costs = np.array([3.0, 2.0, 1.0, 0.5, -np.inf]), np.array([[2.0], [1.0], [4.0], [3.0], [5.0]])
    none = np.zeros(5)
    config = EvolutionConfig(population=3)
    # First fronts: {0, 1} by small sizes, {0, 2, 4} by large ones; the union has four, of which three are drawn.
    assert set(select(scores, costs, none, config, rng)) < {0, 1, 2, 4}
    four = dataclasses.replace(config, population=4)
    assert set(select(scores, costs, none, four, rng)) == {0, 1, 2, 4}
    by_speed = dataclasses.replace(config, second_sort="speed")
    speeds = np.array([0.0, 0.0, 9.0, 0.0, 0.0])
    assert set(select(scores, costs, speeds, by_speed, rng)) == {0, 1, 2}  # 2 grows fastest
    plain = dataclasses.replace(config, population=2, selection="nsga3")
    assert set(select(scores, costs, none, plain, rng)) == {0, 1}
    two = np.concatenate([costs, costs[::-1]], axis=1)
    assert len(select(scores, two, none, four, rng)) == 4


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("second_sort", ["speed", "inverse_size"])
def test_members_that_fail_have_no_speed(monkeypatch, second_sort):
    one = strategy(second_sort=second_sort, warm_up=0)
    seen = []

    def watched(scores, costs, speeds, config, rng):
        seen.append(speeds.tolist())
        return select(scores, costs, speeds, config, rng)

    monkeypatch.setattr(cars, "select", watched)
    one.ask()
    one.tell([-np.inf] * 4 + [1.0] * 4 + [-np.inf] * 8)  # newcomers
    one._waiting = [*one.population[:2], SPACE.sample(one.rng)]
    one.earlier = {one._waiting[0]: -np.inf, one._waiting[1]: 2.0}
    one.tell([-np.inf, 5.0, 1.0])  # failed again, grown, a newcomer
    one._waiting = one.population[:2]
    one.earlier = dict(zip(one._waiting, (-np.inf, 2.0), strict=True))
    one.tell([3.0, -np.inf])  # recovered, and failed for the first time
    assert seen == [[0.0] * 16, [0.0, 3.0, 0.0], [0.0, 0.0]]


def members(*pairs):
    return [Member((place,), score, (cost,)) for place, (score, cost) in enumerate(pairs)]


def test_reports_by_hand():
    found = members((90.0, 10.0), (80.0, 2.0), (95.0, 12.0), (85.0, 42.0), (40.0, 1.0), (88.0, 22.0), (70.0, 41.0))
    # Scores above 67.5; sizes from 2 to 42 in ranges that begin at 2, 12, 22, 32.
    assert [member.architecture for member in spread_out(found)] == [(0,), (2,), (5,), (3,)]
    chosen = reference_spread(found, np.random.default_rng(0))
    assert len(chosen) == 4
    assert all(not (o.score > m.score and o.costs < m.costs) for m in chosen for o in found)
    same = members((50.0, 3.0), (60.0, 3.0))
    assert [member.architecture for member in spread_out(same)] == [(1,)]


@pytest.mark.filterwarnings("error")
def test_failed_members_are_not_reported():
    bad = members((-np.inf, 1.0), (50.0, 3.0), (60.0, 4.0), (np.nan, 2.0))
    assert [member.architecture for member in spread_out(bad)] == [(2,)]
    rng = np.random.default_rng(0)
    assert [member.architecture for member in reference_spread(bad, rng)] == [(1,), (2,)]
    assert spread_out(bad[:1]) == reference_spread(bad[:1], rng) == []


def test_a_strategy_without_costs_is_refused_and_small_spaces_end():
    with pytest.raises(UserError, match="costs="):
        CARS(SPACE, [], paths=1, seed=0)
    tiny = CellSpace(
        CellSpaceConfig(operations=("skip_connect", "conv_1x1"), nodes=1, layout=("a",), reductions=(), width=2),
        channels=1,
        size=4,
        outputs=2,
    )
    one = CARS(tiny, [lambda each: 1.0], EvolutionConfig(population=4, warm_up=0, generations=2), paths=1, seed=0)
    outcome = search(tiny, one, FunctionEvaluator(lambda each: 0.0), budget=100)
    assert len(one.members) == 4
    assert outcome.queries == 4  # all there are


def test_resume_ends_in_the_same_history_population_and_weights(tmp_path):
    found = []
    for name in ("whole", "killed"):
        if name == "killed":
            evaluator, one = prepared(SPACE, classifier(), CONFIG)
            score, calls = evaluator.score, []

            def stops(judge, score=score, calls=calls):
                calls.append(judge)
                if len(calls) == 3:  # the warm-up, a generation, and in the second one
                    raise KeyboardInterrupt
                return score(judge)

            evaluator.score = stops
            with pytest.raises(KeyboardInterrupt):
                search(SPACE, one, evaluator, budget=100, folder=tmp_path / name)
        evaluator, one = prepared(SPACE, classifier(), CONFIG)
        search(SPACE, one, evaluator, budget=100, folder=tmp_path / name)
        found.append(((tmp_path / name / "history.jsonl").read_bytes(), one.members, evaluator.shared))
    (history, kept, shared), (history2, kept2, shared2) = found
    assert history == history2
    assert kept == kept2
    weights = shared2.supernet.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in shared.supernet.state_dict().items())
    other = dataclasses.replace(CONFIG, evolution=dataclasses.replace(CONFIG.evolution, population=5))
    evaluator, one = prepared(SPACE, classifier(), other)
    with pytest.raises(UserError, match="asks for others now"):
        search(SPACE, one, evaluator, budget=100, folder=tmp_path / "whole")


def test_milliseconds_are_measured_once_and_kept(tmp_path):
    first = latency_table(SPACE, tmp_path)
    rng = np.random.default_rng(0)
    architectures = [SPACE.sample(rng) for _ in range(4)]
    again = latency_table(SPACE, tmp_path)
    assert [first(one) for one in architectures] == [again(one) for one in architectures]
    assert min(map(first, architectures)) > 0
    conv = tuple(3 if choice else 0 for choice in architectures[0])
    pools = tuple(1 if choice else 0 for choice in architectures[0])
    assert first(conv) > first(pools)
    other = CellSpace(dataclasses.replace(CELLS, nodes=3), channels=1, size=8, outputs=2)
    with pytest.raises(UserError, match="another space"):
        latency_table(other, tmp_path)


def test_milliseconds_are_of_one_thread(monkeypatch):
    seen = []
    monkeypatch.setattr(latency_table_module, "median_milliseconds", lambda *_, **__: seen.append(threads()) or 1.0)
    before = threads()
    torch.set_num_threads(3)
    try:
        latency_table(SPACE)
        assert threads() == 3
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_each_minibatch_of_the_warm_up_has_an_architecture_of_its_own(monkeypatch):
    config = dataclasses.replace(CONFIG, shared=SharedConfig(batch_size=32, paths=2))
    evaluator, one = prepared(SPACE, classifier(), config)
    walked = []
    monkeypatch.setattr(shared_weights, "_Along", lambda supernet, path: walked.append(path) or _Along(supernet, path))
    proposal = one.ask()
    evaluator.prepare(proposal.train)
    assert len(proposal.train) == 2 * evaluator.steps
    assert tuple(walked) == proposal.train
    walked.clear()
    evaluator.prepare(one.ask().train)  # a generation: each minibatch draws its own of the population
    assert set(walked) <= set(one.population)
    assert len(walked) == 2 * evaluator.steps


def test_where_no_member_is_within_the_budget_the_smallest_network_is_taken(monkeypatch):
    smallest = SPACE.smallest()
    budget = SPACE.cost(smallest)["macs"]
    one = CARSSearch(config=dataclasses.replace(CONFIG, macs=budget))
    large = Member(tuple(3 if choice else 0 for choice in smallest), 90.0, (1.0,))
    monkeypatch.setattr(cars, "search", lambda space, strategy, *_, **__: strategy.members.append(large))
    assert one.find(classifier(), SPACE) == smallest


def test_as_a_transform_it_keeps_the_budget_and_reloads(tmp_path):
    budget = SPACE.cost(SPACE.smallest())["macs"] * 1.4
    config = dataclasses.replace(CONFIG, macs=budget)
    method = Method("search/cars", config, EVALUATIONS["search/cars"])
    assert method.kind is CARSSearch
    found = apply(method, classifier(), 0)
    assert SPACE.cost(tuple(found.recipe[0].plan["architecture"]))["macs"] <= budget
    recipe.save_network(tmp_path / "network.safetensors", found.module, found.base, found.recipe)
    module, *_ = recipe.load_network(tmp_path / "network.safetensors")
    pictures = found.task.source("test").tensors["input"]
    with torch.no_grad():
        assert recipe.same_bits(module(pictures), found.module(pictures))
    with pytest.raises(UserError, match=r"cars.macs=5: the smallest network of cell needs"):
        apply(Method("search/cars", CARSConfig(macs=5), EVALUATIONS["search/cars"]), classifier(), 0)
