"""How numbers become whole ones and back: rules for weights, which are kept as codes, and for what layers take in.

Shapes: B batch; n levels on each side of zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.codes import LARGEST_BITS, index_bits, pack, unpack
from envs.evaluation.quantization.through import through
from rlsuite.errors import require

FLOAT_BITS = 32
SMALLEST_SCALE = 1e-6


def require_bits(name: str, bits: int, lowest: int) -> None:
    """Raise UserError unless `bits` is a number of bits that there is, or 32 for floats."""
    require(
        lowest <= bits <= LARGEST_BITS or bits == FLOAT_BITS,
        f"{name}={bits}: use {lowest} to {LARGEST_BITS}, or {FLOAT_BITS} for floats",
    )


class WeightRule(ABC):
    """How one layer's weights become codes, whole numbers in [0, 2^bits), and which values these stand for.

    What is kept in a file is codes and scale. `values` of them is what the network computes with, while it learns and
    afterwards, so both give the same bits.

    Args:
        bits: of a code.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits

    @property
    def mean_bits(self) -> float:
        """The mean bits of a code over a layer's outputs, which may differ."""
        return self.bits

    @abstractmethod
    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes, in the weights' shape, and the scale they need to become values again; without gradients."""

    @abstractmethod
    def values(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Return what codes stand for, float32."""

    def quantize(self, weight: Tensor) -> Tensor:
        """Return the quantized weights, with gradients for the weights as if nothing had been done to them."""
        return through(self.values(*self.codes(weight.detach())), weight)

    def pack(self, codes: Tensor) -> Tensor:
        """Return codes as the bytes that a file holds."""
        return pack(codes, self.bits)

    def unpack(self, packed: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return what pack() packed, int32, in its shape."""
        return unpack(packed, self.bits, shape)

    def fixed(self) -> WeightRule:
        """Return the rule that a layer keeps which learns no more; this one, where there is nothing to learn in it."""
        return self


class CodebookWeights(WeightRule):
    """Weights that are entries of a table: codes are indices, and what is kept as the scale is the table itself.

    Args:
        size: values of the table.
    """

    def __init__(self, size: int) -> None:
        super().__init__(index_bits(size))
        self.size = size

    def values(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Return the entries of the table `scale` (size,) at the codes."""
        return scale[codes.long()]


class InputRule(nn.Module, ABC):
    """How what a layer takes in is quantized: any shape (B, ...) to the same.

    Args:
        bits: of a number.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Return quantized inputs, with gradients."""


# -- levels symmetric about zero, zero among them ------------------------------------------------------------------


def side_levels(bits: int) -> int:
    """Return n = 2^(bits - 1) - 1, the levels on each side of zero."""
    return 2 ** (bits - 1) - 1


def to_integers(values: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Return whole numbers in [-n, n], as floats: n stands for `scale`, and what lies beyond is clipped."""
    levels = side_levels(bits)
    return (torch.maximum(torch.minimum(values, scale), -scale) * (levels / scale)).round()


def from_integers(integers: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Return what whole numbers stand for; never beyond the scale, since n / n is 1."""
    return integers / side_levels(bits) * scale


class MaxAbsWeights(WeightRule):
    """Symmetric uniform levels up to the largest weight of a layer (arXiv:2011.04212)."""

    def codes(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes, n more than the whole numbers, and the largest absolute weight ()."""
        scale = weight.abs().max() + 1e-8
        return to_integers(weight, scale, self.bits).to(torch.int32) + side_levels(self.bits), scale

    def values(self, codes: Tensor, scale: Tensor) -> Tensor:
        """Return (code - n) / n times the scale."""
        return from_integers((codes - side_levels(self.bits)).float(), scale, self.bits)


class SymmetricInput(InputRule):
    """Inputs of symmetric uniform levels, whatever decides their scale."""

    @abstractmethod
    def scale(self, inputs: Tensor) -> Tensor:
        """Return the number that level n stands for, broadcastable to the inputs."""

    def integers(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return whole numbers in [-n, n], as floats, and the scale."""
        scale = self.scale(inputs)
        return to_integers(inputs, scale, self.bits), scale

    def forward(self, inputs: Tensor) -> Tensor:
        """Return quantized inputs, with gradients as if nothing had been done to them."""
        integers, scale = self.integers(inputs.detach())
        return through(from_integers(integers, scale, self.bits), inputs)


class MaxAbsInput(SymmetricInput):
    """The largest absolute input of each example is its scale: nothing is clipped, one large number wastes levels."""

    def scale(self, inputs: Tensor) -> Tensor:
        """Return (B, 1, ...)."""
        return inputs.abs().amax(dim=tuple(range(1, inputs.dim())), keepdim=True).clamp_min(SMALLEST_SCALE)


class RangeInput(InputRule):
    """2^bits uniform levels from `low` to `high`, both among them; what lies outside is clipped (arXiv:1606.06160).

    Args:
        bits: of a number.
        low: the smallest level.
        high: the largest.
    """

    def __init__(self, bits: int, low: float, high: float) -> None:
        super().__init__(bits)
        require(low < high, f"range=[{low}, {high}]: the second must be larger")
        self.low, self.high = low, high

    def forward(self, inputs: Tensor) -> Tensor:
        """Return quantized inputs; gradients reach them within the range."""
        width, levels = self.high - self.low, 2**self.bits - 1
        kept = inputs.clamp(self.low, self.high)
        integers = ((kept.detach() - self.low) * (levels / width)).round()
        return through(integers / levels * width + self.low, kept)
