"""Whole numbers of k bits, packed without gaps: N of them take ceil(k N / 8) bytes.

Bit i of the stream is bit i % 8 of byte i // 8; a number's lowest bit comes first.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_BITS = 16  # of a packed number; "floats" of more bits stay floats


def packed_bytes(bits: int, count: int) -> int:
    """Return the bytes that `count` numbers of so many bits take."""
    return -(-bits * count // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Return whole numbers in [0, 2^bits), of any shape and in its order, as bytes (ceil(bits N / 8),) uint8."""
    numbers, place = codes.reshape(-1, 1).to(torch.int32), torch.arange(bits, dtype=torch.int32, device=codes.device)
    stream = ((numbers >> place) & 1).to(torch.uint8).flatten()
    stream = torch.nn.functional.pad(stream, (0, -len(stream) % 8)).view(-1, 8)
    return (stream << torch.arange(8, dtype=torch.uint8, device=codes.device)).sum(1, dtype=torch.uint8)


def unpack(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """Return what pack() packed, int32, in its shape."""
    count = torch.Size(shape).numel()
    stream = (packed.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8, device=packed.device)) & 1
    numbers = stream.flatten()[: bits * count].view(count, bits).to(torch.int32)
    return (
        (numbers << torch.arange(bits, dtype=torch.int32, device=packed.device)).sum(1, dtype=torch.int32).view(shape)
    )
