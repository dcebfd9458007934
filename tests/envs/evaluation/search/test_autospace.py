"""AutoSpace: cells as rows, costs by rule, populations, the supernet's layer, resumption, and the search."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from judged import classifier

from envs.evaluation import recipe
from envs.evaluation.catalogue import EVALUATIONS
from envs.evaluation.probes import count_macs, count_parameters
from envs.evaluation.search.autospace import AutoSpaceConfig, best_within
from envs.evaluation.search.cell_evolution import CELLS, Evolution, EvolveConfig, EvolvingBlock, Population
from envs.evaluation.search.evaluators import halves
from envs.evaluation.search.spaces.chain import BlockPlan, ChainConfig, InvertedResidual, block_cost
from envs.evaluation.search.spaces.graph_cell import (
    REFERENCE,
    Graph,
    GraphCell,
    ListedChainConfig,
    ListedChainSpace,
    all_parts,
    graph_cost,
    graph_of,
    parts,
)
from envs.evaluation.search.supernet import Supernet
from envs.evaluation.transform import TeachConfig, apply
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig
from rlsuite.methods import Method

PLANS = [BlockPlan(4, 4, 1, (6, 5)), BlockPlan(4, 6, 2, (7, 8)), BlockPlan(3, 4, 2, (5, 1))]
CHAIN = ChainConfig(widths=(4, 6), strides=(1, 2), stem=4)
ENDS = {"channels": 1, "size": 8, "outputs": 2}
EVOLVE = EvolveConfig(population=6, drawn=2, rounds=3, steps=4, alone=4, contest=3, uniform=1, batch_size=32)


def graphs(count, seed=0):
    rng = np.random.default_rng(seed)
    return [CELLS.graph(CELLS.sample(rng)) for _ in range(count)]


def listed(count=3, size=8):
    found = graphs(2 * count)
    cells = tuple(tuple(g.row() for g in part) for part in (found[:count], found[count:]))
    return ListedChainSpace(ListedChainConfig(chain=CHAIN, cells=cells), **{**ENDS, "size": size})


@pytest.mark.parametrize("plan", PLANS)
def test_random_cells_have_their_shapes_and_macs(plan):
    pictures = torch.rand(2, plan.inputs, *plan.size)
    for graph in [*graphs(33), REFERENCE]:
        cell = GraphCell(graph, plan).eval()
        output = cell(pictures)
        assert output.shape == (2, plan.outputs, -(-plan.size[0] // plan.stride), -(-plan.size[1] // plan.stride))
        assert graph_cost(graph, plan).macs == count_macs(cell, pictures[:1])
        assert graph_cost(graph, plan).parameters == count_parameters(cell)
        assert parts(graph, plan).items() <= all_parts(plan).items()


def test_every_part_learns():
    """No part of any cell is left out of what it computes."""
    for graph in graphs(25, 1):
        cell = GraphCell(graph, PLANS[0])
        with torch.no_grad():
            for name, weight in cell.named_parameters():
                if "gate" in name:
                    weight.fill_(0.7)
        (cell(torch.randn(4, 4, 6, 5)) * torch.randn(4, 4, 6, 5)).sum().backward()
        assert all(weight.grad is not None for weight in cell.parameters())


def test_the_reference_is_an_inverted_residual():
    plan = PLANS[1]
    cell, block = GraphCell(REFERENCE, plan), InvertedResidual(plan, {3: 24})
    names = ("widen.3.0", "widen.3.1", "filter.3.0", "filter.3.1", "narrow.3", "normalization")
    own = ("widen_6.0", "widen_6.1", "edge_6_2_01_5.0", "edge_6_2_01_5.1", "narrow_6_2_2.0", "narrow_6_2_2.1")
    for theirs, mine in zip(names, own, strict=True):
        cell.bank.get_submodule(mine).load_state_dict(block.get_submodule(theirs).state_dict())
    pictures = torch.rand(3, 4, 7, 8)
    torch.testing.assert_close(cell(pictures), block(pictures))
    assert graph_cost(REFERENCE, plan) == block_cost(plan, {3: 24})


def test_rows_matrices_and_mutants():
    rng = np.random.default_rng(0)
    graph = Graph((5, 1, 2, 1, 3, 2), 1, (0, 1), 3)
    assert graph.matrix() == [[0, 0, 0, 1], [5, 0, 0, 1], [1, 2, 0, 0], [1, 3, 2, 0]]
    for one in [graph, *graphs(30)]:
        assert graph_of(one.row()) == one
        assert CELLS.graph(CELLS.architecture(one)) == one
        mutant = CELLS.graph(CELLS.mutate(CELLS.architecture(one), rng))
        assert sum(a != b for a, b in zip(one.row(), mutant.row(), strict=True)) == 1
    alike = graph._replace(modes=(1, 1))  # one edge alone enters node 2
    assert CELLS.canonical(CELLS.architecture(graph)) == CELLS.canonical(CELLS.architecture(alike))
    for row in ([1] * 10, [5, 1, 2, 1, 1, 1, 2, 0, 0, 6], [1, 3, 2, 1, 1, 2, 2, 0, 0, 6], [5], [4, *graph.row()[1:]]):
        with pytest.raises(UserError, match="is no cell"):
            graph_of(row)


def test_products_begin_as_their_first_factor():
    product = Graph((5, 3, 3, 1, 1, 2), 2, (1, 0), 3)
    cell, plan = GraphCell(product, PLANS[0]), PLANS[0]
    first = GraphCell(product._replace(modes=(0, 0)), plan)
    gate = cell.bank["gate_3_2_12"]
    pictures = torch.rand(2, 4, 6, 5)
    before = cell(pictures)
    torch.nn.init.constant_(cell.bank["edge_3_2_12_3"][0].weight, 5.0)  # what enters as the second factor
    assert torch.equal(cell(pictures), before)
    torch.nn.init.ones_(gate.weight)
    assert not torch.equal(cell(pictures), before)
    assert not any("gate" in name for name in first.bank)


def test_macs_and_extract_of_listed_chains():
    for size in (8, (9, 7)):
        space, rng = listed(size=size), np.random.default_rng(0)
        supernet = Supernet(space, seed=0).eval()
        for _ in range(6):
            architecture, pictures = space.sample(rng), torch.rand(2, 1, *space.size)
            network = supernet.extract(architecture)
            assert torch.equal(supernet(pictures, architecture), network(pictures))
            assert space.cost(architecture)["macs"] == count_macs(network, pictures[:1])
            assert space.cost(architecture)["parameters"] == count_parameters(network)


def test_populations_draw_mutate_and_write_back():
    config = dataclasses.replace(EVOLVE, mutation=0.0, floor=0.0, contest=50)
    rng = np.random.default_rng(0)
    population = Population(6, rng)
    assert len({CELLS.canonical(one) for one in population.cells}) == 6
    population.fitness[:] = [0, 1, 5, 2, -1, 0]
    drawn = population.draw(config, False, rng)
    assert drawn[0] == 2
    assert len(set(drawn)) == 2
    counts = np.bincount([population.draw(config, True, rng)[0] for _ in range(600)], minlength=6)
    assert counts.min() > 60  # alike, whatever their fitness
    always = dataclasses.replace(config, mutation=1.0)
    before = list(population.cells)
    places = population.draw(always, False, rng)
    assert population.cells[2] == before[2]  # the best is never replaced
    assert 4 in places  # the worst is
    assert population.fitness[4] == 5
    assert sum(a != b for a, b in zip(population.cells[4], before[2], strict=True)) == 1
    population.fitness[:] = [0, 1, 5, 2, -1, 0]
    still = dataclasses.replace(config, draw_together=0.0)
    population.write_back([0, 3], np.array([4.0, -2.0, 3.0]), still)
    assert population.fitness.tolist() == [2, 1, 5, 0, -1, 0]
    assert population.reference == 1.5
    tops = population.top(2, reference=True)
    assert tops == [CELLS.graph(population.cells[place]) for place in (2, 0)]
    population.reference = 9.0
    assert population.top(2, reference=True) == [REFERENCE, tops[0]]
    assert population.top(2, reference=False) == tops


def test_a_layer_is_the_weighted_sum_of_its_cells():
    plan = PLANS[0]
    block = EvolvingBlock(plan, 2, reference=True).eval()
    block.graphs = graphs(2, 3)
    with torch.no_grad():
        block.fitness.copy_(torch.tensor([1.0, -1.0, 0.5]))
    pictures = torch.rand(2, 4, 6, 5)
    total = pictures.clone()
    for weight, graph, bank in zip(
        block.weights(), [*block.graphs, REFERENCE], [block.bank] * 2 + [block.reference], strict=True
    ):
        cell = GraphCell(graph, plan).eval()
        cell.bank.load_state_dict({k: v for k, v in bank.state_dict().items() if k in cell.bank.state_dict()})
        total = total + weight * (cell(pictures) - pictures)
    torch.testing.assert_close(block(pictures), total)
    macs = [graph_cost(graph, plan).macs for graph in (*block.graphs, REFERENCE)]
    shares = torch.tensor([1.0, -1.0, 0.5]).softmax(0)
    assert float(block.expected_macs().detach()) == pytest.approx(float((shares * torch.tensor(macs)).sum()), rel=1e-5)
    assert EvolvingBlock(plan, 2, reference=False).weights().tolist() == [0.5, 0.5, 0.0]


def evolution(config=EVOLVE):
    return Evolution(CHAIN, ENDS, halves(classifier().task, 0), config, seed=0)


def test_resume_ends_in_the_same_populations_and_weights(tmp_path, monkeypatch):
    whole = evolution()
    whole.run(tmp_path / "whole")
    killed = evolution()
    save = killed.save

    def stops(folder):
        save(folder)
        if killed.round == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(killed, "save", stops)
    with pytest.raises(KeyboardInterrupt):
        killed.run(tmp_path / "killed")
    again = evolution()
    again.run(tmp_path / "killed")
    assert again.learned_space(4) == whole.learned_space(4)
    assert [p.fitness.tolist() for p in again.populations] == [p.fitness.tolist() for p in whole.populations]
    one, two = whole.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert again.losses == whole.losses
    assert any(fitness for p in whole.populations for fitness in p.fitness)
    with pytest.raises(UserError, match="another search"):
        evolution(dataclasses.replace(EVOLVE, steps=5)).run(tmp_path / "killed")


def test_a_budget_moves_fitnesses_towards_cheap_cells():
    config = dataclasses.replace(EVOLVE, rounds=1, steps=20, macs=1e3, weight=10.0, fitness_rate=0.05)
    one = evolution(config)
    one.run()
    for block in one.blocks:
        costs = [graph_cost(graph, block.plan).macs for graph in (*block.graphs, REFERENCE)]
        assert int(block.fitness.argmax()) == int(np.argmin(costs))


def nearest(space, macs):
    """The network nearest to the heads of the lists, the cheapest of equally near ones, by looking at all."""
    within = [one for one in itertools.product(*map(range, space.sizes)) if space.cost(one)["macs"] <= macs]
    return min(within, key=lambda one: (sum(one), space.cost(one)["macs"], one))


def test_deep_chains_are_searched_layer_by_layer():
    """Four cells for each of 16 layers: 4^16 networks, of which only the cheapest is within the budget."""
    chain = ChainConfig(widths=(4,) * 16, strides=(1,) * 16, stem=4)
    cells = tuple(tuple(graph.row() for graph in graphs(4, seed)) for seed in range(16))
    space = ListedChainSpace(ListedChainConfig(chain=chain, cells=cells), **ENDS)
    least = space.cost(space.smallest())["macs"]
    assert space.cost(best_within(space, least))["macs"] == least
    assert best_within(space, 0.0) == (0,) * 16


def test_lists_without_the_reference():
    one = evolution()
    for population in one.populations:
        population.reference = 9.0
    offered, cells = one.learned_space(2), one.learned_space(2, reference=False)
    assert [layer[0] for layer in offered] == [REFERENCE.row()] * 2
    assert [layer[0] for layer in cells] == [layer[1] for layer in offered]


def test_as_a_transform_it_keeps_the_budget_and_reloads(tmp_path):
    teach = TeachConfig(fit=FitConfig(steps=5, batch_size=32))
    config = AutoSpaceConfig(chain=CHAIN, evolve=EVOLVE, top=2, teach=teach)
    found = apply(Method("search/autospace", config, EVALUATIONS["search/autospace"]), classifier(), 0)
    recipe.save_network(tmp_path / "network.safetensors", found.module, found.base, found.recipe)
    module, *_ = recipe.load_network(tmp_path / "network.safetensors")
    pictures = found.task.source("test").tensors["input"]
    with torch.no_grad():
        assert recipe.same_bits(module(pictures), found.module(pictures))
    space = listed()
    assert best_within(space, 0.0) == (0, 0)
    for macs in sorted({space.cost(one)["macs"] for one in itertools.product(range(3), repeat=2)}):
        assert best_within(space, macs) == nearest(space, macs)
    budget = space.cost(space.smallest())["macs"]
    assert space.cost(best_within(space, budget))["macs"] <= budget
    with pytest.raises(UserError, match=r"autospace.macs=5: the smallest network of listed_chain needs"):
        best_within(space, 5)
    with pytest.raises(UserError, match="cells:"):
        ListedChainConfig(chain=CHAIN, cells=(((5, 1, 2, 1, 1, 2, 2, 0, 0, 6),),))
