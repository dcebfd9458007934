"""A training run in its directory: a new one, or one that goes on from a checkpoint, ready to be run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from agents.assembly import make_agent, make_env, make_evaluation_env
from envs.failures import Failure, save_failure
from envs.vector import VectorEnv
from rlsuite.cli import as_started, typed
from rlsuite.config.compose import read_config
from rlsuite.config.imports import require_imports
from rlsuite.config.schema import EnvConfig, TrainConfig, changes, to_plain, train_config
from rlsuite.distributed import ranks
from rlsuite.errors import UserError, require
from rlsuite.records.checkpoint import Checkpoint, list_checkpoints, resolve_checkpoint
from rlsuite.records.files import write_atomically
from rlsuite.records.run_lock import RunLock
from rlsuite.records.summaries import CLIP_SIDE
from rlsuite.running.on_policy import OnPolicyTrainer
from rlsuite.running.overlap import OverlappedTrainer
from rlsuite.running.saving import read_share
from rlsuite.running.shares import share_of
from rlsuite.running.stored import read_counters, stored_config
from rlsuite.running.training import Trainer


def make_trainer(
    config: TrainConfig, folder: Path, stack: contextlib.ExitStack, checkpoint: Checkpoint | None = None
) -> Trainer:
    """Build environments, agent and trainer; the environments are closed with the stack."""
    here = ranks()
    env = make_env(config, share_of(config, here.size).num_envs)
    stack.callback(env.close)
    if not here.alone:
        require(isinstance(env, VectorEnv), f"env={config.env.name} on {here.size} ranks: it cannot be dealt out")
        env.place(here.first(config.num_envs))

    def evaluation_env() -> Any:
        made = make_watched_env(config)
        stack.callback(made.close)
        return made

    agent = make_agent(config, env)
    kind = OverlappedTrainer if config.overlap else Trainer
    if agent.learns_from == "rollouts":
        kind = OnPolicyTrainer
    return kind(
        config,
        folder,
        env,
        agent,
        make_evaluation_env=evaluation_env,
        save_failure=record_failure,
        checkpoint=checkpoint,
    )


def make_watched_env(config: TrainConfig) -> Any:
    """Return the environments of evaluations, which can be drawn where clips are wanted and the task can be."""
    if config.evaluate.clip_every and not config.env.adapter:  # another library's may want a screen, or a package
        with contextlib.suppress(UserError):  # one that is about something else comes again below
            size = (CLIP_SIDE, CLIP_SIDE)
            return make_evaluation_env(config, config.evaluate.episodes, render_mode="rgb_array", render_size=size)
    return make_evaluation_env(config, config.evaluate.episodes)


def read_run(
    path: Path,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    stack: contextlib.ExitStack,
    imports: Sequence[str] = (),
) -> tuple[TrainConfig, Path, Checkpoint]:
    """Return the config, folder and checkpoint of a run that is to go on; its directory is locked until the stack ends.

    Args:
        path: a run directory (its latest checkpoint) or a checkpoint directory.
        change: of the run's plain config.
        stack: closes the lock.
        imports: see `rlsuite.config.imports`.

    Raises:
        UserError: if there is no intact checkpoint, another process trains the run, or the change would do nothing.
    """
    here = ranks()
    checkpoint_dir = Path(here.texts(str(resolve_checkpoint(path)))[0])
    folder = checkpoint_dir.parent.parent
    config = train_config(change(read_config(folder)))
    require_imports(config.env, imports, folder)
    if here.leads:
        stack.enter_context(RunLock(folder))
    checkpoint = read_share(checkpoint_dir, here)
    counters, old = read_counters(checkpoint), stored_config(checkpoint)
    _require_same(config, old, folder)
    require(
        config.steps >= checkpoint.step or config.steps == old["steps"],
        f"steps={config.steps}: the run is already at step {checkpoint.step}; use more, or leave it out",
    )
    done = config.steps <= checkpoint.step and not counters.busy
    changed = changes(old, to_plain(config))
    require(
        not (done and changed),
        f"the run is finished at step {checkpoint.step}, so {', '.join(changed)} would change nothing; use more "
        f"than steps={config.steps}",
    )
    return config, folder, checkpoint


def _require_same(config: TrainConfig, old: dict[str, Any], folder: Path) -> None:
    """Refuse another agent or environment than a checkpoint's: no other number of steps would make them fit."""
    env = EnvConfig(id=str(old["env"].get("id", "")), adapter=str(old["env"].get("adapter", "")))
    was, now = [f"agent={old['agent'].get('name')}", env.typed], [f"agent={config.agent_name}", config.env.typed]
    other = [new for before, new in zip(was, now, strict=True) if before != new]
    require(
        not other,
        f"{folder} holds a run of {' '.join(was)}, not of {' '.join(other)}; say those, or choose another run_dir=",
    )


def record_failure(failure: Failure, path: Path) -> str:
    """Write an environment's failure record; return how to look at it."""
    save_failure(failure, path)
    return as_started(f"recorded; replay it with: python scripts/replay_failure.py {typed(path)}")


def refuse_used(folder: Path) -> None:
    """Raise UserError if `folder` already holds a run: nothing is ever overwritten."""
    if (folder / "config.yaml").exists() and not list_checkpoints(folder):
        raise UserError(f"run_dir={folder} holds a run without any checkpoint; delete it, or choose another run_dir=")
    if (folder / "config.yaml").exists():
        go_on = f"resume={typed(folder)}"
        raise UserError(f"run_dir={folder} already holds a run; continue it with {go_on}, or choose another")


def write_config(config: TrainConfig, folder: Path) -> None:
    """Write config.yaml, whole or not at all."""
    try:
        write_atomically(folder / "config.yaml", yaml.safe_dump(to_plain(config), sort_keys=False))
    except OSError as error:
        raise UserError(f"cannot write to run_dir={folder} ({error.strerror}); choose another run_dir=") from None
