"""Small cells as rows of numbers, and chains of them (AutoSpace, Zhou et al. 2021, arXiv:2103.11833, released files).

A cell has nodes 0 (input), 1, 2 and 3 (output). Its input is widened by 1 x 1 to `expansion` times its channels; that
is node 0. On each edge stands nothing, an identity, a 1 x 1 or a depthwise convolution; what meets in a node is added,
or multiplied. Nodes up to number `dim` have the widened channels, those behind it the block's outputs: an edge across
is narrowed by 1 x 1 first. So [9, 1, 2, 1, 1, 2] with dim 2 is an inverted residual with a 7 x 7 filter.

The files do not say what their numbers mean; CODES is our reading, in one place. Their attention flag is not here. A
product is first * (1 + BatchNorm(other)), and that normalization's scale is 0 at first: else training diverges.

Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from envs.evaluation.search.cost import Cost, numbers_cost, total, weights_cost
from envs.evaluation.search.operations import Size, halved
from envs.evaluation.search.space import Architecture, MakeSlot, Space
from envs.evaluation.search.spaces.chain import BlockPlan, ChainConfig, ChainNetwork, ChainSpaceBase
from rlsuite.errors import UserError, require

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NONE, IDENTITY, POINTWISE = 1, 2, 3
CODES = {NONE: "no edge", IDENTITY: "identity", POINTWISE: "1x1", 5: "depthwise 3x3", 7: "5x5", 9: "7x7"}
# What may stand on each edge: as in the released files, and 7 and 9 on the first edge.
CHOICES = ((2, 3, 5, 7, 9), (1, 2, 3, 5), (2, 3, 5), (1,), (1, 2, 3, 5), (2, 3, 5))
EXPANSIONS = (3, 6)


class Graph(NamedTuple):
    """A cell.

    Attributes:
        edges: a code for each of EDGES.
        dim: the last node with widened channels.
        modes: of nodes 2 and 3: 0 adds what meets there, 1 multiplies.
        expansion: widened channels in input channels.
    """

    edges: tuple[int, ...]
    dim: int
    modes: tuple[int, int]
    expansion: int

    def row(self) -> tuple[int, ...]:
        """Return the cell as ten numbers, for files."""
        return (*self.edges, self.dim, *self.modes, self.expansion)

    def matrix(self) -> list[list[int]]:
        """Return the released files' 4 x 4 matrix; the modes are one number there: 2 * first + second."""
        found = [[0] * 4 for _ in range(4)]
        for (source, target), code in zip(EDGES, self.edges, strict=True):
            found[target][source] = code
        found[0][3], found[1][3] = self.dim, 2 * self.modes[0] + self.modes[1]
        return found

    def entering(self, node: int) -> list[tuple[int, int]]:
        """Return (source, code) of the edges into a node."""
        return [(s, code) for (s, t), code in zip(EDGES, self.edges, strict=True) if t == node and code != NONE]


def graph_of(row: Iterable[int]) -> Graph:
    """Return the cell that `Graph.row` gave.

    Raises:
        UserError: if it is none.
    """
    numbers = tuple(row)
    good = len(numbers) == 10 and all(code in CODES for code in numbers[:6]) and numbers[6] in (0, 1, 2)
    found = Graph(numbers[:6], numbers[6], (numbers[7], numbers[8]), numbers[9]) if good else None
    if found is None or not set(found.modes) <= {0, 1} or found.expansion < 1 or not _reaches(found):
        raise UserError(f"{list(numbers)[:12]} is no cell: use six codes, dim, two modes and expansion")
    return found


def _reaches(graph: Graph) -> bool:
    """Return whether the output sees the input, and no edge begins at a node that does not."""
    reached = {0}
    for node in (1, 2, 3):
        sources = {source for source, _ in graph.entering(node)}
        if not sources <= reached:
            return False
        reached |= {node} if sources else set()
    return 3 in reached


