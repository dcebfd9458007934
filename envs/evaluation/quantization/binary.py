"""Numbers of one bit: signs, the gradients that stand in for theirs, and products by XNOR and counting bits.

A sign is +1 or -1, and 0 counts as +1: there is no third value. Where +1 is a set bit, the product of two rows of n
signs is n - 2 popcount(a XOR b) (Rastegari et al. 2016, arXiv:1603.05279, section 3.2). Bits lie in words of 64; what a
last word has too many is 0 in both rows and counts nothing. Padding with zeros, which are no signs, is a mask of the
places that count.

The kernel runs on numpy's `bitwise_count`, since torch counts no bits; it returns whole numbers, exact.

Shapes: M, N rows, n signs a row, W = ceil(n / 64) words; B batch, C channels, G groups, H x W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from envs.evaluation.quantization.through import through
from rlsuite.errors import require_finite

WORD = 64
AT_ONCE = 2**20  # words of an intermediate result: 8 MiB


def signs(values: Tensor) -> Tensor:
    """Return +1 where values are 0 or more and -1 elsewhere, in their dtype."""
    return torch.where(values >= 0, 1.0, -1.0).to(values.dtype)


# -- gradients -----------------------------------------------------------------------------------------------------


def clipped_sign(values: Tensor) -> Tensor:
    """Return signs, with the gradient of the identity where |value| <= 1 and none elsewhere (arXiv:1602.02830)."""
    return through(signs(values.detach()), values.clamp(-1.0, 1.0))


def sharpened_sign(values: Tensor, sharpness: float, slope: float) -> Tensor:
    """Return signs, with RBNN's gradient max(k (sqrt(2) t - t^2 |x|), 0) (arXiv:2009.13055, equations 19 and 20).

    Args:
        values: x, of any shape.
        sharpness: t; the gradient ends at |x| = sqrt(2) / t.
        slope: k.
    """
    end = 2.0**0.5 / sharpness
    inside = values.clamp(-end, end)
    smooth = slope * (2.0**0.5 * sharpness * inside - 0.5 * sharpness**2 * inside * inside.abs())
    return through(signs(values.detach()), smooth)


def sharpness_at(share: float, first: float = 1e-2, last: float = 1e1) -> tuple[float, float]:
    """Return RBNN's t and k when a share of the training is done: t rises from `first` to `last`, k = max(1 / t, 1).

    Raises:
        UserError: unless both are finite and above 0.
    """
    require_finite("sharpness", first, above=0.0)
    require_finite("sharpness", last, above=0.0)
    sharpness = first * (last / first) ** share
    return sharpness, max(1.0 / sharpness, 1.0)


# -- the kernel ----------------------------------------------------------------------------------------------------


def pack_words(bits: np.ndarray) -> np.ndarray:
    """Return rows of bits (..., n) bool as words (..., W) uint64; bit i of a row is bit i % 64 of word i // 64."""
    packed = np.packbits(bits, axis=-1, bitorder="little")
    missing = -packed.shape[-1] % (WORD // 8)
    if missing:
        packed = np.pad(packed, [(0, 0)] * (packed.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(packed).view(np.dtype("<u8")).astype(np.uint64, copy=False)


def xnor_matmul(left: np.ndarray, right: np.ndarray, counted: int | np.ndarray) -> np.ndarray:
    """Return the products of rows of signs, (M, N) int32, exact.

    Args:
        left: (M, W) words.
        right: (N, W) words.
        counted: n; or a mask (M, W) of the places of each row of `left` that count, the others being 0, no sign.
    """
    found = np.empty((len(left), len(right)), dtype=np.int32)
    columns = np.ascontiguousarray(right.T)  # word by word: summing over a short last axis takes ten times as long
    rows = max(1, AT_ONCE // max(1, len(right)))
    for start in range(0, len(left), rows):
        part = slice(start, start + rows)
        differ = np.zeros((len(left[part]), len(right)), dtype=np.int32)
        for word, column in enumerate(columns):
            changed = left[part, word, None] ^ column
            if not isinstance(counted, int):
                changed &= counted[part, word, None]
            differ += np.bitwise_count(changed)
        count = counted
        if not isinstance(count, int):
            count = np.bitwise_count(count[part]).sum(-1, dtype=np.int32, keepdims=True)
        found[part] = count - 2 * differ
    return found


def xnor_linear(inputs: Tensor, weight: Tensor) -> Tensor:
    """Return what functional.linear gives for the signs of inputs (..., n) and of weights (N, n): (..., N) float32."""
    rows = inputs.detach().cpu().reshape(-1, inputs.shape[-1])
    left, right = (pack_words(tensor.numpy() >= 0) for tensor in (rows, weight.detach().cpu()))
    return torch.from_numpy(xnor_matmul(left, right, inputs.shape[-1])).float().view(*inputs.shape[:-1], -1)


def xnor_conv2d(
    inputs: Tensor,
    weight: Tensor,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Return what functional.conv2d gives for the signs of inputs and weights, padded with zeros, exactly.

    Args:
        inputs: (B, C, H, W).
        weight: (N, C / G, kernel height, kernel width).
        stride: as functional.conv2d has it, for both sides.
        padding: likewise, of zeros.
        dilation: likewise.
        groups: G.

    Returns:
        (B, N, H', W') float32, of whole numbers.
    """
    batch, kernel = len(inputs), (weight.shape[2], weight.shape[3])
    height, width = (
        (size + 2 * pad - step * (side - 1) - 1) // move + 1
        for size, pad, step, side, move in zip(inputs.shape[2:], padding, dilation, kernel, stride, strict=True)
    )

    def patches(pictures: Tensor) -> np.ndarray:
        """(B, C, H, W) of 0 and 1 to (B, places, C, kernel's places) bool."""
        found = functional.unfold(pictures, kernel, dilation, padding, stride)
        return found.view(len(pictures), pictures.shape[1], -1, found.shape[-1]).permute(0, 3, 1, 2).numpy() > 0.5

    bits = patches((inputs.detach().cpu() >= 0).float())
    per_group = inputs.shape[1] // groups
    count = per_group * kernel[0] * kernel[1]
    counted: int | np.ndarray = count
    if any(padding):  # every picture and channel has the same places outside
        inside = patches(torch.ones(1, 1, *inputs.shape[2:])).repeat(per_group, axis=2)
        counted = np.tile(pack_words(inside.reshape(-1, count)), (batch, 1))
    filters = weight.detach().cpu().flatten(1).numpy() >= 0
    found, each = [], len(filters) // groups
    for group in range(groups):
        left = pack_words(bits[:, :, group * per_group : (group + 1) * per_group].reshape(-1, count))
        found.append(xnor_matmul(left, pack_words(filters[group * each : (group + 1) * each]), counted))
    sums = np.concatenate(found, axis=1).reshape(batch, height, width, -1)
    return torch.from_numpy(sums).permute(0, 3, 1, 2).float().contiguous()
