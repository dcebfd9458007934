"""AutoNL: where non-local blocks stand, and how small each may be (Li et al. 2020, arXiv:2004.01961, section 4).

One training decides. A block is there while the norm of its depthwise convolution is above a threshold that learns;
more channels, and a finer grid, count while what they add is above thresholds of their own. What a larger choice adds
is exactly the larger choice minus the smaller one, so the smaller's product is a part of the larger's. Indicators are
0 or 1 and have a sigmoid's gradient (`relaxation.above`). The loss is

    task + lambda log(MACs),          MACs of the whole network, by the same indicators

and lambda is found by bisection for a budget. There is no published search code. Chosen here: the norm of a
convolution is the mean square of its weights (of their sum a sigmoid is flat); that of what a choice adds is its share
of the square of what there is then, which has no unit; thresholds begin so that all is in. Kernels, expansions and
squeeze-excitation, which the paper searches beside the blocks as Single-Path NAS does, are fixed here: `search/atomnas`
finds kernels and widths.

What was found learns anew by `teach`.

Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from envs.evaluation.search.door import Search, network_task
from envs.evaluation.search.evaluators import halves
from envs.evaluation.search.relaxation import above
from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.spaces.chain import BlockPlan
from envs.evaluation.search.spaces.light_chain import LightChainConfig, LightChainSpace
from envs.evaluation.subject import Subject
from envs.evaluation.transform import TeachConfig
from rlsuite.errors import UserError, require, require_finite
from rlsuite.fit import FitConfig, fit
from rlsuite.nn.light_nonlocal import compared_channels, sampled
from rlsuite.optim.choice import GroupConfig, OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

MEMORY = 0.9  # of the running shares, which decide in evaluation mode


class SearchableBlock(nn.Module):
    """A non-local block whose presence and size learn: (B, C, H, W) to the same shape.

    Args:
        channels: C.
        ratios: rising.
        strides: rising.
        costs: MACs of no block, then of each ratio and stride, as `LightChainSpace.choice_costs` has them.

    Attributes:
        inserted: threshold of the convolution's mean square.
        wider: (ratios - 1,) thresholds of the shares that further channels add.
        finer: (strides - 1,) those of finer grids, the coarsest but one first.
    """

    def __init__(self, channels: int, ratios: tuple[float, ...], strides: tuple[int, ...], costs: list[int]) -> None:
        super().__init__()
        self.compared = [compared_channels(channels, ratio) for ratio in ratios]
        self.strides = list(strides)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.normalization = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.normalization.weight)
        self.inserted = nn.Parameter(torch.zeros(()))
        self.wider = nn.Parameter(torch.zeros(len(ratios) - 1))
        self.finer = nn.Parameter(torch.zeros(len(strides) - 1))
        table = torch.tensor(costs[1:], dtype=torch.float32).view(len(ratios), len(strides))
        self.register_buffer("costs", table.flip(1), persistent=False)  # the coarsest grid first
        self.register_buffer("wider_share", torch.ones(len(ratios) - 1))
        self.register_buffer("finer_share", torch.ones(len(strides) - 1))
        self.shares: tuple[Tensor, Tensor] | None = None  # of the last minibatch, with gradients

    costs: Tensor
    wider_share: Tensor
    finer_share: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """Return inputs, and what the indicators let in."""
        found, shares = self._nested(inputs)
        if self.training:
            self.shares = shares
            with torch.no_grad():
                self.wider_share.lerp_(shares[0], 1.0 - MEMORY)
                self.finer_share.lerp_(shares[1], 1.0 - MEMORY)
        return inputs + self.presence() * self.normalization(self.depthwise(found))

    def presence(self) -> Tensor:
        """Return 1 if the block is there, else 0."""
        return above(self.depthwise.weight.square().mean(), self.inserted)

    def _nested(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return y with the choices that are in, and the shares by which each further one was judged."""
        coarse, *finer = self._grids(inputs)
        found, wider_shares, finer_shares = coarse[0], [], []
        # Of the coarsest grid more channels, then of all those channels finer grids.
        opened: list[Tensor] = []
        for place, more in enumerate(coarse[1:]):
            share = _share(more, found) if self.training else self.wider_share[place]
            gate = above(share, self.wider[place]) * (opened[-1] if opened else 1.0)
            opened.append(gate)
            wider_shares.append(share)
            found = found + gate * more
        levels = [1.0, *opened]
        passed: Tensor | float = 1.0
        for place, parts in enumerate(finer):
            more = functools.reduce(torch.add, [level * part for level, part in zip(levels, parts, strict=True)])
            share = _share(more, found) if self.training else self.finer_share[place]
            passed = above(share, self.finer[place]) * passed
            finer_shares.append(share)
            found = found + passed * more
        empty = inputs.new_zeros(0)
        stacked = [torch.stack(each) if each else empty for each in (wider_shares, finer_shares)]
        return found, (stacked[0], stacked[1])

    def _grids(self, inputs: Tensor) -> list[list[Tensor]]:
        """Return, the coarsest grid first, what each group of channels adds to y, each grid beyond what is before."""
        found, before = [], None
        for stride in reversed(self.strides):
            parts = list(_by_channels(inputs, self.compared, stride))
            found.append(parts if before is None else [one - other for one, other in zip(parts, before, strict=True)])
            before = parts
        return found

    def indicators(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return indicators of presence (), wider (R - 1,), finer (S - 1,); in training by the last minibatch."""
        training = self.training and self.shares is not None
        shares = self.shares if training else (self.wider_share, self.finer_share)
        assert shares is not None
        return self.presence(), above(shares[0], self.wider), above(shares[1], self.finer)

    def expected_macs(self) -> Tensor:
        """Return the MACs of what is in, differentiable."""
        presence, wider, finer = self.indicators()
        return presence * (_levels(wider)[:, None] * _levels(finer)[None] * self.costs).sum()

    @torch.no_grad()
    def decide(self) -> tuple[int, int] | None:
        """Return the places of ratio and stride that are in, None for no block; by the running shares."""
        mode, self.training = self.training, False
        presence, wider, finer = self.indicators()
        self.training = mode
        if not bool(presence > 0):
            return None
        widths, grids = int(wider.cumprod(0).sum()), int(finer.cumprod(0).sum())
        return widths, len(self.strides) - 1 - grids


def _by_channels(inputs: Tensor, compared: list[int], stride: int):
    """Yield what each further group of channels adds to y (B, C, H, W)."""
    batch, channels, height, width = inputs.shape
    small, start = sampled(inputs, stride).flatten(2), 0
    for end in compared:
        if end == start:
            yield torch.zeros_like(inputs)
        else:
            query, key = inputs.flatten(2)[:, start:end], small[:, start:end]
            turned = key.transpose(1, 2)
            cheap = (height * width + small.shape[2]) * channels * (end - start)
            pairs = height * width * small.shape[2] * (channels + end - start)
            found = (small @ turned) @ query if cheap <= pairs else small @ (turned @ query)
            yield (found / (height * width)).view(batch, channels, height, width)
        start = end


def _share(more: Tensor, before: Tensor) -> Tensor:
    """Return the share of what is added in the square of both: 0 for nothing, near 1 for nearly all."""
    added, there = more.square().mean(), before.square().mean()
    return added / (added + there + 1e-12)


def _levels(indicators: Tensor) -> Tensor:
    """Return weights (n + 1,) of nested levels, together 1: a level counts if all indicators before it are 1."""
    reached = torch.cat([indicators.new_ones(1), indicators.cumprod(0)])
    return reached - torch.cat([reached[1:], reached.new_zeros(1)])


class SearchableChain(nn.Module):
    """A chain with searchable blocks, and its MACs.

    Args:
        space: of the chain.
        seed: of the first weights.
    """

    def __init__(self, space: LightChainSpace, *, seed: int) -> None:
        super().__init__()
        config, costs = space.light, space.choice_costs()

        def make(place: int, plan: BlockPlan) -> nn.Module:
            return SearchableBlock(plan.outputs, config.ratios, config.strides, costs[place])

        self.network = space.with_blocks(make)
        space.draw(self.network, seed)
        self.space, self.fixed = space, space.cost((0,) * len(space.sizes))["macs"]
        self.blocks = (*[part for part in self.network.modules() if isinstance(part, SearchableBlock)],)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W) to outputs."""
        return self.network(pictures)

    def expected_macs(self) -> Tensor:
        """Return the MACs of the whole network, differentiable."""
        return self.fixed + functools.reduce(torch.add, [block.expected_macs() for block in self.blocks])

    def decided(self) -> Architecture:
        """Return the architecture that the indicators say."""
        return tuple(0 if (found := block.decide()) is None else self.space.choice(*found) for block in self.blocks)


@dataclass(frozen=True, kw_only=True)
class AutoNLConfig:
    """A search for places and sizes of non-local blocks.

    Attributes:
        macs: of the network at most; 0 takes what `weight` leads to.
        weight: lambda; with a budget the first of a bisection, and more than 0.
        trials: trainings at most, for a budget.
        threshold_rate: learning rate of the thresholds, which have no decay.
        space: see LightChainConfig.
        search: the training that decides, on half of the examples.
        seed: of all draws.
        teach: how the network that was found learns.
    """

    macs: float = 0.0
    weight: float = 0.1
    trials: int = 6
    threshold_rate: float = 0.01
    space: LightChainConfig = field(default_factory=LightChainConfig)
    search: FitConfig = field(
        default_factory=lambda: FitConfig(
            steps=1000, optimizer=OptimizerConfig(learning_rate=2e-3), schedule=ScheduleConfig(kind="cosine")
        )
    )
    seed: int = 0
    teach: TeachConfig = field(default_factory=TeachConfig)

    def __post_init__(self) -> None:
        require_finite("macs", self.macs, low=0.0)
        require_finite("weight", self.weight, low=0.0)
        budget = f"weight={self.weight:g}: a budget is met by raising and lowering it; begin above 0"
        require(not self.macs or self.weight > 0.0, budget)
        require_finite("threshold_rate", self.threshold_rate, above=0.0)
        require(self.trials >= 1, f"trials={self.trials}: use 1 or more")
        require(self.seed >= 0, f"seed={self.seed}: use 0 or more")


class AutoNL(Search):
    """The search as a transform."""

    Config = AutoNLConfig
    needs: ClassVar = {"convolutional": "it sees no pictures; use search/ncp"}
    config: AutoNLConfig

    def space_of(self, subject: Subject) -> tuple[str, Any]:
        """Return chains with non-local blocks."""
        return "light_chain", self.config.space

    def find(self, subject: Subject, space: Space) -> Architecture:
        """Train until the network fits the budget; the largest that does is taken."""
        config = self.config
        assert isinstance(space, LightChainSpace)
        if config.macs:
            space.require_budget("autonl.macs", config.macs)
        low, high, weight = 0.0, float("inf"), config.weight
        best: tuple[float, Architecture] | None = None
        macs = 0.0
        for trial in range(config.trials if config.macs else 1):
            folder = None if self.folder is None else self.folder / f"trial-{trial}"
            found = searched(subject, space, replace(config, weight=weight), folder).decided()
            macs = space.cost(found)["macs"]
            if not config.macs or macs <= config.macs:
                high = weight
                best = max(best or (macs, found), (macs, found))
            else:
                low = weight
            weight = 4.0 * low if high == float("inf") else high / 4.0 if low == 0.0 else (low * high) ** 0.5
        if best is None:
            raise UserError(f"autonl.macs={config.macs:.10g}: still {macs:.10g} MACs at weight={low:g}; raise weight")
        return best[1]


def searched(subject: Subject, space: LightChainSpace, config: AutoNLConfig, folder: Any = None) -> SearchableChain:
    """Return a chain after the training that decides; with a folder it goes on from what is there."""
    chain = SearchableChain(space, seed=derive_seed(config.seed, "first weights"))
    task = halves(network_task(subject), config.seed)

    def loss(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        assert isinstance(module, SearchableChain)
        error = task.loss(module, batch).mean()
        macs = module.expected_macs()
        return {"loss": error + config.weight * macs.log(), "task": error, "macs": macs}

    thresholds = GroupConfig(
        names=("*.inserted", "*.wider", "*.finer"), learning_rate=config.threshold_rate, weight_decay=0.0
    )
    # No decay on scales: those that begin at 0 would stay there.
    scales = GroupConfig(names=("*.after.normalization.*",), weight_decay=0.0)
    optimizer = replace(config.search.optimizer, groups=(*config.search.optimizer.groups, thresholds, scales))
    fit(
        chain.to(subject.device),
        loss,
        task.source("train"),
        replace(config.search, optimizer=optimizer),
        seed=derive_seed(config.seed, "search"),
        run_dir=folder,
        about={"method": "autonl", "weight": config.weight},
    )
    for block in chain.blocks:
        block.shares = None
    return chain.eval()
