"""Which spaces agents take: vectors or pictures seen; bounded vectors of numbers, or choices, acted with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gymnasium
import numpy as np

from rlsuite.action_space import choice_counts
from rlsuite.errors import require
from rlsuite.vector_env import EnvironmentFacts, is_picture_space

if TYPE_CHECKING:
    from rlsuite.config.schema import TrainConfig


def check_vectors(config: TrainConfig, facts: EnvironmentFacts, *, pictures: bool = False) -> None:
    """Raise UserError unless actions are float vectors within finite bounds, and observations as check_seen says."""
    check_seen(config, facts, pictures=pictures)
    require(
        choice_counts(facts.action_space) is None,
        f"{_cannot_act(config, facts)}; agent={config.agent_name} is for continuous actions; use agent="
        + ("ppo or dqn" if isinstance(facts.action_space, gymnasium.spaces.Discrete) else "ppo"),
    )
    _check_bounded(config, facts)


def check_vectors_or_choices(config: TrainConfig, facts: EnvironmentFacts) -> None:
    """Raise UserError unless observations are float vectors or pictures, and actions bounded vectors or choices."""
    check_seen(config, facts, pictures=True)
    if choice_counts(facts.action_space) is None:
        _check_bounded(config, facts)


def check_one_choice(config: TrainConfig, facts: EnvironmentFacts) -> None:
    """Raise UserError unless observations are float vectors or pictures, and actions one choice among several."""
    check_seen(config, facts, pictures=True)
    several = choice_counts(facts.action_space) is not None
    require(
        isinstance(facts.action_space, gymnasium.spaces.Discrete),
        f"{_cannot_act(config, facts)}; agent={config.agent_name} chooses one of several (Discrete); use agent="
        + ("ppo" if several else "ppo, ace, sac or td3"),
    )


def check_seen(config: TrainConfig, facts: EnvironmentFacts, *, pictures: bool) -> None:
    """Raise UserError unless observations are float vectors, or where `pictures` says so bytes (C, H, W)."""
    agent, task = f"agent={config.agent_name}", f"env={config.env.name}"
    require(facts.renderer is None, f"{agent} cannot read {task}, which is painting; use agent=painter or painter_ddpg")
    seen, is_picture = facts.observation_space, is_picture_space(facts.observation_space)
    require(
        pictures or not is_picture,
        f"{agent} cannot read {task}: its observations are pictures {seen.shape}; use agent="
        + ("ppo, sac or td3" if choice_counts(facts.action_space) is None else "ppo or dqn"),
    )
    require(
        is_picture or _is_vector(seen),
        f"{agent} cannot read {task}: its observations are {seen}; use a task of flat observations of numbers",
    )


def _check_bounded(config: TrainConfig, facts: EnvironmentFacts) -> None:
    actions = facts.action_space
    require(
        _is_vector(actions) and bool(np.isfinite([actions.low, actions.high]).all()),  # type: ignore[attr-defined]
        f"{_cannot_act(config, facts)}; use a task of bounded continuous actions",
    )


def _cannot_act(config: TrainConfig, facts: EnvironmentFacts) -> str:
    return f"agent={config.agent_name} cannot act in env={config.env.name}: its actions are {facts.action_space}"


def _is_vector(space: gymnasium.Space) -> bool:
    return (
        isinstance(space, gymnasium.spaces.Box)
        and len(space.shape) == 1
        and np.issubdtype(space.dtype or np.int64, np.floating)
    )
