"""Random numbers that are a hash of a seed and of where they stand, so that any of them can be had at any time.

Shapes: n positions, k values each. All arithmetic is int64 and wraps.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Odd 64-bit constants of the SplitMix64 finalizer (Steele, Lea & Flood 2014), written as signed integers.
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
_MASK_64 = (1 << 64) - 1
BELOW_ONE = 1.0 - 2.0**-24  # the largest float32 below 1


def shift_right(value: Tensor, bits: int) -> Tensor:
    """Logical right shift (torch's own repeats the sign bit)."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def mix(value: Tensor) -> Tensor:
    """SplitMix64's finalizer: a bijection in which each input bit moves every output bit."""
    value = (value ^ shift_right(value, 30)) * _MIX_1
    value = (value ^ shift_right(value, 27)) * _MIX_2
    return value ^ shift_right(value, 31)


def signed(value: int) -> int:
    """Return the int64 with the same 64 bits as a Python integer."""
    value &= _MASK_64
    return value - (1 << 64) if value >> 63 else value


def to_unit(bits: Tensor) -> Tensor:
    """Map random int64 bits to float64 in [0, 1), 53 random bits each."""
    return shift_right(bits, 11).to(torch.float64) * 2.0**-53


def uniform(seed: int, positions: Tensor, count: int) -> Tensor:
    """Return k numbers in [0, 1) for each position (n,) int64, the same for equal seed and position: (n, k) float64."""
    root = mix(torch.tensor(signed(seed), dtype=torch.int64) + GOLDEN)
    key = mix(root + (positions + 1) * GOLDEN)
    place = torch.arange(1, count + 1, dtype=torch.int64, device=positions.device) * GOLDEN
    return to_unit(mix(mix(place + key.unsqueeze(1)) ^ root))


def to_float32(draws: Tensor) -> Tensor:
    """Return numbers in [0, 1) as float32 that are below 1, too: one in 2^25 would be rounded up to it.

    So `(draws * n).long()` is below n.
    """
    return draws.float().clamp_max(BELOW_ONE)


def uniform_float32(seed: int, positions: Tensor, count: int) -> Tensor:
    """Return the numbers of `uniform` as float32 that are below 1, (n, k)."""
    return to_float32(uniform(seed, positions, count))


def counted_seed(seed: int, counter: int) -> int:
    """Return a 31-bit seed for the counter-th use of a seed, without a tensor."""
    value = (seed * (_MIX_1 & _MASK_64) + (counter + 1) * (GOLDEN & _MASK_64)) & _MASK_64
    value = ((value ^ (value >> 30)) * (_MIX_1 & _MASK_64)) & _MASK_64
    value = ((value ^ (value >> 27)) * (_MIX_2 & _MASK_64)) & _MASK_64
    return (value ^ (value >> 31)) >> 33
