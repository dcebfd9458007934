"""Networks that draw density maps: extraction cells going down, fusion cells coming up (NAS-Count, arXiv:2003.00217).

    pictures -> 3 x 3, stride 2 -> cell 0 -> pool -> cell 1 -> ... ;   fusion of each level: what is below it, joined

Two levels of choices. Micro: an operation on each edge of an extraction cell, and on each input of a fusion cell.
Macro: which inputs a fusion cell has at all: its own level, the fusion below it, and every deeper extraction cell, all
brought to one size. Choice 0 is no edge; of each node and each fusion one or two remain. The map has half the pictures'
sides and is 0 or more (Softplus: a ReLU's zeros would stay where targets are small).

No code was published. Operations are recalled (no zeros among them); nodes, widths and pools are chosen here.

Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.search.cost import Cost, numbers_cost, total, weights_cost
from envs.evaluation.search.operations import FLOAT, Size, find_operations, halved
from envs.evaluation.search.relaxation import PartialChannels
from envs.evaluation.search.space import Architecture, MakeSlot, Space
from rlsuite.errors import require
from rlsuite.nn.vision.doors import FromBytes, sides

EXTRACTION = (
    *("conv_1x1", "full_dil_conv_3x3", "full_dil_conv_5x5", "full_dil_conv_7x7"),
    *("sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "skip_connect"),
)
FUSION = ("conv_1x1", "conv_3x3", "sep_conv_3x3", "skip_connect")
MOST = 2  # edges into a node, inputs of a fusion


@dataclass(frozen=True, kw_only=True)
class CountingConfig:
    """Counting networks.

    Attributes:
        levels: extraction cells, each at half the sides of the one before.
        nodes: of each.
        width: channels everywhere.
        extraction: operations of extraction cells.
        fusion: operations on inputs of fusion cells.
    """

    levels: int = 3
    nodes: int = 4
    width: int = 16
    extraction: tuple[str, ...] = EXTRACTION
    fusion: tuple[str, ...] = FUSION

    def __post_init__(self) -> None:
        require(self.levels >= 2, f"levels={self.levels}: use 2 or more, else there is nothing to fuse")
        for name in ("nodes", "width"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        for name in ("extraction", "fusion"):
            require(bool(getattr(self, name)), f"{name}=[]: name an operation, such as conv_1x1")
            find_operations(getattr(self, name))


class CountingSpace(Space):
    """Places: edges of each extraction cell (node by node), then inputs of each fusion cell, the deepest first.

    Attributes:
        groups: of each place: the node or fusion it enters.
    """

    name = "counting"
    Config = CountingConfig

    def __init__(self, config: CountingConfig, *, channels: int, size: int | Size) -> None:
        self.config, self.channels, self.size = config, channels, sides(size)
        least = 2**config.levels
        require(min(self.size) >= least, f"size={list(self.size)}: use sides of {least} pixels or more")
        self.edges = [(source, node) for node in range(1, config.nodes + 1) for source in range(node)]
        self.inputs = {level: self._inputs(level) for level in range(config.levels - 2, -1, -1)}
        self.extraction, self.fusion = find_operations(config.extraction), find_operations(config.fusion)
        groups = [cell * config.nodes + node - 1 for cell in range(config.levels) for _, node in self.edges]
        for number, names in enumerate(self.inputs.values()):
            groups += [config.levels * config.nodes + number] * len(names)
        self.groups = tuple(groups)
        first = config.levels * len(self.edges)
        self.sizes = tuple(
            1 + len(self.extraction if place < first else self.fusion) for place in range(len(self.groups))
        )

    def _inputs(self, level: int) -> list[str]:
        """Return what a level's fusion may see: "cell 1" or "fusion 1"; the deepest cell stands for its fusion."""
        deeper = [f"cell {other}" for other in range(level, self.config.levels)]
        return deeper + ([f"fusion {level + 1}"] if level + 1 < self.config.levels - 1 else [])

    def valid(self, architecture: Architecture) -> bool:
        """Return whether one or two edges enter each node and each fusion."""
        entering = [0] * (max(self.groups) + 1)
        for group, choice in zip(self.groups, architecture, strict=True):
            entering[group] += choice > 0
        return all(1 <= count <= MOST for count in entering)

    def sample(self, rng: Any) -> Architecture:
        """Draw one or two edges for each node, uniformly over sets of edges, and their operations."""
        found = [0] * len(self.sizes)
        for group in range(max(self.groups) + 1):
            places = [place for place, own in enumerate(self.groups) if own == group]
            pairs = len(places) * (len(places) - 1) // 2
            count = 2 if rng.integers(len(places) + pairs) >= len(places) else 1
            for place in rng.choice(places, size=count, replace=False):
                found[int(place)] = 1 + int(rng.integers(self.sizes[int(place)] - 1))
        return tuple(found)

    def side(self, level: int) -> Size:
        """Return the sides of a level's maps."""
        size = halved(self.size, 2)
        for _ in range(level):
            size = (size[0] // 2, size[1] // 2)
        return size

    def cost(self, architecture: Architecture) -> dict[str, float]:
        """Return "macs", "parameters", "binary_macs" and "kilobytes"."""
        config, width = self.config, self.config.width

        def conv(inputs: int, outputs: int, kernel: int, size: Size) -> Cost:
            return weights_cost(inputs * outputs * kernel * kernel, size[0] * size[1]) + numbers_cost(2 * outputs)

        costs = [conv(self.channels, width, 3, self.side(0)), weights_cost(width, self.side(0)[0] * self.side(0)[1])]
        costs.append(numbers_cost(1))
        choices = iter(architecture)
        for level in range(config.levels):
            costs.append(conv(config.nodes * width, width, 1, self.side(level)))
            costs += [self._cost(self.extraction, next(choices), level) for _ in self.edges]
        for level, names in self.inputs.items():
            costs.append(numbers_cost(2 * width))
            costs += [self._cost(self.fusion, next(choices), level) for _ in names]
        return total(costs).plain()

    def _cost(self, operations: Any, choice: int, level: int) -> Cost:
        if not choice:
            return Cost()
        return operations[choice - 1].cost(self.config.width, self.side(level), 1, FLOAT, True)

    def network(self, make_slot: MakeSlot, *, partial: int = 1, **options: Any) -> nn.Module:
        """Return the network; with partial, 1 of so many channels goes through the operations of extraction cells."""
        if options:
            raise TypeError(f"unknown options {list(options)}")
        return CountingNetwork(self, make_slot, partial)


class CountingNetwork(nn.Module):
    """Pictures (B, C, H, W), bytes or in [0, 1], to maps (B, 1, ceil(H / 2), ceil(W / 2))."""

    def __init__(self, space: CountingSpace, make_slot: MakeSlot, partial: int) -> None:
        super().__init__()
        config, width = space.config, space.config.width
        require(width % partial == 0, f"width={width}: use a multiple of {partial}, the share of channels")
        self.joins, self.inputs, self.levels, self.nodes = space.edges, space.inputs, config.levels, config.nodes
        first = nn.Conv2d(space.channels, width, 3, stride=2, padding=1, bias=False)
        self.stem = nn.Sequential(FromBytes(), first, nn.BatchNorm2d(width), nn.ReLU())
        self.places, place = nn.ModuleDict(), 0

        def put(name: str, operations: Any, share: int) -> None:
            nonlocal place

            def make(choice: int) -> nn.Module | None:
                return operations[choice - 1].make(width // share, 1, FLOAT, True) if choice else None

            made = make_slot(place, make)
            place += 1
            if made is not None:
                self.places[name] = made if share == 1 else PartialChannels(made, share, 1)

        for level in range(config.levels):
            for source, node in space.edges:
                put(f"cell_{level}_{source}_{node}", space.extraction, partial)
        for level, names in space.inputs.items():
            for name in names:
                put(f"fusion_{level}_{name.replace(' ', '_')}", space.fusion, 1)
        self.gather = nn.ModuleList(
            nn.Sequential(nn.Conv2d(config.nodes * width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in range(config.levels)
        )
        self.normalize = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(width), nn.ReLU()) for _ in space.inputs)
        self.head = nn.Sequential(nn.Conv2d(width, 1, 1), nn.Softplus())

    def forward(self, pictures: Tensor) -> Tensor:
        """Return density maps."""
        maps, known = self.stem(pictures), {}
        for level in range(self.levels):
            maps = functional.max_pool2d(maps, 2) if level else maps
            maps = self._cell(level, maps)
            known[f"cell {level}"] = maps
        for number, (level, names) in enumerate(self.inputs.items()):
            size = known[f"cell {level}"].shape[2:]
            terms = []
            for name in names:
                part = self._there(f"fusion_{level}_{name.replace(' ', '_')}")
                if part is not None:
                    value = known[name]
                    if value.shape[2:] != size:
                        value = functional.interpolate(value, size=size, mode="bilinear", align_corners=False)
                    terms.append(part(value))
            maps = self.normalize[number](functools.reduce(torch.add, terms))
            known[f"fusion {level}"] = maps
        return self.head(maps)

    def _cell(self, level: int, maps: Tensor) -> Tensor:
        states = [maps]
        for node in range(1, self.nodes + 1):
            terms = []
            for source, target in self.joins:
                part = self._there(f"cell_{level}_{source}_{target}") if target == node else None
                if part is not None:
                    terms.append(part(states[source]))
            states.append(functools.reduce(torch.add, terms))
        return self.gather[level](torch.cat(states[1:], dim=1))

    def _there(self, name: str) -> nn.Module | None:
        """Return what stands at a place, None for nothing."""
        if name not in self.places or getattr(self.places[name], "absent", False):
            return None
        return self.places[name]
