"""Spaces of networks: costs by rule against built networks, paths of supernets against networks by themselves."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from envs.evaluation.probes import count_macs, count_parameters
from envs.evaluation.search.cell_evolution import CELLS
from envs.evaluation.search.cost import expected, table
from envs.evaluation.search.operations import CONVOLUTIONS, OPERATIONS, Convolution, find_operation
from envs.evaluation.search.spaces.cell import CellSpace, CellSpaceConfig
from envs.evaluation.search.spaces.chain import AtomSpace, ChainConfig, ChainSpace
from envs.evaluation.search.spaces.code import ActorConfig, ActorSpace, CriticSpace, EncoderConfig, EncoderSpace
from envs.evaluation.search.spaces.counting import CountingConfig, CountingSpace
from envs.evaluation.search.spaces.graph_cell import ListedChainConfig, ListedChainSpace
from envs.evaluation.search.spaces.light_chain import LightChainConfig, LightChainSpace
from envs.evaluation.search.spaces.multi_resolution import MultiResolutionConfig, MultiResolutionSpace
from envs.evaluation.search.spaces.nas_bench_201 import NasBench201Space
from envs.evaluation.search.supernet import Slot, Supernet, reestimate_statistics
from rlsuite.errors import UserError

NAMES = tuple(name for name, operation in OPERATIONS.items() if not isinstance(operation, str))
ENDS = {"channels": 2, "outputs": 5}


def one_bit(inputs, outputs, kernel, **options):
    layer = nn.Conv2d(inputs, outputs, kernel, bias=False, **options)
    layer.weight_bits = layer.input_bits = 1
    return layer


def spaces(size):
    """Every kind of space, small, for pictures or vectors of a size."""
    small = {"nodes": 3, "width": 4}
    return {
        "picks": CellSpace(CellSpaceConfig(layout=("normal", "reduction", "normal"), **small), size=size, **ENDS),
        "all edges": CellSpace(
            CellSpaceConfig(operations=NAMES, picks=0, layout=("a", "r", "a"), reductions=("r",), **small),
            size=size,
            **ENDS,
        ),
        "one input": CellSpace(
            CellSpaceConfig(
                operations=NAMES,
                picks=1,
                inputs=1,
                layout=("a", "r", "b", "s"),
                reductions=("r", "s"),
                stem_stride=2,
                head="all",
                **small,
            ),
            size=size,
            **ENDS,
        ),
        "chain": ChainSpace(ChainConfig(expansions=(1, 3), skips=True, last=12), size=size, **ENDS),
        "atoms": AtomSpace(ChainConfig(expansions=(2,), widths=(4, 4), strides=(2, 1), head="all"), size=size, **ENDS),
        "resolutions": MultiResolutionSpace(MultiResolutionConfig(stages=3, counts=2, largest=24), size=size, **ENDS),
        "dense": MultiResolutionSpace(
            MultiResolutionConfig(stages=2, counts=2, largest=24, dense=True), size=size, **ENDS
        ),
        "encoder": EncoderSpace(EncoderConfig(stages=2, largest=24, head="all"), size=size, **ENDS),
    }


def check_costs(space, count):
    rng, example = np.random.default_rng(0), torch.zeros(1, 2, *space.size)
    for _ in range(count):
        architecture = space.sample(rng)
        network = space.build(architecture).eval()
        cost = space.cost(architecture)
        assert cost["macs"] == count_macs(network, example)
        assert cost["parameters"] == count_parameters(network)
        assert cost["kilobytes"] == cost["parameters"] * 4 / 1e3
        assert cost["binary_macs"] == 0


@pytest.mark.parametrize("size", [8, (9, 7)])
@pytest.mark.parametrize("name", spaces(8))
def test_macs_and_parameters_of_built_networks(name, size):
    check_costs(spaces(size)[name], 8)


@pytest.mark.slow
@pytest.mark.parametrize("name", spaces(8))
def test_macs_and_parameters_of_200_built_networks(name):
    check_costs(spaces((9, 7))[name], 200)


def spaces_of_methods():
    """Spaces that one method each searches, and an example of what their networks take."""
    chain = ChainConfig(widths=(4, 6), strides=(1, 2), stem=4, kernels=(3,), expansions=(2,))
    size, pictures = (9, 7), torch.zeros(1, 2, 9, 7)
    rng = np.random.default_rng(0)
    rows = tuple(tuple(CELLS.graph(CELLS.sample(rng)).row() for _ in range(6)) for _ in chain.widths)
    return {
        "light chain": (LightChainSpace(LightChainConfig(chain=chain), size=size, **ENDS), pictures),
        "listed chain": (ListedChainSpace(ListedChainConfig(chain=chain, cells=rows), size=size, **ENDS), pictures),
        "counting": (CountingSpace(CountingConfig(levels=2, nodes=2, width=4), channels=2, size=size), pictures),
        "actor": (ActorSpace(ActorConfig(largest=64), inputs=11, outputs=3), torch.zeros(1, 11)),
        "critic": (
            CriticSpace((8, 32, 8), 3, ("plain", "layer_norm", "batch_norm"), inputs=(9, 2)),
            torch.zeros(1, 1, 11),
        ),
    }


@pytest.mark.parametrize("count", [6, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", spaces_of_methods())
def test_macs_and_parameters_of_the_methods_spaces(name, count):
    space, example = spaces_of_methods()[name]
    rng = np.random.default_rng(1)
    for _ in range(count):
        architecture = space.sample(rng)
        network, cost = space.build(architecture).eval(), space.cost(architecture)
        assert cost["macs"] == count_macs(network, example)
        assert cost["parameters"] == count_parameters(network)


def test_macs_of_a_critic_count_the_last_layer_by_rule():
    """torch's counter sees none there: a layer of one output is written as a sum."""
    space = CriticSpace((8, 8, 8), 1, inputs=(3, 2))
    architecture = space.of_values({"width": 8, "depth": 1, "block": 0})
    critic, example = space.build(architecture), torch.zeros(1, 1, 5)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        critic(example)
    assert counter.get_total_flops() // 2 == 5 * 8
    assert space.cost(architecture)["macs"] == count_macs(critic, example) == 5 * 8 + 8


