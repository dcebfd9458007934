"""Spaces of chains: inverted residual blocks one after another (Sandler et al. 2018, arXiv:1801.04381, section 3).

    pictures -> 3 x 3 convolution -> blocks -> [1 x 1 convolution] -> mean or all of the map -> Linear

A block widens by 1 x 1, filters each channel by k x k, and narrows by 1 x 1; where shapes allow it, what came in is
added. Several kernels may stand side by side in one block, each on hidden channels of its own (AtomNAS,
arXiv:1912.09640, section 3.1): their narrowed outputs are summed before one normalization.

Two spaces of the same chain: `ChainSpace` chooses a kernel and an expansion for each block, `AtomSpace` how many hidden
channels each kernel of each block has.

Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from envs.evaluation.search.cost import Cost, linear_cost, numbers_cost, weights_cost
from envs.evaluation.search.operations import Size, halved
from envs.evaluation.search.space import Architecture, MakeSlot, Space
from rlsuite.errors import require, require_choice
from rlsuite.nn.vision.doors import FromBytes, sides

HEADS = ("mean", "all")


@dataclass(frozen=True, kw_only=True)
class ChainConfig:
    """A chain of inverted residual blocks.

    Attributes:
        widths: channels of each block.
        strides: of each block.
        kernels: that a block may have.
        expansions: hidden channels of one kernel, as multiples of what enters the block.
        skips: whether a block that keeps its shape may be left out (ChainSpace).
        stem: channels of the first convolution.
        stem_stride: its stride.
        last: channels of a 1 x 1 convolution behind the blocks; 0 for none.
        head: what the last layer sees: the "mean" of each map, or "all" of it.
        corner: side of the upper left part of each map that the head looks at; 0 for the whole map.
    """

    widths: tuple[int, ...] = (16, 16, 32, 32)
    strides: tuple[int, ...] = (1, 1, 2, 1)
    kernels: tuple[int, ...] = (3, 5)
    expansions: tuple[int, ...] = (4,)
    skips: bool = False
    stem: int = 16
    stem_stride: int = 1
    last: int = 0
    head: str = "mean"
    corner: int = 0

    def __post_init__(self) -> None:
        require(bool(self.widths) and min(self.widths) >= 1, f"widths={list(self.widths)}: use widths of 1 or more")
        require(
            len(self.strides) == len(self.widths) and min(self.strides) >= 1,
            f"strides={list(self.strides)}: use {len(self.widths)} strides of 1 or more, one for each width",
        )
        require(
            bool(self.kernels) and all(kernel % 2 == 1 and kernel >= 1 for kernel in self.kernels),
            f"kernels={list(self.kernels)}: use odd ones, such as [3,5]",
        )
        require(
            bool(self.expansions) and min(self.expansions) >= 1,
            f"expansions={list(self.expansions)}: use multiples of 1 or more",
        )
        for name in ("stem", "stem_stride"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.last >= 0, f"last={self.last}: use 0 (none) or more")
        require(self.corner >= 0, f"corner={self.corner}: use 0 (the whole map) or more")
        require_choice("head", self.head, HEADS)


class BlockPlan(NamedTuple):
    """What stands between a block's ends: channels in and out, stride, and the sides of what comes in."""

    inputs: int
    outputs: int
    stride: int
    size: Size

    @property
    def keeps_shape(self) -> bool:
        """Whether what comes in can be added to what goes out."""
        return self.inputs == self.outputs and self.stride == 1


