"""A run in its checkpoints: all that a bit-exact resume needs, put away and put back.

Of R ranks, rank 0 writes what one rank alone would, and each other rank a file of each part that is its own, such as
``replay.1.safetensors``: the same number of ranks goes on to the same bits, another number deals whole environments
anew (`rlsuite.running.dealing`).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rlsuite.config.schema import to_plain
from rlsuite.errors import UserError
from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors
from rlsuite.records.checkpoint import Checkpoint, read_checkpoint, save_checkpoint, unusable
from rlsuite.records.checkpoint_format import SUFFIX, write_part
from rlsuite.records.monitor import Monitor, check_finite
from rlsuite.running.dealing import OWN, begin_anew, dealt, own_name
from rlsuite.running.stored import (
    misfit,
    other_shapes,
    read_counters,
    saved_ranks,
    shape_keys,
    stored_config,
    unfit,
    unfit_optimizer,
)

if TYPE_CHECKING:
    from rlsuite.distributed import Ranks
    from rlsuite.running.training import Trainer

PARTS = ("agent", "optimizers", "replay", "environment", "worker")


def parts_of(trainer: Trainer) -> dict[str, dict[str, Tensor]]:
    """Return all that a bit-exact resume needs, by the names of a checkpoint's parts."""
    return {
        "agent": trainer.agent.state_dict(),
        "optimizers": optimizer_tensors(trainer.agent.optimizers),
        "replay": trainer.replay.state(),
        "environment": trainer.env.state(),
        "worker": trainer.worker.state(),
    }


# -- put away ---------------------------------------------------------------------------------------------------


def save(trainer: Trainer, monitor: Monitor) -> tuple[int, int]:
    """Write a checkpoint; return the steps and updates that it is of.

    Raises:
        UserError: if it cannot be written, on all ranks, or a loss is not finite.
    """
    began = time.perf_counter()
    trainer.refuse_nonfinite(check_finite(trainer.metrics))
    monitor.flush()
    config, here = trainer.config, trainer.ranks
    metadata = {
        "config": to_plain(config),
        "seed": config.seed,
        "updates": trainer.updates,
        "updates_at_start": trainer.updates_at_start,
        "episodes_at_start": trainer.episodes_at_start,
        "steps_at_start": trainer.steps_at_start,
        "elapsed_s": monitor.elapsed_s,
        "evaluation_s": trainer.evaluation_s,
        "busy": trainer.busy,
        "commits": trainer.commits,
        "ranks": here.size,
    }
    if here.leads:
        _lead(trainer, metadata)
    else:
        _follow(trainer, here)
    trainer.continued_from = None
    trainer.leave_out(began)
    return trainer.worker.steps, trainer.updates


def _lead(trainer: Trainer, metadata: dict[str, Any]) -> None:
    """Write this rank's files, let the others write theirs beside them, and give the whole its name."""
    config, here, told = trainer.config, trainer.ranks, False

    def others(folder: Path) -> dict[str, Any]:
        nonlocal told
        told = True
        here.texts(str(folder))
        found = [json.loads(said) for said in here.texts("{}")[1:]]
        if failed := [entries["error"] for entries in found if "error" in entries]:
            raise OSError(failed[0])
        return {name: entry for entries in found for name, entry in entries.items()}

    try:
        save_checkpoint(
            trainer.run_dir,
            trainer.worker.steps,
            parts_of(trainer),
            metadata,
            keep=config.checkpoint.keep,
            keep_agents=config.checkpoint.keep_agents,
            continued_from=trainer.continued_from,
            others=None if here.alone else others,
        )
    except UserError as error:
        for _ in range(0 if here.alone else 1 if told else 2):
            here.texts(f"!{error}")
        raise
    if not here.alone:
        here.texts("")


def _follow(trainer: Trainer, here: Ranks) -> None:
    """Write what is this rank's own where rank 0 says, and wait until the whole is there."""
    folder = here.texts("")[0]
    if not folder.startswith("!"):
        entries: dict[str, Any] = {}
        parts = parts_of(trainer)
        try:
            for part in OWN:
                name = own_name(part, here.rank) + SUFFIX
                entries[name] = write_part(Path(folder) / name, parts[part])
        except OSError as error:
            entries = {"error": f"rank {here.rank}: {error.strerror or error}"}
        here.texts(json.dumps(entries))
    if outcome := here.texts("")[0]:
        raise UserError(outcome.removeprefix("!"))


