"""Spaces of cells: graphs given as data, stacked as DARTS stacks them (Liu et al. 2019, arXiv:1806.09055, section 2.1).

A cell has one or two inputs (outputs of the cells before it, brought to its width), M nodes that are sums over edges
from earlier states, and an output that is all nodes side by side. Cells of one kind share one graph. An architecture
has a number for each edge of each kind of cell:

- picks = 0: every edge is there, and the number is its operation;
- picks = n: exactly n edges enter each node (all, where there are fewer); 0 is an edge that is not there, k is
  operation k - 1.

    pictures -> stem -> cells -> ReLU -> mean or all of the map -> Linear

What a network of CIFAR's size has beside this while it is trained for hundreds of epochs (auxiliary head, dropped
paths) is no part of the space: networks here learn by what `teach` is given.

Shapes: B batch, C channels, H x W pixels, E edges of a kind of cell, K operations.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from envs.evaluation.search.cost import Cost, linear_cost, numbers_cost
from envs.evaluation.search.operations import (
    FLOAT,
    Size,
    find_convolution,
    find_operations,
    halved,
    reduction_cost,
)
from envs.evaluation.search.space import Architecture, MakeSlot, Space
from envs.evaluation.search.spaces.cell_network import CellNetwork, CellPlan
from rlsuite.errors import UserError, require, require_choice
from rlsuite.nn.vision.doors import sides

HEADS = ("mean", "all")


@dataclass(frozen=True, kw_only=True)
class CellSpaceConfig:
    """A space of cells.

    Attributes:
        operations: names of `search.operations.OPERATIONS`.
        nodes: M, sums in a cell.
        inputs: of a cell: 2 (the two cells before it) or 1.
        picks: edges that enter a node; 0 for all.
        layout: the kind of each cell, in their order; cells of one kind are equal.
        reductions: kinds that halve the map and double the channels.
        width: C of the first cell's nodes.
        stem: channels of the first convolution, as a multiple of width.
        stem_stride: of the first convolution.
        convolution: a name of `search.operations.CONVOLUTIONS`, of all convolutions in cells.
        head: what the last layer sees: the "mean" of each map, or "all" of it, where places in the picture count.
    """

    operations: tuple[str, ...] = (
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )
    nodes: int = 4
    inputs: int = 2
    picks: int = 2
    layout: tuple[str, ...] = ("normal", "normal", "reduction", "normal", "normal", "reduction", "normal", "normal")
    reductions: tuple[str, ...] = ("reduction",)
    width: int = 16
    stem: int = 3
    stem_stride: int = 1
    convolution: str = "float"
    head: str = "mean"

    def __post_init__(self) -> None:
        require(bool(self.operations), "operations=[]: name some, such as [sep_conv_3x3,skip_connect]")
        require(
            len(set(self.operations)) == len(self.operations), f"operations={list(self.operations)}: name each once"
        )
        find_operations(self.operations)
        find_convolution(self.convolution)
        for name in ("nodes", "width", "stem", "stem_stride"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.inputs in (1, 2), f"inputs={self.inputs}: use 1 or 2")
        require(self.picks >= 0, f"picks={self.picks}: use 0 (all edges) or more")
        require(bool(self.layout), "layout=[]: name the cells' kinds, such as [normal,reduction,normal]")
        require(set(self.operations) != {"none"}, "operations=[none]: nothing would pass; name another")
        for kind in self.reductions:
            require(kind in self.layout, f"reductions={list(self.reductions)}: no cell of layout is of kind '{kind}'")
        require_choice("head", self.head, HEADS)


class CellSpace(Space):
    """See the module.

    Args:
        config: see CellSpaceConfig.
        channels: of the pictures.
        size: W of square pictures, or (H, W).
        outputs: of the network.
    """

    name = "cell"
    Config = CellSpaceConfig

    def __init__(self, config: CellSpaceConfig, *, channels: int, size: int | Size, outputs: int) -> None:
        self.config, self.channels, self.size, self.outputs = config, channels, sides(size), outputs
        self.kinds = tuple(dict.fromkeys(config.layout))
        self.edges = [  # (from, to): states 0 .. inputs - 1 are inputs, node j is state inputs + j
            (source, config.inputs + node) for node in range(config.nodes) for source in range(config.inputs + node)
        ]
        self.operations = find_operations(config.operations)
        self.convolution = find_convolution(config.convolution)
        choices = len(config.operations) + bool(config.picks)
        self.sizes = (choices,) * (len(self.edges) * len(self.kinds))

    # -- architectures --------------------------------------------------------------------------------------

    def operation_of(self, choice: int) -> int | None:
        """Return the index of the operation that a choice stands for, or None for an edge that is not there."""
        if not self.config.picks:
            return choice
        return choice - 1 if choice else None

    def entering(self, node: int) -> list[int]:
        """Return the edges (indices into `edges`) that may enter a node, 0 for the first."""
        return [edge for edge, (_, target) in enumerate(self.edges) if target == self.config.inputs + node]

    def blocks(self) -> Iterator[list[int]]:
        """Yield the places of each node's edges, kind after kind, node after node."""
        for kind in range(len(self.kinds)):
            for node in range(self.config.nodes):
                yield [kind * len(self.edges) + edge for edge in self.entering(node)]

    def valid(self, architecture: Architecture) -> bool:
        """Return whether each node has the edges it should have, and no cell's output is zeros whatever comes in."""
        if self.config.picks:
            for places in self.blocks():
                present = sum(architecture[place] > 0 for place in places)
                if present != min(self.config.picks, len(places)):
                    return False
        if "none" not in self.config.operations:
            return True
        return all(any(nodes) for nodes in map(self._reached, range(len(self.kinds)), [architecture] * len(self.kinds)))

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw an architecture: for each node its edges, and an operation for each of them, all uniformly.

        Raises:
            UserError: if none is found: every one is disconnected.
        """
        for _ in range(1000):
            found = [0] * len(self.sizes)
            for places in self.blocks():
                self._draw_block(found, places, rng)
            if self.valid(tuple(found)):
                return tuple(found)
        raise UserError("no cell of this space lets anything pass; name more operations beside none")

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Return one of the neighbours, drawn uniformly.

        Raises:
            UserError: if there is none.
        """
        around = list(self.neighbours(architecture))
        if not around:
            raise UserError(f"{self.name} has no valid neighbour of {list(architecture)}")
        return around[rng.integers(len(around))]

    def crossover(self, one: Architecture, other: Architecture, rng: np.random.Generator) -> Architecture:
        """Take each node, in all kinds of cells together, from one of two parents by a fair coin (as CARS does)."""
        for _ in range(100):
            coins = rng.integers(2, size=self.config.nodes)
            child = list(one)
            for number, places in enumerate(self.blocks()):
                if coins[number % self.config.nodes]:
                    for place in places:
                        child[place] = other[place]
            if self.valid(tuple(child)):
                return tuple(child)
        return one

    def neighbours(self, architecture: Architecture) -> Iterator[Architecture]:
        """Yield every valid architecture with one other operation, or with one edge entering from another state."""
        for places in self.blocks():
            for place in places:
                if self.config.picks and not architecture[place]:
                    continue
                first = 1 if self.config.picks else 0
                for choice in range(first, self.sizes[place]):
                    if choice != architecture[place]:
                        yield from self._if_valid(architecture, {place: choice})
                for moved in places if self.config.picks else ():
                    if not architecture[moved]:
                        yield from self._if_valid(architecture, {place: 0, moved: architecture[place]})

    def canonical(self, architecture: Architecture) -> Hashable:
        """Return the operations, without edges that only ever carry zeros.

        Those are "none", and weightless ones from a node that has nothing else.
        """
        found = []
        for kind in range(len(self.kinds)):
            alive = [True] * self.config.inputs
            for node in range(self.config.nodes):
                alive.append(False)
                for edge in self.entering(node):
                    source, index = self.edges[edge][0], self.operation_of(architecture[kind * len(self.edges) + edge])
                    passes = index is not None and self.config.operations[index] != "none"
                    passes = passes and (alive[source] or not self.operations[index or 0].weightless)
                    alive[-1] |= passes
                    found.append(index if passes else None)
        return tuple(found)

    def matrix(self, architecture: Architecture) -> np.ndarray:
        """Return which operation leads from which state to which: (kinds K, states, states)."""
        states = self.config.inputs + self.config.nodes
        found = np.zeros((len(self.kinds), len(self.operations), states, states))
        for place, choice in enumerate(architecture):
            kind, edge = divmod(place, len(self.edges))
            if (index := self.operation_of(choice)) is not None:
                found[kind, index, *self.edges[edge]] = 1.0
        return found.reshape(-1, states, states)

    # -- networks -------------------------------------------------------------------------------------------

    def cost(self, architecture: Architecture) -> dict[str, float]:
        """Return "macs", "parameters", "binary_macs" and "kilobytes" of the network with affine normalizations."""
        found = self.fixed_cost()
        for place, choice in enumerate(architecture):
            found += self.choice_cost(place, choice)
        return found.plain()

    def choice_cost(self, place: int, choice: int) -> Cost:
        """Return the cost of one choice at one place, over all cells of its kind."""
        kind, edge = divmod(place, len(self.edges))
        index, found = self.operation_of(choice), Cost()
        if index is None:
            return found
        for cell in self.plan():
            if cell.kind == self.kinds[kind]:
                stride = cell.stride if self.edges[edge][0] < self.config.inputs else 1
                size = cell.size if stride == cell.stride else halved(cell.size, cell.stride)
                found += self.operations[index].cost(cell.width, size, stride, self.convolution, True)
        return found

    def choice_costs(self, what: str = "macs") -> list[list[int]]:
        """Return one figure of a Cost for each choice of each place; see `search.cost.table` and `expected`."""
        return [
            [getattr(self.choice_cost(place, choice), what) for choice in range(count)]
            for place, count in enumerate(self.sizes)
        ]

    def fixed_cost(self) -> Cost:
        """Return the cost of all that no choice changes."""
        height, width = halved(self.size, self.config.stem_stride)
        stem = self.config.stem * self.config.width
        found = FLOAT.cost(self.channels, stem, 3, 1, height * width) + numbers_cost(2 * stem)
        last: Size = (height, width)
        features = stem
        for cell in self.plan():
            for channels, reduced in cell.sources:
                if reduced:
                    before = (cell.before[0], cell.before[1])
                    found += reduction_cost(channels, cell.width, before, FLOAT, True)
                else:
                    found += self.convolution.cost(channels, cell.width, 1, 1, cell.size[0] * cell.size[1])
                    found += numbers_cost(2 * cell.width)
            last, features = halved(cell.size, cell.stride), self.config.nodes * cell.width
        seen = features if self.config.head == "mean" else features * last[0] * last[1]
        return found + linear_cost(seen, self.outputs)

    def plan(self) -> Iterator[CellPlan]:
        """Yield what each cell of the network is like."""
        size = halved(self.size, self.config.stem_stride)
        stem, width = self.config.stem * self.config.width, self.config.width
        earlier: tuple[tuple[int, Size], ...] = ((stem, size), (stem, size))  # channels and sides of the last two
        for kind in self.config.layout:
            stride = 2 if kind in self.config.reductions else 1
            width *= stride
            used = earlier[-self.config.inputs :]
            sources = tuple((channels, found != size) for channels, found in used)
            yield CellPlan(kind, width, size, stride, sources, used[0][1])
            size = halved(size, stride)
            earlier = (earlier[-1], (self.config.nodes * width, size))

    def network(self, make_slot: MakeSlot, *, affine: bool = True, partial: int = 1, **options: Any) -> nn.Module:
        """Return the network.

        Args:
            make_slot: see Space.
            affine: whether normalizations inside of operations scale and shift (not so in DARTS's searches).
            partial: 1 of so many channels goes through an edge's operation while it is searched (PartialChannels).
            options: none.
        """
        if options:
            raise TypeError(f"unknown options {list(options)}")
        return CellNetwork(self, make_slot, affine, partial)

    # -- inside ---------------------------------------------------------------------------------------------

    def _draw_block(self, found: list[int], places: list[int], rng: np.random.Generator) -> None:
        if self.config.picks:
            for place in places:
                found[place] = 0
            places = rng.permutation(places)[: self.config.picks].tolist()
        for place in places:
            found[place] = int(rng.integers(len(self.operations))) + bool(self.config.picks)

    def _if_valid(self, architecture: Architecture, changes: dict[int, int]) -> Iterator[Architecture]:
        changed = tuple(changes.get(place, choice) for place, choice in enumerate(architecture))
        if self.valid(changed):
            yield changed

    def _reached(self, kind: int, architecture: Architecture) -> list[bool]:
        """Return whether the cell's input has a path to each node."""
        reached = [True] * self.config.inputs
        for node in range(self.config.nodes):
            entering = (
                (self.edges[edge][0], self.operation_of(architecture[kind * len(self.edges) + edge]))
                for edge in self.entering(node)
            )
            reached.append(
                any(
                    reached[source] and index is not None and self.config.operations[index] != "none"
                    for source, index in entering
                )
            )
        return reached[self.config.inputs :]
