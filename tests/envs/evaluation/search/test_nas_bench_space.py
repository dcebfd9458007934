"""The table's space: what networks cost and which are the same, against the networks themselves."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from envs.evaluation.search.spaces.nas_bench_201 import Cell, NasBench201Space
from rlsuite.data.nas_bench_201 import OPERATIONS
from rlsuite.errors import UserError

SPACE = NasBench201Space()
CELLS = list(itertools.product(range(5), repeat=6))


def test_published_macs_and_parameters():
    assert SPACE.cost((3,) * 6) == {"macs": 220_119_680, "parameters": 1_531_546}
    assert SPACE.cost((0,) * 6) == {"macs": 7_783_040, "parameters": 73_306}


def test_macs_and_parameters_equal_the_built_networks():
    small = NasBench201Space(size=8, num_classes=7)
    rng = np.random.default_rng(0)
    for _ in range(5):
        architecture = small.sample(rng)
        network = small.build(architecture)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.eval()(torch.zeros(1, 3, 8, 8))
        parameters = sum(parameter.numel() for parameter in network.parameters())
        found = {"macs": counter.get_total_flops() / 2, "parameters": parameters}
        assert small.cost(architecture) == found


@pytest.mark.slow
def test_macs_of_200_built_networks():
    small, rng = NasBench201Space(size=8, num_classes=7), np.random.default_rng(1)
    for _ in range(200):
        architecture = small.sample(rng)
        network = small.build(architecture).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 3, 8, 8))
        assert small.cost(architecture)["macs"] == counter.get_total_flops() / 2


def string_rule(cell):
    """The benchmark's own rule for equal cells, which keeps each zero of a sum as a term."""
    nodes, operations = ["0"], iter(cell)
    for node in (1, 2, 3):
        terms = []
        for source in range(node):
            operation = OPERATIONS[next(operations)]
            if operation == "none" or nodes[source] == "#":
                terms.append("#")
            else:
                terms.append(nodes[source] if operation == "skip_connect" else f"({nodes[source]})@{operation}")
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def test_canonical_classes():
    assert len({string_rule(cell) for cell in CELLS}) == 6466
    assert len({SPACE.canonical(cell) for cell in CELLS}) == 5545
    assert sum(not SPACE.connected(cell) for cell in CELLS) == 341
    assert not any(SPACE.connected(cell) for cell in CELLS if SPACE.canonical(cell) == ())


def cell_of_operations(architecture):
    return Cell(lambda place, make: make(architecture[place]), 4).eval()


def share_weights(cell, architecture, weights):
    """Give every convolution of a cell the weights of the term it computes; a new term keeps, and lends, its own."""
    nodes, operations = [("input",)], iter(zip(architecture, cell.edges, strict=True))
    for node in (1, 2, 3):
        terms = []
        for source in range(node):
            operation, edge = next(operations)
            name = OPERATIONS[operation]
            if name == "skip_connect":
                terms += nodes[source]
            elif name.startswith("nor_conv") or (name == "avg_pool_3x3" and nodes[source]):
                terms.append((name, nodes[source]))
                edge.load_state_dict(weights.setdefault(terms[-1], edge.state_dict()))
        nodes.append(tuple(sorted(terms, key=repr)))


def test_canonical_classmates_compute_the_same():
    classes = {}
    for cell in CELLS:
        classes.setdefault(SPACE.canonical(cell), []).append(cell)
    shared = [members for members in classes.values() if len(members) > 1]
    rng = np.random.default_rng(1)
    for number in rng.permutation(len(shared))[:40]:
        first, second = (shared[number][i] for i in rng.permutation(len(shared[number]))[:2])
        torch.manual_seed(int(number))
        one, other = cell_of_operations(first), cell_of_operations(second)
        for module in (*one.modules(), *other.modules()):
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.bias)
        weights = {}
        share_weights(one, first, weights)
        share_weights(other, second, weights)
        picture = torch.randn(2, 4, 6, 6)
        with torch.no_grad():
            assert torch.allclose(one(picture), other(picture), atol=1e-5), (first, second)


def test_architectures_from_outside_are_checked():
    assert SPACE.check([0, 1, 2, 3, 4, 0]) == (0, 1, 2, 3, 4, 0)
    for wrong in ((0,) * 5, (0,) * 7, (5, 0, 0, 0, 0, 0), (-1, 0, 0, 0, 0, 0)):
        with pytest.raises(UserError, match="no architecture of nas_bench_201"):
            SPACE.check(wrong)


def test_neighbours_mutations_and_codes():
    rng = np.random.default_rng(0)
    cell = (0, 1, 2, 3, 4, 0)
    neighbours = list(SPACE.neighbours(cell))
    assert len(set(neighbours)) == 24
    assert {SPACE.mutate(cell, rng) for _ in range(400)} == set(neighbours)
    child = SPACE.crossover((0,) * 6, (4,) * 6, rng)
    assert set(child) <= {0, 4}
    code = SPACE.encode(cell)
    assert code.shape == (30,)
    assert code.reshape(6, 5).argmax(1).tolist() == list(cell)
    assert code.sum() == 6
