"""Constant tensors of tasks, made once for each device and dtype.

A tensor made of Python numbers is a copy from the host, which a recorded step (`rlsuite.running.cuda_graph`) may not
have: from here it is copied when first wanted, and not again.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """Return (k,) numbers in the dtype of a tensor, where it is; nobody may write to them."""
    return _made(values, like.dtype, like.device)


def indices(values: tuple[int, ...], like: Tensor) -> Tensor:
    """Return (k,) int64 indices where a tensor is: a list of numbers in brackets is a copy from the host, too."""
    return _made(values, torch.int64, like.device)


@functools.cache
def _made(values: tuple[float, ...] | tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # What is first wanted in inference mode must be of use outside of it.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
