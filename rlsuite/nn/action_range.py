"""Between a policy's actions in [-1, 1] and an environment's bounds.

Shapes: A action.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ActionRange(nn.Module):
    """An environment's bounds on actions, kept with the policy.

    Args:
        low: (A,) lower bounds.
        high: (A,) upper bounds.
    """

    center: Tensor
    half_range: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("center", (high + low).float() / 2)
        self.register_buffer("half_range", (high - low).float() / 2)

    @property
    def size(self) -> int:
        """Return A."""
        return self.center.numel()

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds (A,)."""
        return self.center - self.half_range, self.center + self.half_range

    def to_environment(self, action: Tensor) -> Tensor:
        """Map actions (..., A) in half ranges, [-1, 1] within the bounds, to the environment's units."""
        return torch.addcmul(self.center, action, self.half_range)

    def to_policy(self, action: Tensor) -> Tensor:
        """Map actions (..., A) in the environment's units to half ranges."""
        return (action - self.center) / self.half_range
