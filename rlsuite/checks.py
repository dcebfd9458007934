"""Whether the config of a run goes with what an agent learns from: a replay, hindsight, rollouts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from rlsuite.errors import require
from rlsuite.replay.config import ReplayConfig
from rlsuite.vector_env import EnvironmentFacts

if TYPE_CHECKING:
    from rlsuite.config.schema import TrainConfig

# Keys of a run that agents without a replay have no use for: those that must keep their defaults, and the warm-up.
_OF_REPLAYS = ("train_ratio", "updates_per_episode", "warmup_episodes", "overlap")
_NO_WARMUP = {"learning_starts": 0, "warmup_random": False, "replay": ReplayConfig()}


def check_replay(config: TrainConfig, facts: EnvironmentFacts) -> None:
    """Raise UserError, naming the fix, where a replay cannot give what is asked of it."""
    batch_size, n_step, capacity = config.agent.batch_size, config.replay.n_step, config.replay.capacity
    require(
        batch_size <= capacity,
        f"agent.batch_size={batch_size}: the replay holds replay.capacity={capacity}; use at most that",
    )
    require(
        n_step * config.num_envs <= capacity,
        f"replay.n_step={n_step}: of each of {config.num_envs} environments the replay holds "
        f"{capacity // config.num_envs} steps; use at most that, or a larger replay.capacity",
    )
    require(
        not config.replay.mirrored or config.agent.batch_size % 2 == 0,
        f"agent.batch_size={config.agent.batch_size}: replay.mirrored=true halves minibatches; use an even number",
    )
    chance = config.replay.bootstrap_probability
    require(
        chance == 1.0 or getattr(config.agent, "num_pairs", 1) > 1,
        f"replay.bootstrap_probability={chance}: a single learner would only leave transitions out; use agent=ace "
        "agent.num_pairs=5, or 1",
    )
    strategy, limit = config.replay.hindsight.strategy, facts.max_episode_steps
    if strategy == "none":
        return
    require(
        facts.goals is not None,
        f"replay.hindsight.strategy={strategy} is for tasks with goals; use one, such as env=FetchPush, or agent=ace",
    )
    require(
        limit is not None,
        "env.max_episode_steps=null: hindsight learns from whole episodes and none would end; use a limit",
    )
    needed = 2 * int(limit or 0) * config.num_envs  # a whole episode while the next one is written
    require(
        config.replay.capacity >= needed,
        f"replay.capacity={config.replay.capacity}: hindsight learns from whole episodes, of {limit} steps in "
        f"{config.num_envs} environments; use {needed} or more",
    )


def check_rollouts(config: TrainConfig) -> None:
    """Raise UserError, naming the fix, where a key is set that only a replay uses, or no rollout would be filled."""
    name, defaults = config.agent_name, {entry.name: entry.default for entry in dataclasses.fields(config)}
    for key, wanted in ({key: defaults[key] for key in _OF_REPLAYS} | _NO_WARMUP).items():
        require(
            getattr(config, key) == wanted,
            f"{key}: agent={name} learns from each rollout once and does not use it; leave it out",
        )
    steps = config.agent.rollout_length * config.num_envs
    require(config.steps >= steps, f"steps={config.steps}: agent={name} learns every {steps}; use that or more")
