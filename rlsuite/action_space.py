"""What a loop that steps environments needs of their action space: an example, uniform draws, and the way back inside.

Actions are vectors: of real numbers within a Box's bounds, or of choices, whole numbers counted from 0 (Discrete: one;
MultiDiscrete: several; MultiBinary: several of two).

Shapes: N environments, A action.
"""

from __future__ import annotations

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor


def choice_counts(space: gymnasium.Space) -> tuple[int, ...] | None:
    """Return how many choices each of A has in a space of choices; None where it is none."""
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, spaces.MultiDiscrete):
        return tuple(int(count) for count in space.nvec.flatten())
    if isinstance(space, spaces.MultiBinary):
        return (2,) * int(torch.Size(space.shape).numel())
    return None


class ActionLimits:
    """The least and the largest action (A,): float32 of a Box, int64 of choices.

    Args:
        space: of one environment: a Box of vectors, or one of choices.
        device: where `clip` is wanted.
    """

    def __init__(self, space: gymnasium.Space, device: torch.device | str = "cpu") -> None:
        counts = choice_counts(space)
        self.whole = counts is not None
        if counts is not None:
            self.low, self.high = torch.zeros(len(counts), dtype=torch.int64), torch.tensor(counts) - 1
        else:
            assert isinstance(space, spaces.Box)
            self.low, self.high = torch.as_tensor(space.low), torch.as_tensor(space.high)
        self._bounds = self.low.to(device), self.high.to(device)

    def example(self, num_envs: int) -> Tensor:
        """Return actions (N, A) on the CPU, which fix shape and dtype."""
        return self.low.expand(num_envs, -1)

    def uniform(self, num_envs: int, generator: torch.Generator) -> Tensor:
        """Draw actions (N, A) on the CPU uniformly; by rounding, a real one may lie a last digit beyond a bound."""
        draw = torch.rand((num_envs, self.low.numel()), generator=generator)
        if not self.whole:
            return torch.lerp(self.low, self.high, draw)
        return (draw.double() * (self.high + 1)).long()

    def clip(self, action: Tensor) -> Tensor:
        """Return actions (N, A) within the limits."""
        return action.clamp(*self._bounds)