def test_macs_of_actors():
    space, rng = ActorSpace(ActorConfig(), inputs=11, outputs=3), np.random.default_rng(0)
    for _ in range(50):
        architecture = space.sample(rng)
        network = space.build(architecture)
        assert space.cost(architecture)["macs"] == count_macs(network, torch.zeros(1, 11))
        assert space.cost(architecture)["parameters"] == count_parameters(network)


def test_macs_of_one_bit_stand_apart(monkeypatch):
    monkeypatch.setitem(CONVOLUTIONS, "one_bit", Convolution(make=one_bit, weight_bits=1, input_bits=1))
    config = CellSpaceConfig(layout=("a", "r"), reductions=("r",), width=4, nodes=2, convolution="one_bit")
    space, rng = CellSpace(config, size=8, **ENDS), np.random.default_rng(0)
    binary = []
    for _ in range(10):
        architecture = space.sample(rng)
        network, cost = space.build(architecture).eval(), space.cost(architecture)
        example = torch.zeros(1, 2, 8, 8)
        for layer in network.modules():
            if getattr(layer, "input_bits", 32) == 1:
                layer.register_forward_hook(
                    lambda layer, _, output: binary.append(layer.weight.numel() * output[0, 0].numel())
                )
        assert cost["macs"] == count_macs(network, example)
        assert cost["parameters"] == count_parameters(network)
        binary.clear()
        network(example)
        assert cost["binary_macs"] == sum(binary)
        assert not any(isinstance(part, nn.ReLU) for part in network.modules())


def test_expected_macs_are_the_mean_over_drawn_architectures():
    space = spaces(8)["picks"]
    costs = table(space.choice_costs())
    chosen = space.sample(np.random.default_rng(0))
    sure = torch.nn.functional.one_hot(torch.tensor(chosen), costs.shape[1]).double()
    assert float(expected(sure, costs)) + space.fixed_cost().macs == space.cost(chosen)["macs"]
    logits = torch.zeros_like(costs, requires_grad=True)
    expected(logits.softmax(1), costs).backward()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("size", [8, (9, 7)])
@pytest.mark.parametrize("name", ["picks", "all edges", "one input", "chain"])
@pytest.mark.parametrize("options", [{}, {"affine": False}], ids=["affine", "not affine"])
def test_extract_gives_the_path_by_itself(name, size, options):
    if options and name == "chain":
        return
    space, rng = spaces(size)[name], np.random.default_rng(1)
    supernet = Supernet(space, seed=3, **options)
    pictures = torch.rand(4, 2, *space.size)
    with torch.no_grad():
        for _ in range(8):
            supernet.train()(pictures, space.sample(rng))
    for _ in range(6):
        architecture = space.sample(rng)
        child = supernet.eval().extract(architecture)
        assert not any(isinstance(part, Slot) for part in child.modules())
        with torch.no_grad():
            assert torch.equal(supernet(pictures, architecture), child(pictures))
        supernet.train().zero_grad()
        child.train()
        supernet(pictures, architecture).square().sum().backward()
        child(pictures).square().sum().backward()
        theirs = dict(child.named_parameters())
        found = 0
        for path, part in supernet.network.named_modules():
            if not path or not hasattr(part, "weight") or part.weight is None or part.weight.grad is None:
                continue
            owner, inside, rest = path.partition(".choices.")
            key = f"{owner}.{rest.partition('.')[2]}" if inside else path
            name_there = f"{key.rstrip('.')}.weight"
            assert torch.allclose(part.weight.grad, theirs[name_there].grad, atol=1e-6, rtol=1e-4), path
            found += 1
        assert found == sum("weight" in key for key in theirs)


