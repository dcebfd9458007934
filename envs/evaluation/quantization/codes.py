"""Whole numbers of k bits, packed without gaps: N of them take ceil(k N / 8) bytes.

Bit i of the stream is bit i % 8 of byte i // 8; a number's lowest bit comes first. Beside numbers of equal width:

    pack_rows      rows whose numbers have widths of their own, 0 for rows that are not kept at all
    index_bits     the width of indices into a table of values (a codebook)
    pack_signs     one bit a number, 1 for +1; there is no zero among signs
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST_BITS = 16  # of a packed number; "floats" of more bits stay floats


def packed_bytes(bits: int, count: int) -> int:
    """Return the bytes that `count` numbers of so many bits take."""
    return -(-bits * count // 8)


def index_bits(size: int) -> int:
    """Return the bits of an index into a table of `size` values, 1 at least.

    Raises:
        ValueError: if the table is empty, or so large that no index is packed.
    """
    bits = max(1, (size - 1).bit_length())
    if not (size >= 1 and bits <= LARGEST_BITS):
        raise ValueError(f"a table has 1 to {2**LARGEST_BITS} values, not {size}")
    return bits


# -- numbers of one width ------------------------------------------------------------------------------------------


def pack(codes: Tensor, bits: int) -> Tensor:
    """Return whole numbers in [0, 2^bits), of any shape and in its order, as bytes (ceil(bits N / 8),) uint8."""
    return _to_bytes(_to_bits(codes, bits).flatten())


def unpack(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """Return what pack() packed, int32, in its shape."""
    count = torch.Size(shape).numel()
    return _from_bits(_from_bytes(packed)[: bits * count].view(count, bits)).view(shape)


def pack_signs(values: Tensor) -> Tensor:
    """Return the signs of numbers of any shape as bytes (ceil(N / 8),) uint8; the sign of 0 is +1."""
    return pack((values >= 0).to(torch.int32), 1)


def unpack_signs(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return what pack_signs() packed, -1 or 1, float32, in its shape."""
    return (2 * unpack(packed, 1, shape) - 1).float()


# -- rows of several widths ----------------------------------------------------------------------------------------


def pack_rows(codes: Tensor, widths: Sequence[int]) -> Tensor:
    """Return rows of whole numbers as one stream of bytes, ceil(sum of all widths / 8) of them, uint8.

    Args:
        codes: (R, ...) in [0, 2^width) of their row.
        widths: (R,) bits of each number of a row, 0 to 16.
    """
    kept = _places(widths, codes[0].numel())
    return _to_bytes(_to_bits(codes, max([1, *widths])).flatten()[kept.to(codes.device)])


def unpack_rows(packed: Tensor, widths: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Return what pack_rows() packed, int32, in its shape; the numbers of rows of width 0 are 0."""
    count, widest = torch.Size(shape).numel(), max([1, *widths])
    kept = _places(widths, count // shape[0]).to(packed.device)
    stream = torch.zeros(count * widest, dtype=torch.uint8, device=packed.device)
    stream = stream.index_copy(0, kept, _from_bytes(packed)[: len(kept)])
    return _from_bits(stream.view(count, widest)).view(shape)


def _places(widths: Sequence[int], numbers: int) -> Tensor:
    """Return which bits are kept of rows of so many numbers, all written with the widest row's bits."""
    kept = torch.arange(max([1, *widths]), device="cpu") < torch.tensor(widths, device="cpu").view(-1, 1, 1)
    return kept.expand(-1, numbers, -1).flatten().nonzero().flatten()


# -- bits and bytes ------------------------------------------------------------------------------------------------


def _to_bits(codes: Tensor, bits: int) -> Tensor:
    """Return whole numbers as (N, bits) of 0 and 1, the lowest bit first."""
    numbers, place = codes.reshape(-1, 1).to(torch.int32), torch.arange(bits, dtype=torch.int32, device=codes.device)
    return ((numbers >> place) & 1).to(torch.uint8)


def _from_bits(stream: Tensor) -> Tensor:
    """Return numbers (N,) int32 of their bits (N, bits)."""
    place = torch.arange(stream.shape[1], dtype=torch.int32, device=stream.device)
    return (stream.to(torch.int32) << place).sum(1, dtype=torch.int32)


def _to_bytes(stream: Tensor) -> Tensor:
    stream = torch.nn.functional.pad(stream, (0, -len(stream) % 8)).view(-1, 8)
    return (stream << torch.arange(8, dtype=torch.uint8, device=stream.device)).sum(1, dtype=torch.uint8)


def _from_bytes(packed: Tensor) -> Tensor:
    return ((packed.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8, device=packed.device)) & 1).flatten()
