"""Which spaces agents of continuous control take: vectors of numbers seen, bounded vectors of numbers chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gymnasium
import numpy as np

from rlsuite.errors import require
from rlsuite.vector_env import EnvironmentFacts

if TYPE_CHECKING:
    from rlsuite.config.schema import TrainConfig


def check_vectors(config: TrainConfig, facts: EnvironmentFacts) -> None:
    """Raise UserError unless observations are float vectors, and actions float vectors within finite bounds."""
    agent, task = f"agent={config.agent_name}", f"env={config.env.name}"
    require(facts.renderer is None, f"{agent} cannot read {task}, which is painting; use agent=painter or painter_ddpg")
    observations, actions = facts.observation_space, facts.action_space
    require(
        _is_vector(observations),
        f"{agent} cannot read {task}: its observations are {observations}; use a task of flat observations of numbers",
    )
    require(
        _is_vector(actions) and bool(np.isfinite([actions.low, actions.high]).all()),  # type: ignore[attr-defined]
        f"{agent} cannot act in {task}: its actions are {actions}; use a task of bounded continuous actions",
    )


def _is_vector(space: gymnasium.Space) -> bool:
    return (
        isinstance(space, gymnasium.spaces.Box)
        and len(space.shape) == 1
        and np.issubdtype(space.dtype or np.int64, np.floating)
    )
