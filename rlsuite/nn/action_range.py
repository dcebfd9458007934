"""Between a policy's actions in [-1, 1] and an environment's bounds.

Shapes: A action.
"""

from __future__ import annotations

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from rlsuite.action_space import choice_counts


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
        """Map actions (..., A) in half ranges, [-1, 1] within the bounds, to the environment's units.

        By rounding, an action of 1 may lie a last digit beyond the bounds; whoever steps the environment clips it.
        """
        return torch.addcmul(self.center, action, self.half_range)

    def to_policy(self, action: Tensor) -> Tensor:
        """Map actions (..., A) in the environment's units to half ranges."""
        return (action - self.center) / self.half_range


class PlainChoices(nn.Module):
    """Stands where an ActionRange otherwise does: choices are the same for policy and environment."""

    def to_environment(self, action: Tensor) -> Tensor:
        """Return `action`."""
        return action

    def to_policy(self, action: Tensor) -> Tensor:
        """Return `action`."""
        return action


class ActionBox(nn.Module):
    """An environment's own Box, which an action enters last: clipped, and rounded to whole numbers where it has those.

    Args:
        low: (A,) lower bounds, of the Box's dtype.
        high: (A,) upper bounds, of the same dtype.
    """

    low: Tensor
    high: Tensor

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        super().__init__()
        self.whole = bool(np.issubdtype(low.dtype, np.integer))
        self.dtype = torch.from_numpy(np.zeros(0, low.dtype)).dtype
        self.register_buffer("low", torch.from_numpy(low.astype(np.float64)), persistent=False)
        self.register_buffer("high", torch.from_numpy(high.astype(np.float64)), persistent=False)

    def forward(self, action: Tensor) -> Tensor:
        """Map finite actions (..., A) of any float dtype into the Box, in its own dtype."""
        # In float64 the bounds are exact, and rounding from there to a narrower dtype never passes a bound of its own.
        action = action.double()
        if self.whole:
            action = action.round()
        return torch.clamp(action, self.low, self.high).to(self.dtype)


class ActionChoices(nn.Module):
    """An environment's own space of choices, which choices counted from 0 enter last: its start, its shape, its dtype.

    Args:
        space: Discrete, MultiDiscrete or MultiBinary, of any start and shape.
    """

    start: Tensor
    last: Tensor

    def __init__(self, space: gymnasium.Space) -> None:
        super().__init__()
        counts = choice_counts(space)
        assert counts is not None
        assert space.shape is not None
        self.shape = tuple(space.shape)
        self.dtype = torch.from_numpy(np.zeros(0, space.dtype)).dtype
        start = np.broadcast_to(np.asarray(getattr(space, "start", 0)), self.shape).reshape(-1)
        self.register_buffer("start", torch.from_numpy(start.astype(np.int64)), persistent=False)
        self.register_buffer("last", torch.tensor(counts) - 1, persistent=False)

    def forward(self, action: Tensor) -> Tensor:
        """Map choices (..., A), whole numbers of any dtype, into the space: (..., *shape)."""
        choice = action.long().clamp_min(0).minimum(self.last) + self.start
        return choice.reshape(*action.shape[:-1], *self.shape).to(self.dtype)


def into_space(space: gymnasium.Space) -> nn.Module:
    """Return what takes a policy's actions (..., A) into an environment's own space, and is the last to do so."""
    return ActionBox(space.low, space.high) if isinstance(space, gymnasium.spaces.Box) else ActionChoices(space)


def policy_bounds(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds (A,) float32 that a policy aims at, for a Box's own.

    Of real numbers they are the outermost float32 inside the Box: 0.1 as float32 is more than 0.1. Of whole numbers
    they reach half a step further, so that rounding gives each of them, the outermost too, an equal share.
    """
    if np.issubdtype(low.dtype, np.integer):
        return (low.astype(np.float64) - 0.5).astype(np.float32), (high.astype(np.float64) + 0.5).astype(np.float32)
    inner_low, inner_high = low.astype(np.float32), high.astype(np.float32)
    inner_low = np.where(inner_low < low, np.nextafter(inner_low, np.float32(np.inf)), inner_low)
    return inner_low, np.where(inner_high > high, np.nextafter(inner_high, np.float32(-np.inf)), inner_high)
