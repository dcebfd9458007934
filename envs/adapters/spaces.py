"""Which action spaces of other libraries the suite can use.

Shapes: A action.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rlsuite.action_space import choice_counts
from rlsuite.errors import UserError
from rlsuite.nn.action_range import policy_bounds

_REAL = (np.float16, np.float32, np.float64)
_LARGEST_WHOLE = 2**22  # float32 still tells half steps apart there


def usable_action_space(env_id: str, space: Any) -> gymnasium.Space:
    """Return the space in which the suite acts for an environment's own: the same Box, or choices counted from 0.

    Raises:
        UserError: If actions are neither choices nor vectors, or have no bounds; also bounds that only say "none" with
            a number, such as the largest float, are none.
    """
    counts = choice_counts(space)
    if counts is not None and counts:
        if isinstance(space, spaces.Discrete):
            return spaces.Discrete(counts[0])
        if isinstance(space, spaces.MultiBinary):
            return spaces.MultiBinary(len(counts))
        return spaces.MultiDiscrete(list(counts))
    if not isinstance(space, spaces.Box) or len(space.shape) != 1 or not space.shape[0]:
        raise UserError(
            f"{env_id}: its action space is {space}; only one-dimensional Box spaces work, Discrete, MultiDiscrete and "
            "MultiBinary"
        )
    if not _bounded(space.low, space.high):
        raise UserError(
            f"{env_id}: its action space is {space}; actions need finite bounds, the lower below the upper "
            "(gymnasium.wrappers.RescaleAction gives some)"
        )
    return space


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
