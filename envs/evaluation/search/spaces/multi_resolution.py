"""Networks of several resolutions at once (NCP, arXiv:2103.13253, section 3.1): 27 numbers for the paper's four stages.

A stem of two convolutions of stride 2; then stage s has s branches, each of half the resolution of the one before. A
stage is repeated: each time neighbouring branches are fused, and every branch goes through residual blocks.

    code: channels of the stem, then for each stage repeats, blocks and channels of each branch, and the head's channels

Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.search.cost import Cost, linear_cost, numbers_cost, weights_cost
from envs.evaluation.search.operations import Size, halved
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.code import CodeSpace, Field
from rlsuite.errors import require
from rlsuite.nn.vision.doors import FromBytes, sides


@dataclass(frozen=True, kw_only=True)
class MultiResolutionConfig:
    """What codes may be.

    Attributes:
        stages: as many branches as this has the last one.
        counts: repeats of a stage, and blocks of a branch, at most.
        smallest: channels at least, and the step between two widths.
        largest: channels at most.
        dense: a number for each place of the picture (at the finest branch's resolution) instead of one for the whole.
    """

    stages: int = 4
    counts: int = 4
    smallest: int = 8
    largest: int = 128
    dense: bool = False

    def __post_init__(self) -> None:
        for name in ("stages", "counts", "smallest"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        good = self.largest >= self.smallest and self.largest % self.smallest == 0
        require(good, f"largest={self.largest}: use a multiple of smallest={self.smallest}")


@dataclass(frozen=True)
class Unit:
    """A convolution with its normalization: its channels, kernel, stride, and the sides of what it draws."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    drawn: Size

    def build(self, *, rectified: bool = True) -> nn.Sequential:
        """Return convolution, batch normalization and, if rectified, ReLU."""
        layer = nn.Conv2d(self.inputs, self.outputs, self.kernel, self.stride, self.kernel // 2, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(self.outputs), *([nn.ReLU()] if rectified else []))

    def cost(self) -> Cost:
        """Return the unit's cost."""
        weights = self.kernel * self.kernel * self.inputs * self.outputs
        return weights_cost(weights, self.drawn[0] * self.drawn[1]) + numbers_cost(2 * self.outputs)


@dataclass(frozen=True)
class ModulePlan:
    """One repeat of a stage.

    Attributes:
        fusions: (from, to) branches -> unit.
        new: the unit that makes a new branch from the last one that was fused; None for none.
        blocks: of each branch.
        widths: channels of each branch.
        sizes: sides of each branch.
    """

    fusions: dict[tuple[int, int], Unit]
    new: Unit | None
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    sizes: tuple[Size, ...]

    def residuals(self) -> Iterator[tuple[int, Unit]]:
        """Yield the branch and the unit of each convolution of the residual blocks, in order."""
        for branch, (count, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            for _ in range(2 * count):
                yield branch, Unit(width, width, 3, 1, self.sizes[branch])


class MultiResolutionSpace(CodeSpace):
    """See the module.

    Args:
        config: see MultiResolutionConfig.
        channels: of the pictures.
        size: W of square pictures, or (H, W).
        outputs: of the network.
    """

    Config = MultiResolutionConfig

    def __init__(self, config: MultiResolutionConfig, *, channels: int, size: int | Size, outputs: int) -> None:
        low, high = config.smallest, config.largest
        fields = [Field("i1", low, high, low), Field("i2", low, high, low)]
        for stage in range(1, config.stages + 1):
            fields.append(Field(f"b{stage}", 1, config.counts))
            fields += [Field(f"n{stage}{branch}", 1, config.counts) for branch in range(1, stage + 1)]
            fields += [Field(f"c{stage}{branch}", low, high, low) for branch in range(1, stage + 1)]
        super().__init__("multi_resolution", [*fields, Field("last", low, high, low)])
        self.config, self.channels, self.size, self.outputs = config, channels, sides(size), outputs

    def stem(self, architecture: Architecture) -> list[Unit]:
        """Return the two convolutions of the stem."""
        values, first = self.values(architecture), halved(self.size, 2)
        return [
            Unit(self.channels, values["i1"], 3, 2, first),
            Unit(values["i1"], values["i2"], 3, 2, halved(first, 2)),
        ]

    def modules(self, architecture: Architecture) -> list[ModulePlan]:
        """Return every repeat of every stage."""
        values = self.values(architecture)
        before, finest = [values["i2"]], halved(halved(self.size, 2), 2)
        found = []
        for stage in range(1, self.config.stages + 1):
            sizes = [finest]
            while len(sizes) < stage:
                sizes.append(halved(sizes[-1], 2))
            widths = [values[f"c{stage}{branch}"] for branch in range(1, stage + 1)]
            blocks = tuple(values[f"n{stage}{branch}"] for branch in range(1, stage + 1))
            for _ in range(values[f"b{stage}"]):
                fusions = {}
                for target in range(len(before)):
                    for source in range(max(0, target - 1), min(len(before), target + 2)):
                        kernel, stride = (1, 1) if source > target else (3, 1 + (source < target))
                        drawn = sizes[max(source, target)] if source > target else sizes[target]
                        fusions[source, target] = Unit(before[source], widths[target], kernel, stride, drawn)
                fresh = len(before) < stage
                new = Unit(widths[stage - 2], widths[stage - 1], 3, 2, sizes[stage - 1]) if fresh else None
                found.append(ModulePlan(fusions, new, blocks, tuple(widths), tuple(sizes)))
                before = widths
        return found

    def head(self, architecture: Architecture) -> Unit:
        """Return the 1 x 1 convolution that sees all branches side by side."""
        last = self.modules(architecture)[-1]
        drawn = last.sizes[0] if self.config.dense else last.sizes[-1]
        return Unit(sum(last.widths), self.values(architecture)["last"], 1, 1, drawn)

    def cost(self, architecture: Architecture) -> dict[str, float]:
        """Return "macs", "parameters", "binary_macs" and "kilobytes"."""
        head = self.head(architecture)
        found = head.cost()
        for unit in self.stem(architecture):
            found += unit.cost()
        for module in self.modules(architecture):
            for unit in [*module.fusions.values(), *([module.new] if module.new else [])]:
                found += unit.cost()
            for _, unit in module.residuals():
                found += unit.cost()
        if not self.config.dense:
            return (found + linear_cost(head.outputs, self.outputs)).plain()
        pixels = head.drawn[0] * head.drawn[1]
        return (found + weights_cost(head.outputs * self.outputs, pixels) + numbers_cost(self.outputs)).plain()

    def build(self, architecture: Architecture, **options: Any) -> nn.Module:
        """Return the network, its weights always the same ones."""
        built = MultiResNet(self, architecture)
        self.draw(built, 0)
        return built


class MultiResNet(nn.Module):
    """Pictures (B, C, H, W), bytes or in [0, 1], to (B, outputs), or to (B, outputs, H / 4, W / 4) if dense."""

    def __init__(self, space: MultiResolutionSpace, architecture: Architecture) -> None:
        super().__init__()
        self.dense = space.config.dense
        self.stem = nn.Sequential(FromBytes(), *[unit.build() for unit in space.stem(architecture)])
        self.repeats = nn.ModuleList([Repeat(plan) for plan in space.modules(architecture)])
        head = space.head(architecture)
        self.head = head.build()
        self.last: nn.Module = nn.Linear(head.outputs, space.outputs)
        if self.dense:
            self.last = nn.Conv2d(head.outputs, space.outputs, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return outputs; see the class."""
        branches = [self.stem(pictures)]
        for repeat in self.repeats:
            branches = repeat(branches)
        if self.dense:
            side = branches[0].shape[2:]
            maps = [functional.interpolate(branch, side, mode="bilinear", align_corners=False) for branch in branches]
            return self.last(self.head(torch.cat(maps, dim=1)))
        side = branches[-1].shape[2:]
        maps = [functional.adaptive_avg_pool2d(branch, side) for branch in branches]
        return self.last(self.head(torch.cat(maps, dim=1)).mean(dim=(2, 3)))


class Repeat(nn.Module):
    """Neighbouring branches fused, a new one where it is due, residual blocks on each."""

    def __init__(self, plan: ModulePlan) -> None:
        super().__init__()
        self.joins = list(plan.fusions)
        self.fusions = nn.ModuleList([unit.build() for unit in plan.fusions.values()])
        self.new = plan.new.build() if plan.new else None
        self.branches = nn.ModuleList([nn.ModuleList() for _ in plan.widths])
        for branch, unit in plan.residuals():
            found = self.branches[branch]
            assert isinstance(found, nn.ModuleList)
            found.append(unit.build(rectified=len(found) % 2 == 0))

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Map branches to branches, one more where one is due."""
        terms: list[list[Tensor]] = [[] for _ in branches]
        for (source, target), unit in zip(self.joins, self.fusions, strict=True):
            found = unit(branches[source])
            terms[target].append(
                functional.interpolate(found, branches[target].shape[2:]) if source > target else found
            )
        fused = [torch.relu(torch.stack(each).sum(0)) for each in terms]
        if self.new is not None:
            fused.append(self.new(fused[-1]))
        return [_residual(branch, layers) for branch, layers in zip(fused, self.branches, strict=True)]


def _residual(branch: Tensor, layers: Any) -> Tensor:
    """Return a branch after its blocks, each two units."""
    for first, second in zip(layers[::2], layers[1::2], strict=True):
        branch = torch.relu(branch + second(first(branch)))
    return branch