def test_extract_from_the_tables_space():
    space, rng = NasBench201Space(size=8, num_classes=3), np.random.default_rng(0)
    supernet = Supernet(space, seed=0).eval()
    pictures = torch.rand(2, 3, 8, 8)
    for architecture in (space.sample(rng), (3,) * 6, (0,) * 6):
        with torch.no_grad():
            assert torch.equal(supernet(pictures, architecture), supernet.extract(architecture)(pictures))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 3)])
def test_extract_of_each_operation_keeps_channels_and_halves_sides(name, stride, size):
    module = find_operation(name).make(6, stride, Convolution(), True).eval()
    found = module(torch.randn(2, 6, *size))
    assert found.shape == (2, 6, *(-(-side // stride) for side in size))


def test_extract_of_a_mixture_is_the_weighted_sum():
    space = CellSpace(
        CellSpaceConfig(
            operations=("skip_connect", "conv_1x1"), picks=0, nodes=1, layout=("a",), reductions=(), width=4
        ),
        size=6,
        **ENDS,
    )
    supernet = Supernet(space, seed=0).eval()
    pictures = torch.rand(3, 2, 6, 6)
    mixture = torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    with torch.no_grad():
        cell = supernet.network.cells[0]
        states = [prepare(supernet.network.stem(pictures)) for prepare in cell.prepare]
        node = 0.0
        for number, edge in cell.edges.items():
            for choice, module in edge.choices.items():
                node = node + mixture[int(number), int(choice)] * module(states[int(number)])
        wanted = supernet.network.head(torch.relu(node).mean((2, 3)))
        assert torch.allclose(supernet(pictures, mixture=mixture), wanted, atol=1e-6)
        sure = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        assert torch.equal(supernet(pictures, mixture=sure, used=sure.bool().tolist()), supernet(pictures, (1, 0)))


def test_extract_with_partial_channels_agrees():
    space, rng = spaces(8)["picks"], np.random.default_rng(2)
    supernet = Supernet(space, seed=3, partial=2).eval()
    architecture = space.sample(rng)
    pictures = torch.rand(2, 2, 8, 8)
    with torch.no_grad():
        assert torch.equal(supernet(pictures, architecture), supernet.extract(architecture)(pictures))


def test_statistics_are_means_over_batches():
    layer = nn.BatchNorm2d(3)
    layer.running_mean.fill_(7.0)
    batches = [torch.randn(4, 3, 2, 2) + shift for shift in (0.0, 2.0)]
    reestimate_statistics(layer.eval(), batches)
    assert torch.allclose(layer.running_mean, torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0))
    assert layer.momentum == 0.1
    assert not layer.training


def test_canonical_cells_leave_out_what_carries_zeros_alone():
    names = ("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3")
    config = CellSpaceConfig(operations=names, picks=0, nodes=2, layout=("a",), reductions=(), width=4)
    space = CellSpace(config, size=6, **ENDS)
    none, skip, pool, conv = range(4)
    # Edges: input 0 -> node 0, input 1 -> node 0, inputs -> node 1, node 0 -> node 1. Node 0 has nothing.
    dead = (none, none, conv, none, skip)
    assert space.canonical(dead) == space.canonical((none, none, conv, none, none))
    assert space.canonical((none, none, conv, none, pool)) != space.canonical(dead)  # its normalization adds a constant
    classes = {}
    for architecture in itertools.product(range(4), repeat=5):
        if space.valid(architecture):
            classes.setdefault(space.canonical(architecture), []).append(architecture)
    assert any(len(members) > 1 for members in classes.values())
    supernet, pictures = Supernet(space, seed=0).eval(), torch.rand(2, 2, 6, 6)
    for part in supernet.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.bias, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for members in classes.values():
            first, *rest = (supernet(pictures, member) for member in members)
            assert all(torch.allclose(first, other, atol=1e-6) for other in rest)


def test_canonical_actors_forget_layers_that_are_not_there():
    space = ActorSpace(ActorConfig(depth=2, smallest=8, largest=16), inputs=3, outputs=1)
    assert space.canonical((0, 0, 1, 0)) == space.canonical((0, 0, 1, 1)) != space.canonical((1, 0, 1, 1))


@pytest.mark.parametrize("name", [name for name in spaces(8) if name != "atoms"])
def test_samples_mutants_and_children_are_valid(name):
    space, rng = spaces(8)[name], np.random.default_rng(0)
    for _ in range(20):
        one, other = space.sample(rng), space.sample(rng)
        mutant, child = space.mutate(one, rng), space.crossover(one, other, rng)
        for architecture in (one, other, mutant, child):
            assert space.check(list(architecture)) == architecture
        assert mutant != one
        assert mutant in set(space.neighbours(one))
        assert space.decode(space.encode(one)) == one


def test_every_node_of_a_cell_has_two_edges_and_crossover_keeps_nodes_whole():
    space, rng = spaces(8)["picks"], np.random.default_rng(0)
    blocks = list(space.blocks())
    for _ in range(50):
        one, other = space.sample(rng), space.sample(rng)
        child = space.crossover(one, other, rng)
        for places in blocks:
            assert sum(child[place] > 0 for place in places) == 2
            assert tuple(child[p] for p in places) in {tuple(parent[p] for p in places) for parent in (one, other)}
        for node in range(space.config.nodes):  # of both kinds of cells from one parent
            places = [p for number in (node, node + space.config.nodes) for p in blocks[number]]
            assert tuple(child[p] for p in places) in {tuple(parent[p] for p in places) for parent in (one, other)}


def test_codes_are_values_and_take_the_nearest_legal_one():
    space = EncoderSpace(EncoderConfig(stages=1, blocks=3, smallest=8, largest=32), size=8, **ENDS)
    assert space.encode((1, 2)).tolist() == [2.0, 24.0]
    assert space.decode(np.array([2.4, 19.9])) == (1, 1)
    assert space.decode(np.array([-5.0, 400.0])) == (0, 3)
    assert space.values(space.of_values({"blocks1": 3, "width1": 8})) == {"blocks1": 3, "width1": 8}
    assert space.clip(np.array([0.0, 99.0])).tolist() == [1.0, 32.0]
    assert space.middle().tolist() == [2.0, 20.0]
    critic = CriticSpace().critic((1, 2, 1))
    assert (critic.hidden_sizes, critic.block) == ((128, 128, 128), "layer_norm")


def test_the_paper_s_networks_of_several_resolutions_have_27_numbers():
    space = MultiResolutionSpace(MultiResolutionConfig(), channels=3, size=64, outputs=10)
    names = [field.name for field in space.fields]
    assert len(names) == 27
    assert names[:5] == ["i1", "i2", "b1", "n11", "c11"]
    assert names[-9:] == ["n41", "n42", "n43", "n44", "c41", "c42", "c43", "c44", "last"]
    code = space.of_values({name: 2 if name[0] in "bn" else 64 for name in names})
    assert set(space.encode(code)) == {2.0, 64.0}
    with torch.no_grad():
        assert space.build(code).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 10)


def test_one_hot_codes_are_clipped_to_shares():
    space = NasBench201Space()
    code = space.encode((0, 1, 2, 3, 4, 0))
    assert np.allclose(space.clip(code), code)
    clipped = space.clip(np.random.default_rng(0).normal(size=30)).reshape(6, 5)
    assert np.allclose(clipped.sum(1), 1.0)
    assert clipped.min() >= 0.0
    by_hand = np.array([0.9, 0.5, -1.0, -1.0, -1.0])  # the first two lose 0.2 each, the others all
    assert np.allclose(space.clip(np.tile(by_hand, 6)).reshape(6, 5), [0.7, 0.3, 0.0, 0.0, 0.0])


def test_budgets_that_nothing_satisfies_are_refused():
    space = NasBench201Space()
    assert space.cost(space.smallest())["macs"] == 7_783_040
    with pytest.raises(UserError, match=r"ncp.macs=7000000: the smallest network of nas_bench_201 needs 7783040"):
        space.require_budget("ncp.macs", 7e6)
    space.require_budget("ncp.macs", 7_783_040)


def test_spaces_without_a_way_through_are_refused():
    config = CellSpaceConfig(operations=("none", "skip_connect"), picks=1, nodes=1, layout=("a",), reductions=())
    space = CellSpace(config, size=4, **ENDS)
    assert all(2 in space.sample(np.random.default_rng(seed)) for seed in range(5))
    for wrong, message in (
        ({"operations": ("sep_conv_9x9",)}, "unknown operation"),
        ({"operations": ("none",)}, "nothing would pass"),
        ({"convolution": "xnorr"}, "unknown convolution"),
        ({"layout": ("normal",)}, "no cell of layout"),
        ({"inputs": 3}, "inputs=3"),
    ):
        with pytest.raises(UserError, match=message):
            CellSpaceConfig(**wrong)