class InvertedResidual(nn.Module):
    """A block: (B, C, H, W) to (B, C', H', W').

    Args:
        plan: its ends.
        hidden: kernel -> hidden channels; kernels with 0 are left out.
        activation: behind the first two normalizations.
        after: of what was narrowed and normalized, before what came in is added, such as a non-local block; None for
            nothing.
    """

    def __init__(
        self,
        plan: BlockPlan,
        hidden: Mapping[int, int],
        activation: Callable[[], nn.Module] = nn.ReLU,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.hidden = {kernel: count for kernel, count in hidden.items() if count}
        self.widen, self.filter, self.narrow = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for kernel, count in self.hidden.items():
            depthwise = nn.Conv2d(count, count, kernel, plan.stride, kernel // 2, groups=count, bias=False)
            first = nn.Conv2d(plan.inputs, count, 1, bias=False)
            self.widen[str(kernel)] = nn.Sequential(first, nn.BatchNorm2d(count), activation())
            self.filter[str(kernel)] = nn.Sequential(depthwise, nn.BatchNorm2d(count), activation())
            self.narrow[str(kernel)] = nn.Conv2d(count, plan.outputs, 1, bias=False)
        self.normalization = nn.BatchNorm2d(plan.outputs) if self.hidden else None
        self.after = after

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the block's output: what came in, where no hidden channel is left and shapes allow it, else zeros."""
        plan = self.plan
        if self.normalization is None:
            if plan.keeps_shape:
                return inputs
            height, width = halved((inputs.shape[2], inputs.shape[3]), plan.stride)
            return inputs.new_zeros(len(inputs), plan.outputs, height, width)
        terms = [self.narrow[key](self.filter[key](self.widen[key](inputs))) for key in self.widen]
        found = self.normalization(functools.reduce(torch.add, terms))
        if self.after is not None:
            found = self.after(found)
        return inputs + found if plan.keeps_shape else found


def atom_cost(plan: BlockPlan, kernel: int) -> Cost:
    """Return what one hidden channel of a kernel costs: its row, its filter, its column, its two normalizations."""
    height, width = halved(plan.size, plan.stride)
    return (
        weights_cost(plan.inputs, plan.size[0] * plan.size[1])
        + weights_cost(kernel * kernel + plan.outputs, height * width)
        + numbers_cost(4)
    )


def block_cost(plan: BlockPlan, hidden: Mapping[int, int]) -> Cost:
    """Return what a block costs."""
    found = numbers_cost(2 * plan.outputs) if any(hidden.values()) else Cost()
    for kernel, count in hidden.items():
        atom = atom_cost(plan, kernel)
        found += Cost(count * atom.macs, count * atom.parameters, 0, count * atom.bits)
    return found


class ChainSpaceBase(Space):
    """What both spaces share: the chain around the blocks.

    Args:
        config: see ChainConfig.
        channels: of the pictures.
        size: W of square pictures, or (H, W).
        outputs: of the network.
    """

    Config = ChainConfig

    def __init__(self, config: ChainConfig, *, channels: int, size: int | Size, outputs: int) -> None:
        self.config, self.channels, self.size, self.outputs = config, channels, sides(size), outputs

    def plans(self) -> Iterator[BlockPlan]:
        """Yield the ends of each block."""
        size, inputs = halved(self.size, self.config.stem_stride), self.config.stem
        for width, stride in zip(self.config.widths, self.config.strides, strict=True):
            yield BlockPlan(inputs, width, stride, size)
            size, inputs = halved(size, stride), width

    def fixed_cost(self) -> Cost:
        """Return the cost of all but the blocks."""
        config, stem = self.config, halved(self.size, self.config.stem_stride)
        found = weights_cost(9 * self.channels * config.stem, stem[0] * stem[1]) + numbers_cost(2 * config.stem)
        *_, final = self.plans()
        side, features = halved(final.size, final.stride), config.widths[-1]
        pixels = side[0] * side[1]
        if config.last:
            found += weights_cost(features * config.last, pixels) + numbers_cost(2 * config.last)
            features = config.last
        seen = pixels if not config.corner else min(config.corner, side[0]) * min(config.corner, side[1])
        return found + linear_cost(features * (seen if config.head == "all" else 1), self.outputs)


class ChainSpace(ChainSpaceBase):
    """A kernel and an expansion for each block: choice k * len(expansions) + e; one more where a block may go."""

    name = "chain"

    def __init__(self, config: ChainConfig, *, channels: int, size: int | Size, outputs: int) -> None:
        super().__init__(config, channels=channels, size=size, outputs=outputs)
        options = len(config.kernels) * len(config.expansions)
        self.sizes = tuple(options + (config.skips and plan.keeps_shape) for plan in self.plans())

    def hidden(self, plan: BlockPlan, choice: int) -> dict[int, int]:
        """Return kernel -> hidden channels of a choice; {} for a block that is left out."""
        kernel, expansion = divmod(choice, len(self.config.expansions))
        if kernel == len(self.config.kernels):
            return {}
        return {self.config.kernels[kernel]: self.config.expansions[expansion] * plan.inputs}

    def cost(self, architecture: Architecture) -> dict[str, float]:
        """Return "macs", "parameters", "binary_macs" and "kilobytes"."""
        found = self.fixed_cost()
        for plan, choice in zip(self.plans(), architecture, strict=True):
            found += block_cost(plan, self.hidden(plan, choice))
        return found.plain()

    def choice_costs(self, what: str = "macs") -> list[list[int]]:
        """Return one figure of a Cost for each choice of each place."""
        return [
            [getattr(block_cost(plan, self.hidden(plan, choice)), what) for choice in range(count)]
            for plan, count in zip(self.plans(), self.sizes, strict=True)
        ]

    def network(self, make_slot: MakeSlot, **options: Any) -> nn.Module:
        """Return the network, a slot for each block."""
        if options:
            raise TypeError(f"unknown options {list(options)}")
        blocks = []
        for place, plan in enumerate(self.plans()):

            def make(choice: int, plan: BlockPlan = plan) -> nn.Module:
                return InvertedResidual(plan, self.hidden(plan, choice))

            blocks.append(make_slot(place, make))
        return ChainNetwork(self, blocks)


class AtomSpace(ChainSpaceBase):
    """Hidden channels for each kernel of each block: block after block, kernel after kernel.

    The largest counts are the largest expansion's.
    """

    name = "atom"

    def __init__(self, config: ChainConfig, *, channels: int, size: int | Size, outputs: int) -> None:
        super().__init__(config, channels=channels, size=size, outputs=outputs)
        self.sizes = tuple(max(config.expansions) * plan.inputs + 1 for plan in self.plans() for _ in config.kernels)

    def hidden(self, architecture: Architecture) -> list[dict[int, int]]:
        """Return kernel -> hidden channels for each block."""
        kernels = self.config.kernels
        starts = range(0, len(architecture), len(kernels))
        return [dict(zip(kernels, architecture[start : start + len(kernels)], strict=True)) for start in starts]

    @property
    def largest(self) -> Architecture:
        """The network with all channels."""
        return tuple(size - 1 for size in self.sizes)

    def valid(self, architecture: Architecture) -> bool:
        """Return whether every block that changes shapes has a hidden channel left."""
        return all(
            plan.keeps_shape or any(hidden.values())
            for plan, hidden in zip(self.plans(), self.hidden(architecture), strict=True)
        )

    def cost(self, architecture: Architecture) -> dict[str, float]:
        """Return "macs", "parameters", "binary_macs" and "kilobytes"."""
        found = self.fixed_cost()
        for plan, hidden in zip(self.plans(), self.hidden(architecture), strict=True):
            found += block_cost(plan, hidden)
        return found.plain()

    def network(self, make_slot: MakeSlot, **options: Any) -> nn.Module:
        """Raise TypeError: channels are cut out of one network, not chosen among modules. Use `build`."""
        raise TypeError("a space of atoms has no slots; build(largest) is its supernet")

    def build(self, architecture: Architecture, **options: Any) -> nn.Module:
        """Return the network with these hidden channels; options: activation."""
        blocks: list[nn.Module | None] = [
            InvertedResidual(plan, hidden, **options)
            for plan, hidden in zip(self.plans(), self.hidden(architecture), strict=True)
        ]
        built = ChainNetwork(self, blocks)
        self.draw(built, 0)
        return built


class ChainNetwork(nn.Module):
    """Pictures (B, C, H, W), bytes or in [0, 1], to (B, outputs).

    Args:
        space: whose ends it has.
        blocks: between them.
    """

    def __init__(self, space: ChainSpaceBase, blocks: list[nn.Module | None]) -> None:
        super().__init__()
        config = space.config
        first = nn.Conv2d(space.channels, config.stem, 3, stride=config.stem_stride, padding=1, bias=False)
        self.stem = nn.Sequential(FromBytes(), first, nn.BatchNorm2d(config.stem), nn.ReLU())
        self.blocks = nn.Sequential(*[block for block in blocks if block is not None])
        features, self.whole = config.widths[-1], config.head == "all"
        self.seen = slice(config.corner or None)
        self.last = nn.Sequential()
        if config.last:
            conv = nn.Conv2d(features, config.last, 1, bias=False)
            self.last = nn.Sequential(conv, nn.BatchNorm2d(config.last), nn.ReLU())
            features = config.last
        *_, final = space.plans()
        side = halved(final.size, final.stride)
        side = (min(config.corner or side[0], side[0]), min(config.corner or side[1], side[1]))
        self.head = nn.Linear(features * (side[0] * side[1] if self.whole else 1), space.outputs)

    def features(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W) to what the last layer sees (B, F)."""
        maps = self.last(self.blocks(self.stem(pictures)))[:, :, self.seen, self.seen]
        return maps.flatten(1) if self.whole else maps.mean(dim=(2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W) to (B, outputs)."""
        return self.head(self.features(pictures))
