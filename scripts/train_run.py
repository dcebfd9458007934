"""One training run from the command line: a new one, or one that goes on from a checkpoint."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from agents.assembly import make_agent, make_env, make_evaluation_env, prepare_torch
from envs.failures import Failure, save_failure
from rlsuite.cli import as_started
from rlsuite.config.compose import compose_train, merge, parse, read_config
from rlsuite.config.imports import imports_argument, require_imports
from rlsuite.config.schema import TrainConfig, changes, to_plain, train_config
from rlsuite.errors import UserError, require
from rlsuite.records.checkpoint import Checkpoint, list_checkpoints, read_checkpoint, resolve_checkpoint
from rlsuite.records.files import write_atomically
from rlsuite.records.monitor import Monitor
from rlsuite.records.run_lock import RunLock
from rlsuite.records.summaries import CLIP_SIDE
from rlsuite.running.on_policy import OnPolicyTrainer
from rlsuite.running.signals import GracefulStop
from rlsuite.running.stored import read_counters, stored_config
from rlsuite.running.training import Trainer


def dispatch(arguments: list[str], stop: GracefulStop, folder: Path | None = None) -> int:
    """Continue a run, or start one, in `folder` unless they say where."""
    resume = [override for override in parse(arguments) if override.key_or_group == "resume"]
    if resume and resume[-1].value() is not None:
        others = [argument for argument in arguments if not argument.startswith(("resume=", "imports="))]
        imports = [argument[8:] for argument in arguments if argument.startswith("imports=")]
        return continue_run(Path(str(resume[-1].value())), others, stop, ",".join(imports).split(","))
    config, run = compose_train(arguments)
    chosen = Path(run["run_dir"]) if run["run_dir"] else folder
    require(chosen is not None, "run_dir is missing; say where the run is kept")
    assert chosen is not None
    return start_run(config, chosen, stop, command_of(arguments))


def command_of(arguments: Sequence[str]) -> str:
    """Return the command line that these arguments were typed on, for the record."""
    return as_started(shlex.join(["python", "scripts/train_agent.py", *arguments]))


def start_run(config: TrainConfig, folder: Path, stop: GracefulStop, command: str) -> int:
    """Train a new run in `folder`; `command` is what was typed, for the record."""
    refuse_used(folder)
    prepare_torch(config)
    with contextlib.ExitStack() as stack:
        trainer = make_trainer(config, folder, stack)
        stack.enter_context(RunLock(folder))
        refuse_used(folder)
        write_config(config, folder)
        return train(trainer, stack, stop, command)


def continue_run(path: Path, arguments: list[str], stop: GracefulStop, imports: Sequence[str] = ()) -> int:
    """Continue a run from its latest checkpoint, or from the one `path` names; see rlsuite.config.imports."""
    checkpoint_dir = resolve_checkpoint(path)
    folder = checkpoint_dir.parent.parent
    with contextlib.ExitStack() as stack:
        config = train_config(merge(read_config(folder), arguments))
        require_imports(config.env, imports, folder)
        stack.enter_context(RunLock(folder))
        checkpoint = read_checkpoint(checkpoint_dir, parts=["agent", "optimizers", "replay", "environment", "worker"])
        counters, old = read_counters(checkpoint), stored_config(checkpoint)
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
        prepare_torch(config)
        trainer = make_trainer(config, folder, stack, checkpoint)
        del checkpoint  # its tensors are its files: pruned ones would keep their place on the disk
        write_config(config, folder)
        return train(trainer, stack, stop, command_of([f"resume={path}", *arguments]))


def make_trainer(
    config: TrainConfig, folder: Path, stack: contextlib.ExitStack, checkpoint: Checkpoint | None = None
) -> Trainer:
    """Build environments, agent and trainer; the environments are closed with the stack."""
    env = make_env(config, config.num_envs)
    stack.callback(env.close)

    def evaluation_env() -> Any:
        made = make_watched_env(config)
        stack.callback(made.close)
        return made

    agent = make_agent(config, env)
    kind = OnPolicyTrainer if agent.learns_from == "rollouts" else Trainer
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


def train(trainer: Trainer, stack: contextlib.ExitStack, stop: GracefulStop, command: str) -> int:
    """Run the loop under a monitor; SIGTERM and Ctrl-C save and end it."""
    config = trainer.config
    monitor = Monitor(
        trainer.run_dir,
        total_steps=config.steps,
        resume_step=trainer.resume_step,
        elapsed_s=trainer.elapsed_s,
    )
    stack.enter_context(monitor)
    monitor.note(as_started(f"to watch: python scripts/watch_runs.py runs={shlex.quote(str(trainer.run_dir.parent))}"))
    monitor.about_run(to_plain(config), command, trainer.commits, trainer.worker.steps)
    if config.steps < config.num_envs:
        monitor.note(f"num_envs={config.num_envs}: one step of all of them is more than steps={config.steps}")
    if config.steps <= config.learning_starts:
        monitor.note(f"steps={config.steps} end before learning starts; lower learning_starts={config.learning_starts}")
    finished = trainer.run(monitor, lambda: stop.requested)
    if finished:
        monitor.run_ended(trainer.worker.steps)
    monitor.close()  # before the last word, so that the table does not stand below it
    path = shlex.quote(str(trainer.run_dir)) + imports_argument(config.env)
    if finished and trainer.updates == 0:
        steps = trainer.worker.steps  # of whole steps of all environments
        print(f"no update was made: the agent is as it was drawn; use more than steps={steps}{earlier(config)}")
    if finished:
        said = f"finished at step {trainer.worker.steps}; next:\n  python scripts/evaluate_agent.py {path}"
    else:
        said = f"saved at step {trainer.worker.steps}; next:\n  python scripts/train_agent.py resume={path}"
    print(as_started(said))
    return 0


def earlier(config: TrainConfig) -> str:
    """Return what else would let learning begin, as the end of a sentence."""
    names = [name for name in ("learning_starts", "warmup_episodes") if getattr(config, name)]
    return "".join(f", or less than {name}={getattr(config, name)}" for name in names)


def record_failure(failure: Failure, path: Path) -> str:
    """Write an environment's failure record; return how to look at it."""
    save_failure(failure, path)
    return as_started(f"recorded; replay it with: python scripts/replay_failure.py {shlex.quote(str(path))}")


def refuse_used(folder: Path) -> None:
    """Raise UserError if `folder` already holds a run: nothing is ever overwritten."""
    if (folder / "config.yaml").exists() and not list_checkpoints(folder):
        raise UserError(f"run_dir={folder} holds a run without any checkpoint; delete it, or choose another run_dir=")
    if (folder / "config.yaml").exists():
        raise UserError(f"run_dir={folder} already holds a run; continue it with resume={folder}, or choose another")


def write_config(config: TrainConfig, folder: Path) -> None:
    """Write config.yaml, whole or not at all."""
    try:
        write_atomically(folder / "config.yaml", yaml.safe_dump(to_plain(config), sort_keys=False))
    except OSError as error:
        raise UserError(f"cannot write to run_dir={folder} ({error.strerror}); choose another run_dir=") from None
