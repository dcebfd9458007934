"""What a feature map is: a memory that every 10 ms of an episode go into, and what is shown of it.

Pure functions of tensors, so that a map keeps nothing: the memory is a field of the task's.

Shapes: n environments, M numbers remembered, D shown.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Features(Protocol):
    """A feature map.

    Attributes:
        memory_size: M, may be 0.
        mirror: Of what is shown of the mirrored runner, which of the D numbers each is.
    """

    memory_size: int
    mirror: tuple[int, ...]

    def start(self, raw: Tensor) -> Tensor:
        """Return the memory (n, M) of episodes that begin with raw observations (n, 41)."""
        ...

    def update(self, memory: Tensor, raw: Tensor, excitation: Tensor) -> Tensor:
        """Return the memory (n, M) after 10 ms that led to (n, 41), under excitations (n, 18)."""
        ...

    def observe(self, memory: Tensor, raw: Tensor) -> Tensor:
        """Return what is shown, (n, D), of the memory (n, M) and the raw observation (n, 41) that went into it last."""
        ...