REFERENCE = Graph((5, 1, 2, 1, 1, 2), 2, (0, 0), 6)  # an inverted residual: 3 x 3, expansion 6


class GraphSpace(Space):
    """All cells: ten places, those of `Graph.row`."""

    name = "graph_cell"
    values = (*CHOICES, (0, 1, 2), (0, 1), (0, 1), EXPANSIONS)
    sizes = tuple(len(choices) for choices in values)

    def graph(self, architecture: Architecture) -> Graph:
        """Return the cell of an architecture."""
        return graph_of(choices[place] for choices, place in zip(self.values, architecture, strict=True))

    def architecture(self, graph: Graph) -> Architecture:
        """Return the architecture of a cell."""
        return tuple(choices.index(number) for choices, number in zip(self.values, graph.row(), strict=True))

    def canonical(self, architecture: Architecture) -> Hashable:
        """Return the cell without modes of nodes that one edge alone enters."""
        graph = self.graph(architecture)
        modes = tuple(
            mode if len(graph.entering(node)) > 1 else 0 for node, mode in zip((2, 3), graph.modes, strict=True)
        )
        return (graph.edges, graph.dim, modes, graph.expansion)


def parts(graph: Graph, plan: BlockPlan) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return what a cell is made of: key -> kind and numbers. Equal keys of one block are equal parts.

    Kinds: "pointwise", "linear" (inputs, outputs, stride), "depthwise" (channels, kernel, stride), "gate" (channels,).
    """
    wide, e, d = graph.expansion * plan.inputs, graph.expansion, graph.dim
    found: dict[str, tuple[str, tuple[int, ...]]] = {f"widen_{e}": ("pointwise", (plan.inputs, wide, 1))}
    for node in (1, 2, 3):
        channels = wide if node <= d else plan.outputs
        entering = graph.entering(node)
        for place, (source, code) in enumerate(entering):
            stride = plan.stride if source == 0 else 1
            if source <= d < node:
                found[f"narrow_{e}_{d}_{source}"] = ("linear", (wide, plan.outputs, 1))
            key = f"edge_{e}_{d}_{source}{node}_{code}"
            if code == POINTWISE:
                found[key] = ("pointwise", (channels, channels, stride))
            elif code > POINTWISE:
                found[key] = ("depthwise", (channels, code - 2, stride))
            if place and node > 1 and graph.modes[node - 2]:
                found[f"gate_{e}_{d}_{source}{node}"] = ("gate", (channels,))
    return found


def make_part(kind: str, numbers: tuple[int, ...]) -> nn.Module:
    """Return a part."""
    if kind == "gate":
        gate = nn.BatchNorm2d(numbers[0])
        nn.init.zeros_(gate.weight)
        return gate
    if kind == "depthwise":
        channels, kernel, stride = numbers
        conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())
    inputs, outputs, stride = numbers
    layers = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *[nn.ReLU()] * (kind == "pointwise"))


def run_graph(graph: Graph, bank: nn.ModuleDict, inputs: Tensor, stride: int) -> Tensor:
    """Return what a cell makes of inputs (B, C, H, W), with the parts of a bank, without a shortcut."""
    e, d = graph.expansion, graph.dim
    nodes: dict[int, Tensor] = {0: bank[f"widen_{e}"](inputs)}
    narrowed: dict[int, Tensor] = {}
    for node in (1, 2, 3):
        found: Tensor | None = None
        for source, code in graph.entering(node):
            value = nodes[source]
            if source <= d < node:
                if source not in narrowed:
                    narrowed[source] = bank[f"narrow_{e}_{d}_{source}"](value)
                value = narrowed[source]
            if code == IDENTITY:
                value = value[:, :, ::stride, ::stride] if source == 0 else value
            else:
                value = bank[f"edge_{e}_{d}_{source}{node}_{code}"](value)
            if found is None:
                found = value
            elif node > 1 and graph.modes[node - 2]:
                found = found * (1.0 + bank[f"gate_{e}_{d}_{source}{node}"](value))
            else:
                found = found + value
        if found is not None:  # else nothing begins at this node
            nodes[node] = found
    return nodes[3]


def graph_cost(graph: Graph, plan: BlockPlan) -> Cost:
    """Return what a cell costs."""

    def one(key: str, kind: str, numbers: tuple[int, ...]) -> Cost:
        if kind == "gate":
            return numbers_cost(2 * numbers[0])
        first = key.startswith("widen") or (key.endswith("_0") and key.startswith("narrow"))
        if kind == "depthwise":
            channels, kernel, _ = numbers
            weights, outputs = channels * kernel * kernel, channels
        else:
            weights, outputs = numbers[0] * numbers[1], numbers[1]
        height, width = plan.size if first else halved(plan.size, plan.stride)
        return weights_cost(weights, height * width) + numbers_cost(2 * outputs)

    return total(one(key, kind, numbers) for key, (kind, numbers) in parts(graph, plan).items())


class GraphCell(nn.Module):
    """A cell as a block of a chain, with a shortcut where shapes allow it: (B, C, H, W) to (B, C', H', W')."""

    def __init__(self, graph: Graph, plan: BlockPlan) -> None:
        super().__init__()
        self.graph, self.plan = graph, plan
        self.bank = nn.ModuleDict({key: make_part(*part) for key, part in parts(graph, plan).items()})

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the block's output."""
        found = run_graph(self.graph, self.bank, inputs, self.plan.stride)
        return found + inputs if self.plan.keeps_shape else found


Rows = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class ListedChainConfig:
    """A chain whose blocks are chosen from lists.

    Attributes:
        chain: widths, strides and ends; kernels and expansions are the cells'.
        cells: for each block the cells it may be, as `Graph.row` gives them.
    """

    chain: ChainConfig = field(default_factory=ChainConfig)
    cells: tuple[Rows, ...] = ()

    def __post_init__(self) -> None:
        rows, blocks = self.cells or ((REFERENCE.row(),),) * len(self.chain.widths), len(self.chain.widths)
        require(len(rows) == blocks and all(rows), f"cells: use a list that is not empty for each of {blocks} blocks")
        object.__setattr__(self, "cells", tuple(tuple(graph_of(row).row() for row in block) for block in rows))


class ListedChainSpace(ChainSpaceBase):
    """One cell of its list for each block."""

    name = "listed_chain"
    Config = ListedChainConfig

    def __init__(self, config: ListedChainConfig, *, channels: int, size: int | Size, outputs: int) -> None:
        super().__init__(config.chain, channels=channels, size=size, outputs=outputs)
        self.cells = tuple(tuple(graph_of(row) for row in rows) for rows in config.cells)
        self.sizes = tuple(len(block) for block in self.cells)

    def cost(self, architecture: Architecture) -> dict[str, float]:
        """Return "macs", "parameters", "binary_macs" and "kilobytes"."""
        found = self.fixed_cost()
        for plan, cells, choice in zip(self.plans(), self.cells, architecture, strict=True):
            found += graph_cost(cells[choice], plan)
        return found.plain()

    def network(self, make_slot: MakeSlot, **options: Any) -> nn.Module:
        """Return the network, a slot for each block."""
        if options:
            raise TypeError(f"unknown options {list(options)}")
        blocks = []
        for place, plan in enumerate(self.plans()):

            def make(choice: int, place: int = place, plan: BlockPlan = plan) -> nn.Module:
                return GraphCell(self.cells[place][choice], plan)

            blocks.append(make_slot(place, make))
        return ChainNetwork(self, blocks)


def all_parts(plan: BlockPlan) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the parts of all cells of a block, for a bank that they share."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for dim in (0, 1, 2):
        for expansion in EXPANSIONS:
            for place in range(max(len(choices) for choices in CHOICES)):
                edges = tuple(choices[min(place, len(choices) - 1)] for choices in CHOICES)
                found |= parts(Graph(edges, dim, (1, 1), expansion), plan)
    return found
