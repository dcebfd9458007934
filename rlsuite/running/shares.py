"""One run on several ranks: a config's numbers are totals, and these are what one rank makes of them."""

from __future__ import annotations

import dataclasses

from rlsuite.config.schema import TrainConfig
from rlsuite.errors import UserError, require


def share_of(config: TrainConfig, size: int) -> TrainConfig:
    """Return the config of one of `size` ranks: its environments, its rows of a minibatch, its part of the replay.

    Whatever is counted over all environments stays: steps, learning_starts, train_ratio, every=.

    Raises:
        UserError: where the environments or minibatches cannot be dealt out evenly, or the agent's training cannot be
            split at all.
    """
    if size == 1:
        return config
    require(
        config.num_envs % size == 0,
        f"num_envs={config.num_envs}: {size} ranks have equally many each; use a multiple of {size}",
    )
    split = getattr(config.agent, "share", None)
    if split is None:
        raise UserError(
            f"agent={config.agent_name} learns in one process: its numbers do not say how {size} ranks would share its "
            "training; start it without torchrun"
        )
    try:
        agent = split(size)
    except UserError as error:
        raise UserError(f"agent={config.agent_name} on {size} ranks: {error}") from None
    own = config.num_envs // size
    slots = -(-config.replay.capacity // config.num_envs)
    replay = dataclasses.replace(config.replay, capacity=max(slots, 2) * own)
    return dataclasses.replace(config, agent=agent, num_envs=own, replay=replay)
