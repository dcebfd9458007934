"""Networks of whole numbers alone: int8 operands, int32 sums, and (A u + B) >> L, clipped, between them.

    Product      u = x * W + b          int8 -> int32, a linear layer or a convolution
    Affine       (A u + B) >> L         int32 -> int8 or int32; A and B by channel, L of a layer
    Add, Join, Windows, Total, Flatten  sums, channels side by side, pooling, sums over a map, maps to rows
    Lookup       table[u]               int32 -> int16: a nonlinearity's last word

What fills it: BReLU's multiplier and shift (`brelu.py`), BatchNorm in fixed point (`bn_fixed_point.py`), thresholds,
which are k = 1. The same steps run in torch (here), in numpy (`integer_numpy.py`) and in onnxruntime
(`integer_onnx.py`), to the same bytes; `integer_ranges.py` says which numbers can come up.

A right shift rounds down, of negative numbers, too.

Shapes: B batch, C channels in, O out, H x W pixels, K x K a kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rlsuite.errors import require

WORD = 2**31 - 1


class Step(nn.Module):
    """One operation of an integer network, on values that are known by number: 0 is the input, i + 1 what step i gives.

    Args:
        sources: numbers of the values it takes.
    """

    def __init__(self, *sources: int) -> None:
        super().__init__()
        self.sources = sources


class Product(Step):
    """A layer's sums. What pads a convolution is `pad`, which stands for real 0 (or, of bytes less 128, is -128).

    Attributes:
        weight: (O, C) or (O, C / groups, K, K) int8; int16 of more than 8 bits.
        bias: (O,) int32.

    Args:
        source: number of what it takes.
        shape: of the weights.
        stride: of a convolution, down and right.
        padding: of a convolution, on both sides, down and right.
        pad: what is put there.
        groups: of a convolution.
        weight_bits: of a weight, for probes.
        input_bits: of what it takes in, for probes.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        source: int,
        shape: Sequence[int],
        *,
        stride: tuple[int, int] = (1, 1),
        padding: tuple[int, int] = (0, 0),
        pad: int = 0,
        groups: int = 1,
        weight_bits: int = 8,
        input_bits: int = 8,
    ) -> None:
        super().__init__(source)
        self.stride, self.padding, self.pad, self.groups = stride, padding, pad, groups
        self.weight_bits, self.input_bits = weight_bits, input_bits
        self.num_weights = torch.Size(shape).numel()
        dtype = torch.int8 if weight_bits <= 8 else torch.int16
        self.register_buffer("weight", torch.zeros(tuple(shape), dtype=dtype))
        self.register_buffer("bias", torch.zeros(shape[0], dtype=torch.int32))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map whole numbers (B, C) or (B, C, H, W) to sums, int32."""
        weight = self.weight.to(torch.int32)
        if weight.dim() == 2:
            return inputs.to(torch.int32) @ weight.T + self.bias
        down, right = self.padding
        padded = functional.pad(inputs, (right, right, down, down), value=self.pad) if down or right else inputs
        size, (step_down, step_right) = weight.shape[2:], self.stride
        windows = padded.unfold(2, size[0], step_down).unfold(3, size[1], step_right)  # (B, C, H', W', K, K)
        sums = []
        for part, own in zip(windows.chunk(self.groups, 1), weight.chunk(self.groups), strict=True):
            rows = part.permute(0, 2, 3, 1, 4, 5).to(torch.int32).flatten(3)
            batch, height, width, length = rows.shape
            product = rows.reshape(-1, length) @ own.flatten(1).T
            sums.append(product.view(batch, height, width, -1).permute(0, 3, 1, 2))
        return (torch.cat(sums, 1) if self.groups > 1 else sums[0]) + self.bias.view(-1, 1, 1)


class Affine(Step):
    """clip((A clip(u, least, most) + B) >> L, low, high).

    Attributes:
        multiplier: A, (channels,) int32.
        offset: B, (channels,) int64.
        shift: L, () int32.
        least: (channels,) int32; together with `most` it keeps products small where the outcome is known anyway.
        most: likewise.
        low: () int32.
        high: () int32.
        wide: () bool, whether A u + B needs more than 32 bits.

    Args:
        source: number of what it takes.
        channels: that have numbers of their own, or 1.
        narrow: whether int8 is given, else int32.
    """

    multiplier: Tensor
    offset: Tensor
    shift: Tensor
    least: Tensor
    most: Tensor
    low: Tensor
    high: Tensor
    wide: Tensor

    def __init__(self, source: int, channels: int = 1, *, narrow: bool = True) -> None:
        super().__init__(source)
        self.narrow, self.channels = narrow, channels
        whole = {"multiplier": torch.int32, "offset": torch.int64, "least": torch.int32, "most": torch.int32}
        for name, dtype in whole.items():
            self.register_buffer(name, torch.zeros(channels, dtype=dtype))
        for name in ("shift", "low", "high"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int32))
        self.register_buffer("wide", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def fill(
        self,
        multiplier: Any,
        offset: Any,
        shift: int,
        *,
        low: int,
        high: int,
        least: Any = -WORD - 1,
        most: Any = WORD,
    ) -> None:
        """Set all numbers; those by channel may be one for all.

        Raises:
            UserError: if one does not fit its place.
        """
        ends = (-128, 127) if self.narrow else (-WORD - 1, WORD)
        require(0 <= shift < 63, f"shift={shift}: use 0 to 62")
        require(ends[0] <= low <= high <= ends[1], f"clip to [{low}, {high}]: use ends within {list(ends)}")
        factors, terms, lows, highs = (
            torch.as_tensor(one, dtype=torch.int64).expand(self.channels) for one in (multiplier, offset, least, most)
        )
        numbers = zip(*(one.tolist() for one in (factors, terms, lows, highs)), strict=True)
        largest = max(max(abs(a * u), abs(b), abs(a * u + b)) for a, b, *ends in numbers for u in ends)
        require(largest < 2**62, f"sums of {largest} do not fit 64 bits; narrow what comes in")
        require(int(factors.abs().max()) <= WORD, "a multiplier does not fit 32 bits; use fewer bits")
        for name, value in {"multiplier": factors, "offset": terms, "least": lows, "most": highs}.items():
            getattr(self, name).copy_(value)
        for name, number in {"shift": shift, "low": low, "high": high, "wide": largest > WORD}.items():
            getattr(self, name).fill_(number)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map whole numbers (B, channels, ...) to int8 or int32."""
        word = torch.int64 if bool(self.wide) else torch.int32
        multiplier, offset, least, most = (
            over_channels(one, inputs)
            for one in (self.multiplier.to(word), self.offset.to(word), self.least, self.most)
        )
        kept = torch.minimum(torch.maximum(inputs.to(torch.int32), least), most).to(word)
        outputs = (kept * multiplier + offset) >> self.shift.to(word)
        outputs = torch.minimum(torch.maximum(outputs, self.low.to(word)), self.high.to(word))
        return outputs.to(torch.int8 if self.narrow else torch.int32)


