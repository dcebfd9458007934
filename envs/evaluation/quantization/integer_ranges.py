"""Which numbers can come up in an integer network: the smallest and largest of every value, by channel.

Bounds of a layer's sums come from its weights themselves: [low sum of positive weights + high sum of negative ones,
...], four to ten times tighter than fan-in times the largest weight (arXiv:2008.13128 leaves the domain open).

Shapes: C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from envs.evaluation.quantization.integer import (
    WORD,
    Add,
    Affine,
    Flatten,
    IntegerNetwork,
    Join,
    Lookup,
    Product,
    Step,
    Total,
    Windows,
)
from rlsuite.errors import require


class Range(NamedTuple):
    """The smallest and largest number of each channel, (C,) int64 both."""

    low: Tensor
    high: Tensor

    def __or__(self, other: Range) -> Range:  # type: ignore[override]
        """Return what holds both."""
        return Range(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))


def product_range(step: Product, given: Range) -> Range:
    """Return the range of a layer's sums, bias included."""
    weight = step.weight.to(torch.int64)
    low, high = given
    if step.padding != (0, 0):
        low, high = low.clamp_max(step.pad), high.clamp_min(step.pad)
    flat = weight.flatten(2).movedim(1, 2) if weight.dim() == 4 else weight.unsqueeze(1)  # (O, places, C / groups)
    lows, highs = [], []
    parts = zip(flat.chunk(step.groups), low.chunk(step.groups), high.chunk(step.groups), strict=True)
    for own, smallest, largest in parts:
        positive, negative = own.clamp_min(0), own.clamp_max(0)
        lows.append((positive * smallest + negative * largest).sum((1, 2)))
        highs.append((positive * largest + negative * smallest).sum((1, 2)))
    return Range(torch.cat(lows) + step.bias, torch.cat(highs) + step.bias)


def affine_range(step: Affine, given: Range) -> Range:
    """Return the range of what an affine step gives."""
    ends = []
    for end in given:
        kept = torch.minimum(torch.maximum(end, step.least.to(torch.int64)), step.most.to(torch.int64))
        shifted = (kept * step.multiplier.to(torch.int64) + step.offset) >> step.shift.to(torch.int64)
        ends.append(torch.minimum(torch.maximum(shifted, step.low.to(torch.int64)), step.high.to(torch.int64)))
    return Range(torch.minimum(*ends), torch.maximum(*ends))


def ranges(network: IntegerNetwork, *, low: int = -128, high: int = 127) -> list[Range]:
    """Return the range of every value of a network whose input lies in [low, high]; its maps' sizes follow `shape`.

    Raises:
        UserError: if sums may leave 32 bits, naming the step.
    """
    channels = network.shape[0]
    found = [Range(torch.full((channels,), low), torch.full((channels,), high))]
    sizes = [tuple(network.shape[1:])]
    for number, step in enumerate(network.steps):
        assert isinstance(step, Step)
        given = [found[source] for source in step.sources]
        size = _size(step, sizes[step.sources[0]])
        made = RULES[type(step)](step, sizes[step.sources[0]], *given)
        largest = max(-int(made.low.min()) - 1, int(made.high.max()))
        require(
            largest <= WORD, f"step {number} ({type(step).__name__}): sums may reach {largest}, beyond 32 bits; use "
            "fewer bits or a smaller layer"
        )  # fmt: skip
        found.append(made)
        sizes.append(size)
    return found


def _size(step: Step, size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sides of the map that a step gives, () for rows."""
    if isinstance(step, Flatten | Total):
        return ()
    if isinstance(step, Windows) or (isinstance(step, Product) and step.weight.dim() == 4):
        kernel = step.size if isinstance(step, Windows) else step.weight.shape[2:]
        sides = zip(size, kernel, step.stride, step.padding, strict=True)
        return tuple((side + 2 * pad - wide) // stride + 1 for side, wide, stride, pad in sides)
    return size


def _windows(step: Windows, size: tuple[int, ...], given: Range) -> Range:
    if step.kind == "max":
        return given
    return Range(*(end * step.size[0] * step.size[1] for end in given))


def _flatten(step: Flatten, size: tuple[int, ...], given: Range) -> Range:
    return Range(*(end.repeat_interleave(int(torch.Size(size).numel())) for end in given))


def _join(step: Join, size: tuple[int, ...], *given: Range) -> Range:
    return Range(torch.cat([one.low for one in given]), torch.cat([one.high for one in given]))


def _lookup(step: Lookup, size: tuple[int, ...], given: Range) -> Range:
    ends = (step.table.min().to(torch.int64), step.table.max().to(torch.int64))
    return Range(*(end.expand(len(given.low)) for end in ends))


RULES: dict[type, Callable[..., Range]] = {
    Product: lambda step, size, given: product_range(step, given),
    Affine: lambda step, size, given: affine_range(step, given),
    Add: lambda step, size, one, other: Range(one.low + other.low, one.high + other.high),
    Join: _join,
    Windows: _windows,
    Total: lambda step, size, given: Range(*(end * torch.Size(size).numel() for end in given)),
    Flatten: _flatten,
    Lookup: _lookup,
}
