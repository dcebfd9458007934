"""How many bits things take.

Shapes: B batch, n values.
"""

from __future__ import annotations

import torch
from torch import Tensor


def effective_bits(values: Tensor) -> Tensor:
    """Return the entropy, in bits, of how often each distinct value occurs (arXiv:1706.07145).

    k for 2^k values that are all equally frequent: what quantizing to k bits uses of them.

    Args:
        values: (n,) or any shape, of any dtype: quantized weights, or their codes.

    Returns:
        0-d, float64.

    Raises:
        ValueError: if there are none.
    """
    if values.numel() == 0:
        raise ValueError("effective_bits of no values")
    counts = torch.unique(values, return_counts=True)[1].double()
    shares = counts / counts.sum()
    return -(shares * torch.log2(shares)).sum() + 0.0


def bits_per_pixel(num_bytes: Tensor, height: int, width: int) -> Tensor:
    """Return bits per pixel (B,) of streams of so many bytes (B,), each a picture of (height, width)."""
    return 8.0 * num_bytes.double() / (height * width)
