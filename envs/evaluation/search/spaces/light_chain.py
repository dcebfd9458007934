"""Chains of inverted residual blocks with a light non-local block in some (AutoNL, arXiv:2004.01961, section 4).

The place is behind the projection and its normalization, before what came in is added. Each block has 0 (none), or one
of ratios and strides: choice 1 + i len(strides) + j. Kernel and expansion are the first of the chain's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from envs.evaluation.search.cost import Cost, numbers_cost, weights_cost
from envs.evaluation.search.operations import Size, halved
from envs.evaluation.search.space import Architecture, MakeSlot
from envs.evaluation.search.spaces.chain import (
    BlockPlan,
    ChainConfig,
    ChainNetwork,
    ChainSpaceBase,
    InvertedResidual,
    block_cost,
)
from rlsuite.errors import require
from rlsuite.nn.light_nonlocal import LightNonLocal, compared_channels, light_macs


@dataclass(frozen=True, kw_only=True)
class LightChainConfig:
    """A chain and the non-local blocks that it may have.

    Attributes:
        chain: the blocks; the first kernel and expansion count.
        ratios: shares of the channels that affinities are of, rising.
        strides: of the pixels compared with, rising.
    """

    chain: ChainConfig = field(default_factory=lambda: ChainConfig(kernels=(3,), expansions=(3,)))
    ratios: tuple[float, ...] = (0.125, 0.25)
    strides: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        good = bool(self.ratios) and self.ratios[0] > 0.0 and self.ratios[-1] <= 1.0
        require(good and _rises(self.ratios), f"ratios={list(self.ratios)}: use rising ones in (0, 1]")
        good = bool(self.strides) and self.strides[0] >= 1
        require(good and _rises(self.strides), f"strides={list(self.strides)}: use rising ones of 1 or more")


def _rises(values: tuple[float, ...]) -> bool:
    return all(one < other for one, other in zip(values, values[1:], strict=False))


class LightChainSpace(ChainSpaceBase):
    """Where non-local blocks stand, and how large each is."""

    name = "light_chain"
    Config = LightChainConfig

    def __init__(self, config: LightChainConfig, *, channels: int, size: int | Size, outputs: int) -> None:
        super().__init__(config.chain, channels=channels, size=size, outputs=outputs)
        self.light = config
        self.sizes = (1 + len(config.ratios) * len(config.strides),) * len(config.chain.widths)

    def choice(self, ratio: int, stride: int) -> int:
        """Return the choice of the ratio and stride at these places of the config's lists."""
        return 1 + ratio * len(self.light.strides) + stride

    def chosen(self, choice: int) -> tuple[float, int] | None:
        """Return ratio and stride of a choice; None for no block."""
        if not choice:
            return None
        ratio, stride = divmod(choice - 1, len(self.light.strides))
        return self.light.ratios[ratio], self.light.strides[stride]

    def light_cost(self, plan: BlockPlan, choice: int) -> Cost:
        """Return what a non-local block costs."""
        chosen = self.chosen(choice)
        if chosen is None:
            return Cost()
        height, width = halved(plan.size, plan.stride)
        compared = compared_channels(plan.outputs, chosen[0])
        macs = light_macs(plan.outputs, compared, height, width, chosen[1])
        return Cost(macs, 0, 0, 0) + weights_cost(9 * plan.outputs, 0) + numbers_cost(2 * plan.outputs)

    def hidden(self, plan: BlockPlan) -> dict[int, int]:
        """Return kernel -> hidden channels of a block."""
        return {self.config.kernels[0]: self.config.expansions[0] * plan.inputs}

    def cost(self, architecture: Architecture) -> dict[str, float]:
        """Return "macs", "parameters", "binary_macs" and "kilobytes"."""
        found = self.fixed_cost()
        for plan, choice in zip(self.plans(), architecture, strict=True):
            found += block_cost(plan, self.hidden(plan)) + self.light_cost(plan, choice)
        return found.plain()

    def choice_costs(self, what: str = "macs") -> list[list[int]]:
        """Return one figure of a Cost for each choice of each place."""
        return [
            [getattr(self.light_cost(plan, choice), what) for choice in range(self.sizes[0])] for plan in self.plans()
        ]

    def with_blocks(self, make: Callable[[int, BlockPlan], nn.Module | None]) -> ChainNetwork:
        """Return the chain with what `make` gives for each place as its block's non-local part."""
        blocks: list[nn.Module | None] = [
            InvertedResidual(plan, self.hidden(plan), after=make(place, plan))
            for place, plan in enumerate(self.plans())
        ]
        return ChainNetwork(self, blocks)

    def network(self, make_slot: MakeSlot, **options: Any) -> nn.Module:
        """Return the network, a slot for each non-local block."""
        if options:
            raise TypeError(f"unknown options {list(options)}")

        def slot(place: int, plan: BlockPlan) -> nn.Module | None:
            def make(choice: int) -> nn.Module:
                chosen = self.chosen(choice)
                return nn.Identity() if chosen is None else LightNonLocal(plan.outputs, *chosen)

            return make_slot(place, make)

        return self.with_blocks(slot)
