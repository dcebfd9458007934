"""Widths that are learned: numbers between two widths while they are, whole ones afterwards (arXiv:2007.02017).

    f(x) = (1 - r) q_k(x) + r q_{k+1}(x),  k = floor(lambda), r = lambda - k

so lambda's gradient is q_{k+1}(x) - q_k(x), and x has the straight-through one. A layer's weights have one lambda, or
one for each output ("kernel"); its inputs have one. Levels are SAT's "original" ones; no bits are the number 0.

Shapes: O outputs of a layer; L is 1 for one lambda a layer and O for one an output.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.codes import pack_rows, unpack_rows
from envs.evaluation.quantization.rules import WeightRule
from envs.evaluation.quantization.through import through
from envs.evaluation.quantization.uniform import ClippedInput, clamped, constant_scale


def row_codes(unit: Tensor, bits: Tensor) -> Tensor:
    """Return round(n u), n = 2^k - 1, as floats, of numbers in [0, 1] and bits broadcastable to them."""
    return ((2.0**bits - 1.0) * unit).round()


def row_levels(codes: Tensor, bits: Tensor) -> Tensor:
    """Return codes / n, and 1/2 where there are no bits."""
    largest = 2.0**bits - 1.0
    return torch.where(bits > 0, codes / largest.clamp_min(1.0), torch.full_like(codes, 0.5))


def between(unit: Tensor, width: Tensor) -> Tensor:
    """Return the interpolation of the levels of two widths of numbers in [0, 1], with gradients for the width alone.

    Args:
        unit: without gradient.
        width: lambda, broadcastable to them.
    """
    lower = width.detach().floor()
    share = width - lower
    below, above = (row_levels(row_codes(unit, bits), bits) for bits in (lower, lower + 1.0))
    return (1.0 - share) * below + share * above


class _Width(nn.Module):
    """A width that is learned: lambda, its limits, and whether it is whole for good.

    It starts within its limits: beyond them it has no gradient, and would stay there.

    Attributes:
        width: (L,) lambda.
        hard: no longer learned.
    """

    def __init__(self, count: int, start: float, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high, self.hard = low, high, False
        self.width = nn.Parameter(torch.full((count,), float(min(max(start, low), high))))

    def forward(self) -> Tensor:
        """Return lambda within its limits, beyond which it has no gradient."""
        width = self.width.clamp(self.low, self.high)
        return width.detach() if self.hard else width

    @torch.no_grad()
    def rounded(self, offset: float) -> Tensor:
        """Return whole widths (L,)."""
        return (self.width + offset).round().clamp(self.low, self.high)

    @torch.no_grad()
    def harden(self, offset: float) -> None:
        """Round for good."""
        self.width.copy_(self.rounded(offset))
        self.hard = True

    def get_extra_state(self) -> Tensor:
        """Return whether it is whole, ()."""
        return torch.tensor(self.hard)

    def set_extra_state(self, state: Tensor) -> None:
        """Set what get_extra_state() returned."""
        self.hard = bool(state)


class RowWeights(WeightRule):
    """Weights clamped, each output's on levels of its own width, rescaled by one constant.

    Args:
        widths: bits of each output, (O,).
        fan: as UniformWeights has it.
    """

    def __init__(self, widths: Sequence[int], *, fan: float) -> None:
        super().__init__(max(widths))
        self.widths, self.fan = tuple(widths), fan

    @property
    def mean_bits(self) -> float:
        """The mean over outputs."""
        return sum(self.widths) / len(self.widths)

    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes, and the constant ()."""
        codes = row_codes(clamped(weight), self._bits(weight))
        return codes.to(torch.int32), constant_scale(self._levels(codes), self.fan)

    def values(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Return level times constant."""
        return self._levels(codes.float()) * scale

    def quantize(self, weight: Tensor) -> Tensor:
        """Return the weights to compute with, with gradients as UniformWeights has them."""
        codes, scale = self.codes(weight.detach())
        return through(self.values(codes, scale), (2.0 * clamped(weight) - 1.0) * scale)

    def pack(self, codes: Tensor) -> Tensor:
        """Return codes as one stream of bytes."""
        return pack_rows(codes, self.widths)

    def unpack(self, packed: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return what pack() packed."""
        return unpack_rows(packed, self.widths, shape)

    def _bits(self, like: Tensor) -> Tensor:
        bits = torch.tensor(self.widths, dtype=torch.float32, device=like.device)
        return bits.view(-1, *[1] * (like.dim() - 1))

    def _levels(self, codes: Tensor) -> Tensor:
        return 2.0 * row_levels(codes, self._bits(codes)) - 1.0


class FractionalWeights(nn.Module, WeightRule):
    """Weights of a width that is learned.

    Args:
        outputs: O.
        count: L.
        start: of lambda.
        low: the fewest bits.
        high: the most.
        fan: as UniformWeights has it.
    """

    def __init__(self, outputs: int, count: int, start: float, low: int, high: int, *, fan: float) -> None:
        nn.Module.__init__(self)
        WeightRule.__init__(self, high)
        self.outputs, self.fan = outputs, fan
        self.own = _Width(count, start, low, high)

    @property
    def mean_bits(self) -> float:
        """The mean over outputs, fractions included."""
        return float(self.own().detach().mean())

    def quantize(self, weight: Tensor) -> Tensor:
        """Return the interpolated weights; the constant is of them, without gradient."""
        unit = clamped(weight)
        levels = 2.0 * between(unit.detach(), self.own().view(-1, *[1] * (weight.dim() - 1))) - 1.0
        scale = constant_scale(levels.detach(), self.fan)
        return through(levels.detach() * scale, (2.0 * unit - 1.0 + levels) * scale)

    def widths(self) -> list[int]:
        """Return the whole widths of all outputs, (O,)."""
        found = [round(width) for width in self.own().tolist()]
        return found if len(found) == self.outputs else found * self.outputs

    def fixed(self) -> RowWeights:
        """Return the rule of the whole widths."""
        return RowWeights(self.widths(), fan=self.fan)

    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return those of the whole widths."""
        return self.fixed().codes(weight)

    def values(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Return those of the whole widths."""
        return self.fixed().values(codes, scale)


class FractionalInput(ClippedInput):
    """Inputs of a width that is learned; the rest is ClippedInput's.

    Args:
        start: of lambda.
        low: the fewest bits.
        high: the most.
        signed: whether negative inputs are kept.
        calibrated: CG-PACT.
    """

    def __init__(self, start: float, low: int, high: int, *, signed: bool, calibrated: bool) -> None:
        super().__init__(high, signed=signed, calibrated=calibrated)
        self.own = _Width(1, start, low, high)

    def levels(self, unit: Tensor) -> Tensor:
        """Return the interpolated levels of numbers in [0, 1]."""
        return between(unit, self.own()[0]) if self.rounded else unit

    def whole(self) -> int:
        """Return the whole width."""
        return round(float(self.own()[0]))

    @torch.no_grad()
    def fixed(self) -> ClippedInput:
        """Return the rule of the whole width."""
        rule = ClippedInput(self.whole(), signed=self.signed, calibrated=self.calibrated).to(self.alpha.device)
        rule.alpha.copy_(self.alpha)
        return rule