# -- put back ---------------------------------------------------------------------------------------------------


def read_share(path: Path, here: Ranks) -> Checkpoint:
    """Read what a rank needs of a run's checkpoint: rank 0's parts, and its own of as many ranks, or all of others.

    Raises:
        UserError: as `read_checkpoint` does.
    """
    number = saved_ranks(read_checkpoint(path, parts=[]))
    others = {here.rank} - {0} if number == here.size else range(1, number)
    return read_checkpoint(path, parts=[*PARTS, *(own_name(part, rank) for rank in others for part in OWN)])


def load(trainer: Trainer, checkpoint: Checkpoint) -> None:
    """Let a trainer, as it was just built, go on where a checkpoint was saved.

    Raises:
        UserError: if the checkpoint is damaged, or does not fit the configuration.
    """
    counters, here, agent = read_counters(checkpoint), trainer.ranks, trainer.agent
    fresh = parts_of(trainer)
    try:
        parts = dealt(checkpoint.parts, fresh, counters.ranks, here)
    except (RuntimeError, ValueError, KeyError, IndexError) as error:
        raise _misfit(trainer, checkpoint, " ".join(str(error).split())[:200]) from None
    for part, tensors in fresh.items():
        if why := misfit(part, tensors, parts[part]):
            raise _misfit(trainer, checkpoint, why)
        if why := unfit(part, tensors, parts[part]):
            raise unusable(checkpoint.path, why, parts=fresh)
    if why := unfit_optimizer(agent.optimizers, parts["optimizers"]):
        raise _misfit(trainer, checkpoint, why)
    if (steps := int(parts["worker"]["counts"][0])) != checkpoint.step:
        raise unusable(checkpoint.path, f"its worker had come to step {steps}", parts=fresh)
    try:
        agent.load_state_dict(parts["agent"])
        load_optimizer_tensors(agent.optimizers, parts["optimizers"])
        trainer.replay.load_state(parts["replay"])
        trainer.env.load_state(parts["environment"])
        if not trainer.env.exact_resume:  # new episodes have begun
            trainer.replay.mark_interrupted()
            agent.interrupt()
        trainer.worker.load_state(parts["worker"])
    except (RuntimeError, ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        text = " ".join(str(error).split()) if not isinstance(error, KeyError) else f"it holds no {error}"
        raise _misfit(trainer, checkpoint, text[:200]) from None
    if counters.ranks != here.size:
        begin_anew(agent, trainer.replay, trainer.worker)
    trainer.updates = counters.updates
    trainer.saved_state = (checkpoint.step, counters.updates)
    trainer.updates_at_start = counters.updates_at_start
    trainer.episodes_at_start = counters.episodes_at_start
    trainer.steps_at_start = counters.steps_at_start
    trainer.elapsed_s, trainer.evaluation_s = counters.elapsed_s, counters.evaluation_s
    trainer.commits = counters.commits + (trainer.commits if counters.commits[-1:] != trainer.commits else [])
    old, config = stored_config(checkpoint), trainer.config
    rate = (config.train_ratio, config.updates_per_episode)
    if trainer.steps_at_start is not None and rate != (old["train_ratio"], old.get("updates_per_episode", 0)):
        trainer.count_updates_from_here()  # the new rate holds from now on, not for the past


def _misfit(trainer: Trainer, checkpoint: Checkpoint, why: str) -> UserError:
    """Return the error of a checkpoint of other sizes, which blames the keys that were changed, where some were."""
    changed = shape_keys(stored_config(checkpoint), to_plain(trainer.config))
    if not changed and trainer.config.env.adapter:  # its spaces are known to no config
        return other_shapes(checkpoint.path, trainer.config.env, why)
    if not changed:
        return unusable(checkpoint.path, f"it does not fit this configuration: {why}", parts=checkpoint.parts)
    blamed = ", ".join(changed)
    return UserError(f"{checkpoint.path} does not fit this configuration: {blamed}; leave that out, or start a new run")
