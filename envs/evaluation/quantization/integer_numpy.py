"""Integer networks in numpy: plain int64 arithmetic, slow, and what the other backends are compared with.

Shapes: B batch, C channels in, O out, H x W pixels, K x K a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from envs.evaluation.quantization.integer import (
    Add,
    Affine,
    Flatten,
    IntegerNetwork,
    Join,
    Lookup,
    Product,
    Total,
    Windows,
)

Array = np.ndarray


def run_numpy(network: IntegerNetwork, inputs: Array) -> Array:
    """Return what an integer network makes of whole numbers (B, *shape), in the dtype that torch gives.

    Raises:
        OverflowError: if a number does not fit the place it has in an int32 machine.
    """
    values = [inputs.astype(np.int64)]
    for step in network.steps:
        outputs: Array = STEPS[type(step)](step, *(values[number] for number in step.sources))  # type: ignore[union-attr]
        if outputs.size and (outputs.min() < -(2**31) or outputs.max() >= 2**31):
            raise OverflowError(f"{type(step).__name__} gives numbers beyond 32 bits")
        values.append(outputs)
    return values[-1].astype(_dtype(network))


def _dtype(network: IntegerNetwork) -> Any:
    last = network.steps[-1]
    if isinstance(last, Lookup):
        return np.int16
    return np.int8 if isinstance(last, Affine) and last.narrow else np.int32


def windows_of(inputs: Array, size: Any, stride: Any, padding: Any, pad: int) -> Array:
    """Return (B, C, H', W', K, K): a view of the windows of padded maps (B, C, H, W)."""
    (down, right), (step_down, step_right) = padding, stride
    padded = np.pad(inputs, ((0, 0), (0, 0), (down, down), (right, right)), constant_values=pad)
    windows = np.lib.stride_tricks.sliding_window_view(padded, tuple(size), axis=(2, 3))  # type: ignore[call-overload]
    return windows[:, :, ::step_down, ::step_right]


def _product(step: Product, inputs: Array) -> Array:
    weight, bias = step.weight.numpy().astype(np.int64), step.bias.numpy().astype(np.int64)
    if weight.ndim == 2:
        return inputs @ weight.T + bias
    windows = windows_of(inputs, weight.shape[2:], step.stride, step.padding, step.pad)
    sums = []
    for part, own in zip(np.split(windows, step.groups, 1), np.split(weight, step.groups), strict=True):
        rows = np.moveaxis(part, 1, 3)
        rows = rows.reshape(*rows.shape[:3], -1)  # (B, H', W', C K K)
        sums.append(np.moveaxis(rows @ own.reshape(len(own), -1).T, 3, 1))
    return np.concatenate(sums, 1) + bias.reshape(-1, 1, 1)


def _affine(step: Affine, inputs: Array) -> Array:
    def numbers(tensor: Any) -> Array:
        return tensor.numpy().astype(np.int64).reshape(-1, *[1] * (inputs.ndim - 2))

    kept = np.clip(inputs, numbers(step.least), numbers(step.most))
    outputs = (kept * numbers(step.multiplier) + numbers(step.offset)) >> int(step.shift)
    return np.clip(outputs, int(step.low), int(step.high))


def _windows(step: Windows, inputs: Array) -> Array:
    windows = windows_of(inputs, step.size, step.stride, step.padding, step.pad)
    return windows.max((4, 5)) if step.kind == "max" else windows.sum((4, 5))


STEPS: dict[type, Callable[..., Array]] = {
    Product: _product,
    Affine: _affine,
    Add: lambda step, one, other: one + other,
    Join: lambda step, *inputs: np.concatenate(inputs, 1),
    Windows: _windows,
    Total: lambda step, inputs: inputs.sum((2, 3)),
    Flatten: lambda step, inputs: inputs.reshape(len(inputs), -1),
    Lookup: lambda step, inputs: step.table.numpy().astype(np.int64)[inputs],
}