class Add(Step):
    """The sum of two values, int32."""

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Add."""
        return one.to(torch.int32) + other.to(torch.int32)


class Join(Step):
    """Channels side by side."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Concatenate over channels."""
        return torch.cat(inputs, 1)


class Windows(Step):
    """Pooling: the largest of each window, or its sum (a mean whose division is left to a multiplier).

    Args:
        source: number of what it takes.
        kind: "max" or "sum".
        size: of a window, down and right.
        stride: down and right.
        padding: on both sides, for "max" alone, with numbers that are never the largest.
        pad: these; of int8 -128.
    """

    def __init__(
        self,
        source: int,
        kind: str,
        size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int] = (0, 0),
        pad: int = -128,
    ) -> None:
        super().__init__(source)
        self.kind, self.size, self.stride, self.padding, self.pad = kind, size, stride, padding, pad

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H', W'), int32 of sums, else of what comes in."""
        down, right = self.padding
        padded = functional.pad(inputs, (right, right, down, down), value=self.pad) if down or right else inputs
        windows = padded.unfold(2, self.size[0], self.stride[0]).unfold(3, self.size[1], self.stride[1])
        return windows.amax((4, 5)) if self.kind == "max" else windows.to(torch.int32).sum((4, 5), dtype=torch.int32)


class Total(Step):
    """The sum over a map's pixels: (B, C, H, W) to (B, C), int32."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Sum."""
        return inputs.to(torch.int32).sum((2, 3), dtype=torch.int32)


class Flatten(Step):
    """Maps (B, C, H, W) as rows (B, C H W)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Flatten."""
        return inputs.flatten(1)


class Lookup(Step):
    """Entries of a table, by whole numbers from 0.

    Attributes:
        table: (entries,) int16.
    """

    table: Tensor

    def __init__(self, source: int, entries: int) -> None:
        super().__init__(source)
        self.register_buffer("table", torch.zeros(entries, dtype=torch.int16))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map int32 to int16."""
        return self.table[inputs.to(torch.int64)]


class IntegerNetwork(nn.Module):
    """Steps in their order: int8 in, the last step's whole numbers out.

    Args:
        steps: each takes the input, or what steps before it give.
        shape: of one example, (C,) or (C, H, W).
    """

    def __init__(self, steps: Sequence[Step], shape: Sequence[int]) -> None:
        super().__init__()
        self.steps, self.shape = nn.ModuleList(steps), tuple(shape)

    def values(self, inputs: Tensor) -> list[Tensor]:
        """Return the input and what every step gives."""
        values = [inputs]
        for step in self.steps:
            assert isinstance(step, Step)
            values.append(step(*(values[number] for number in step.sources)))
        return values

    def forward(self, inputs: Tensor) -> Tensor:
        """Map whole numbers (B, *shape) int8 to the last step's."""
        return self.values(inputs)[-1]


def over_channels(numbers: Tensor, inputs: Tensor) -> Tensor:
    """Return numbers (C,) in a shape that broadcasts over (B, C, ...)."""
    return numbers.view(-1, *[1] * (inputs.dim() - 2))


class NoFloats(TorchDispatchMode):
    """While it is entered, any torch operation on floats, or one that makes floats, raises RuntimeError."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation on whole numbers."""
        outputs = func(*args, **(kwargs or {}))
        seen = [value for value in tree_leaves((args, kwargs, outputs)) if isinstance(value, Tensor)]
        if any(value.is_floating_point() or value.is_complex() for value in seen):
            raise RuntimeError(f"{func} computes with {', '.join(str(value.dtype) for value in seen)}")
        return outputs
