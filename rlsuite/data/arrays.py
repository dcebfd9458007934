"""A source whose examples lie in memory."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


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
