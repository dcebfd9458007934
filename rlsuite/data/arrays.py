"""A source whose examples lie in memory."""

from __future__ import annotations

from collections.abc import Mapping

import psutil
import torch
from torch import Tensor

from rlsuite.data.source import Source
from rlsuite.errors import require


class Arrays:
    """Examples that are rows of tensors.

    Args:
        tensors: name -> (M, ...), all with one M and on one device.

    Raises:
        ValueError: if there are none, or their lengths differ.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        lengths = {name: len(tensor) for name, tensor in tensors.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"examples need rows of one number; there are {lengths}")
        self.tensors = dict(tensors)
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._length

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return rows (B, ...) of every tensor at index (B,)."""
        return {name: tensor[index.to(tensor.device)] for name, tensor in self.tensors.items()}


def in_memory(source: Source, *, at_once: int = 256) -> Arrays:
    """Return a source's examples read once and kept, `at_once` of them at a time.

    Raises:
        UserError: if they do not fit in what memory is free.
    """
    parts = []
    for index in torch.arange(len(source)).split(at_once):
        parts.append(source.examples(index))
        if len(parts) == 1:
            each = sum(value.numel() * value.element_size() for value in parts[0].values()) / len(index)
            needed, free = int(each * len(source)), psutil.virtual_memory().available
            require(
                2 * needed <= free, f"{len(source)} examples need {2 * needed} bytes and {free} are free; use fewer"
            )
    return Arrays({name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def kept(source: Source, count: int, at_once: int = 64) -> Arrays:
    """Return the first `count` examples of a source, or all, made once: for sources that are slow."""
    require(count >= 1, f"{count} examples are to be kept; use 1 or more")
    parts = [source.examples(index) for index in torch.arange(min(count, len(source))).split(at_once)]
    return Arrays({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
