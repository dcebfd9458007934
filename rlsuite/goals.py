"""What hindsight needs to know of a task with goals: which columns are what, and how any goal would be judged.

A goal task's flat observation is [own observation, desired goal, achieved goal].

Shapes: D own observation, G goal, F = D + 2 G.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GoalSpec:
    """A task with goals.

    Attributes:
        observation_size: D.
        goal_size: G.
        compute_reward: The reward (...) of having achieved (..., G) where (..., G) was desired.
        is_success: Whether (...) that counts as reached.
    """

    observation_size: int
    goal_size: int
    compute_reward: Callable[[Tensor, Tensor], Tensor]
    is_success: Callable[[Tensor, Tensor], Tensor]

    @property
    def visible_size(self) -> int:
        """D + G: what a policy looks at."""
        return self.observation_size + self.goal_size

    def split(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return views of own observation (..., D), desired goal (..., G) and achieved goal (..., G) of (..., F)."""
        own, desired, achieved = flat.split([self.observation_size, self.goal_size, self.goal_size], dim=-1)
        return own, desired, achieved

    def achieved(self, flat: Tensor) -> Tensor:
        """Return a view of the achieved goal (..., G) of (..., F)."""
        return flat[..., self.visible_size :]

    def with_goal(self, flat: Tensor, goal: Tensor) -> Tensor:
        """Return observations (..., F) that ask for another goal (..., G)."""
        return torch.cat([flat[..., : self.observation_size], goal, self.achieved(flat)], dim=-1)
