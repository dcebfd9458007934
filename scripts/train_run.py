"""One training run from the command line: a new one, or one that goes on from a checkpoint."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from agents.assembly import prepare_torch
from agents.training import make_trainer, read_run, refuse_used, write_config
from rlsuite.cli import as_started, typed
from rlsuite.config.compose import compose_train, merge, parse
from rlsuite.config.imports import module_of, trusted_arguments
from rlsuite.config.schema import TrainConfig, to_plain
from rlsuite.distributed import joined, ranks
from rlsuite.errors import require
from rlsuite.records.checkpoint import Checkpoint, list_checkpoints
from rlsuite.records.monitor import Monitor, SilentMonitor
from rlsuite.records.run_lock import RunLock
from rlsuite.running.signals import GracefulStop
from rlsuite.running.training import Trainer

AUTO = "auto"  # resume=auto
BEGUN = "to watch: "  # how the line begins that says that all is set up and learning begins


def dispatch(arguments: list[str], stop: GracefulStop, folder: Path | None = None) -> int:
    """Continue a run, or start one, in `folder` unless they say where; as one of torchrun's ranks, if it started us."""
    with joined() as here:
        if folder is not None:
            folder = Path(here.texts(str(folder))[0])  # its name is of the time at which rank 0 chose it
        return dispatch_here(arguments, stop, folder)


def dispatch_here(arguments: list[str], stop: GracefulStop, folder: Path | None) -> int:
    """Do what `dispatch` says, ranks being joined."""
    resume = [override for override in parse(arguments) if override.key_or_group == "resume"]
    if resume and resume[-1].value() == AUTO:
        return continue_or_start(arguments, stop)
    if resume and resume[-1].value() is not None:
        others = [argument for argument in arguments if not argument.startswith(("resume=", "imports="))]
        imports = [argument[8:] for argument in arguments if argument.startswith("imports=")]
        return continue_run(Path(str(resume[-1].value())), others, stop, ",".join(imports).split(","))
    config, run = compose_train(arguments)
    chosen = Path(run["run_dir"]) if run["run_dir"] else folder
    require(chosen is not None, "run_dir is missing; say where the run is kept")
    assert chosen is not None
    return start_run(config, chosen, stop, command_of(arguments))


def continue_or_start(arguments: list[str], stop: GracefulStop) -> int:
    """Continue the run of run_dir from its latest checkpoint; begin it where it has none."""
    config, run = compose_train(arguments)
    require(bool(run["run_dir"]), f"resume={AUTO} continues the run of run_dir, or begins it; add run_dir=")
    return run_in(config, Path(run["run_dir"]), stop, command_of(arguments), auto=True)


def run_in(config: TrainConfig, folder: Path, stop: GracefulStop, command: str, *, auto: bool = False) -> int:
    """Train a new run in `folder`; with `auto`, from its latest checkpoint where there is one."""
    if not auto or not ranks().any(bool(list_checkpoints(folder))):
        return start_run(config, folder, stop, command, again=auto)
    with contextlib.ExitStack() as stack:
        # What this command line names, it may import: nothing of it comes from the run's own files.
        imports = [module_of(config.env)]
        config, folder, checkpoint = read_run(folder, lambda stored: to_plain(config), stack, imports)
        return go_on(config, folder, checkpoint, stack, stop, command)


def command_of(arguments: Sequence[str]) -> str:
    """Return the command line that these arguments were typed on, for the record."""
    return as_started(shlex.join(["python", "scripts/train_agent.py", *arguments]))


def start_run(config: TrainConfig, folder: Path, stop: GracefulStop, command: str, *, again: bool = False) -> int:
    """Train a new run in `folder`.

    Args:
        config: the run.
        folder: where it lies.
        stop: asks for its end.
        command: what was typed, for the record.
        again: whether it may have been begun there before and come to no checkpoint.
    """
    here = ranks()
    if here.leads and not again:
        refuse_used(folder)
    prepare_torch(config)
    with contextlib.ExitStack() as stack:
        trainer = make_trainer(config, folder, stack)
        if here.leads:
            stack.enter_context(RunLock(folder))
            if not again:
                refuse_used(folder)
            write_config(config, folder)
        return train(trainer, stack, stop, command, resume_step=0 if again else None)


def continue_run(path: Path, arguments: list[str], stop: GracefulStop, imports: Sequence[str] = ()) -> int:
    """Continue a run from its latest checkpoint, or from the one `path` names; see rlsuite.config.imports."""
    with contextlib.ExitStack() as stack:
        config, folder, checkpoint = read_run(path, lambda stored: merge(stored, arguments), stack, imports)
        return go_on(config, folder, checkpoint, stack, stop, command_of([f"resume={path}", *arguments]))


def go_on(
    config: TrainConfig,
    folder: Path,
    checkpoint: Checkpoint,
    stack: contextlib.ExitStack,
    stop: GracefulStop,
    command: str,
) -> int:
    """Train a run further from a checkpoint."""
    prepare_torch(config)
    trainer = make_trainer(config, folder, stack, checkpoint)
    del checkpoint  # its tensors are its files: pruned ones would keep their place on the disk
    if ranks().leads:
        write_config(config, folder)
    return train(trainer, stack, stop, command, resume_step=trainer.resume_step)


def train(
    trainer: Trainer, stack: contextlib.ExitStack, stop: GracefulStop, command: str, *, resume_step: int | None = None
) -> int:
    """Run the loop under a monitor; SIGTERM and Ctrl-C, on any rank, save and end it.

    What is said and logged, rank 0 says; `resume_step` is the step up to which an earlier log is kept, if there is one.
    """
    config = trainer.config
    if not ranks().leads:
        trainer.run(SilentMonitor(elapsed_s=trainer.elapsed_s), lambda: stop.requested)
        return 0
    monitor = Monitor(
        trainer.run_dir,
        total_steps=config.steps,
        resume_step=resume_step,
        elapsed_s=trainer.elapsed_s,
        wandb=config.log.project if config.log.wandb else "",
    )
    stack.enter_context(monitor)
    monitor.note(as_started(f"{BEGUN}python scripts/watch_runs.py runs={typed(trainer.run_dir.parent)}"))
    monitor.about_run(to_plain(config), command, trainer.commits, trainer.worker.steps)
    if config.steps < config.num_envs:
        monitor.note(f"num_envs={config.num_envs}: one step of all of them is more than steps={config.steps}")
    if config.steps <= config.learning_starts:
        monitor.note(f"steps={config.steps} end before learning starts; lower learning_starts={config.learning_starts}")
    finished = trainer.run(monitor, lambda: stop.requested)
    if finished:
        monitor.run_ended(trainer.worker.steps)
    monitor.close()  # before the last word, so that the table does not stand below it
    path = typed(trainer.run_dir) + trusted_arguments(config)
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
