"""The networks of a space of cells: `spaces/cell.py` says which operations stand on their edges.

Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from envs.evaluation.search.operations import FLOAT, Convolution, FactorizedReduction, Size, halved
from envs.evaluation.search.relaxation import PartialChannels
from envs.evaluation.search.space import MakeSlot
from rlsuite.errors import require
from rlsuite.nn.vision.doors import FromBytes

if TYPE_CHECKING:
    from envs.evaluation.search.spaces.cell import CellSpace


@dataclass(frozen=True)
class CellPlan:
    """What a cell of the network is like.

    Attributes:
        kind: of the layout.
        width: C of its nodes.
        size: of its inputs, once they are brought to one size.
        stride: of edges from its inputs.
        sources: of each input its channels, and whether it must be halved first.
        before: sides of the first input, before that.
    """

    kind: str
    width: int
    size: Size
    stride: int
    sources: tuple[tuple[int, bool], ...]
    before: Size


class CellNetwork(nn.Module):
    """Pictures (B, C, H, W), bytes or in [0, 1], to (B, outputs). See the module.

    Args:
        space: whose network it is.
        make_slot: what stands on an edge.
        affine: see CellSpace.network.
        partial: likewise.
    """

    def __init__(self, space: CellSpace, make_slot: MakeSlot, affine: bool, partial: int) -> None:
        super().__init__()
        config = space.config
        self.inputs, self.whole = config.inputs, config.head == "all"
        stem = config.stem * config.width
        first = nn.Conv2d(space.channels, stem, 3, stride=config.stem_stride, padding=1, bias=False)
        self.stem = nn.Sequential(FromBytes(), first, nn.BatchNorm2d(stem))
        self.cells = nn.ModuleList([Cell(space, cell, make_slot, affine, partial) for cell in space.plan()])
        *_, last = space.plan()
        side = halved(last.size, last.stride)
        features = config.nodes * last.width * (side[0] * side[1] if self.whole else 1)
        self.head = nn.Linear(features, space.outputs)

    def features(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W) to what the last layer sees (B, F)."""
        stem = self.stem(pictures)
        states = [stem] * self.inputs
        for cell in self.cells:
            states = [*states, cell(states)][-self.inputs :]
        maps = torch.relu(states[-1])
        return maps.flatten(1) if self.whole else maps.mean(dim=(2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W) to (B, outputs)."""
        return self.head(self.features(pictures))


class Cell(nn.Module):
    """A graph of operations: inputs (B, C', H', W') each to (B, nodes C, H, W).

    Args:
        space: whose edges and operations these are.
        plan: what the cell is like.
        make_slot: what stands on an edge.
        affine: of normalizations in operations.
        partial: see CellSpace.network.
    """

    def __init__(self, space: CellSpace, plan: CellPlan, make_slot: MakeSlot, affine: bool, partial: int) -> None:
        super().__init__()
        require(plan.width % partial == 0, f"width={plan.width}: use a multiple of {partial}, the share of channels")
        self.joins = space.edges
        self.num_inputs, self.num_nodes = space.config.inputs, space.config.nodes
        self.prepare = nn.ModuleList(
            [_prepared(channels, plan.width, reduced, space.convolution) for channels, reduced in plan.sources]
        )
        start = space.kinds.index(plan.kind) * len(space.edges)
        edges: dict[str, nn.Module] = {}
        for number, (source, _) in enumerate(space.edges):
            stride = plan.stride if source < self.num_inputs else 1

            def make(choice: int, stride: int = stride) -> nn.Module | None:
                index = space.operation_of(choice)
                if index is None:
                    return None
                return space.operations[index].make(plan.width // partial, stride, space.convolution, affine)

            made = make_slot(start + number, make)
            if made is not None:
                edges[str(number)] = made if partial == 1 else PartialChannels(made, partial, stride)
        self.edges = nn.ModuleDict(edges)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Return all nodes side by side."""
        states = [prepare(each) for prepare, each in zip(self.prepare, inputs, strict=True)]
        for node in range(self.num_inputs, self.num_inputs + self.num_nodes):
            terms = [
                edge(states[self.joins[int(number)][0]])
                for number, edge in self.edges.items()
                if self.joins[int(number)][1] == node and not getattr(edge, "absent", False)
            ]
            states.append(functools.reduce(torch.add, terms))
        return torch.cat(states[self.num_inputs :], dim=1)


def _prepared(channels: int, width: int, reduced: bool, convolution: Convolution) -> nn.Module:
    """Return what brings a cell's input to its width: ReLU, 1 x 1, normalization; floats where it is halved, too."""
    if reduced:
        return FactorizedReduction(channels, width, FLOAT, True)
    layers: list[nn.Module] = [convolution.make(channels, width, 1), nn.BatchNorm2d(width)]
    return nn.Sequential(*([] if convolution.input_bits == 1 else [nn.ReLU()]), *layers)
