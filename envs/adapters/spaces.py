"""Which spaces of other libraries the suite can use.

Shapes: D observation, A action.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rlsuite.errors import UserError
from rlsuite.nn.action_range import policy_bounds

_REAL = (np.float16, np.float32, np.float64)
_LARGEST_WHOLE = 2**22  # float32 still tells half steps apart there


def continuous_spaces(env_id: str, observation_space: Any, action_space: Any) -> tuple[int, gymnasium.spaces.Box]:
    """Return the observation's size and the action space of an environment this suite can use.

    Raises:
        UserError: If the observation or the action is not a vector of numbers, or the action has no bounds; also bounds
            that only say "none" with a number, such as the largest float, are none.
    """
    for role, space in (("action", action_space), ("observation", observation_space)):
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1 or not space.shape[0]:
            raise UserError(
                f"{env_id}: its {role} space is {space}; only one-dimensional Box spaces work (continuous control)"
            )
    if not _bounded(action_space.low, action_space.high):
        raise UserError(
            f"{env_id}: its action space is {action_space}; actions need finite bounds, the lower below the upper "
            "(gymnasium.wrappers.RescaleAction gives some)"
        )
    return int(observation_space.shape[0]), action_space


def _bounded(low: np.ndarray, high: np.ndarray) -> bool:
    """Say whether a policy in float32 can reach all between the bounds (A,)."""
    if np.issubdtype(low.dtype, np.integer):
        largest: float = _LARGEST_WHOLE
    elif low.dtype in _REAL:  # half of it: the width must be finite, too
        largest = min(float(np.finfo(low.dtype).max), float(np.finfo(np.float32).max)) / 2
    else:
        return False
    bounds = np.stack([low, high]).astype(np.float64)
    if not (np.abs(bounds) < largest).all():  # not so where one is NaN
        return False
    inner_low, inner_high = policy_bounds(low, high)
    return bool((inner_low < inner_high).all())
