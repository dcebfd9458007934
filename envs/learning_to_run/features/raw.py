"""The 41 numbers of the challenge as they are."""

from __future__ import annotations

from torch import Tensor

from envs.learning_to_run.mirror import RAW


class Map:
    """Nothing is remembered, and nothing is changed."""

    memory_size = 0
    mirror = RAW

    def start(self, raw: Tensor) -> Tensor:
        """Return nothing, (n, 0)."""
        return raw[:, :0]

    def update(self, memory: Tensor, raw: Tensor, excitation: Tensor) -> Tensor:
        """Return nothing, (n, 0)."""
        return memory

    def observe(self, memory: Tensor, raw: Tensor) -> Tensor:
        """Return the raw observation, (n, 41)."""
        return raw
