"""Train an agent: ``python scripts/train_agent.py agent=ace env=Humanoid steps=1000000``.

``--help`` lists agents, tasks and keys; ``-m`` runs sweeps, such as ``-m seed=0,1,2 env=Hopper,Walker2d``;
``resume=RUN_DIR`` continues a run to its configured steps; ``imports=package`` with it, where the run's environment is
a package's (``env.id=package:Task-v0``): nothing is imported because a file names it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from agents.assembly import check_fit, make_agent, make_env, make_evaluation_env, prepare_torch
from envs.failures import Failure, save_failure
from rlsuite.cli import as_started, command, refuse
from rlsuite.config.compose import (
    CONF,
    compose_train,
    expand,
    from_composed,
    hydra_arguments,
    merge,
    parse,
    read_config,
)
from rlsuite.config.help import help_text
from rlsuite.config.imports import imports_argument, require_imports
from rlsuite.config.schema import TrainConfig, changes, to_plain, train_config
from rlsuite.errors import UserError, require
from rlsuite.records.checkpoint import Checkpoint, list_checkpoints, read_checkpoint, resolve_checkpoint
from rlsuite.records.files import write_atomically
from rlsuite.records.monitor import Monitor
from rlsuite.records.run_lock import RunLock
from rlsuite.running.on_policy import OnPolicyTrainer
from rlsuite.running.signals import GracefulStop
from rlsuite.running.stored import read_counters, stored_config
from rlsuite.running.training import Trainer


@command(help_text)
def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return the exit status."""
    with GracefulStop() as stop:  # from the very start: a signal while things are set up is not lost either
        return dispatch(arguments, stop)


def dispatch(arguments: list[str], stop: GracefulStop) -> int:
    """Start a sweep, continue a run, or start one."""
    if "-m" in arguments or "--multirun" in arguments:
        return sweep([argument for argument in arguments if argument not in ("-m", "--multirun")], stop)
    resume = [override for override in parse(arguments) if override.key_or_group == "resume"]
    if resume and resume[-1].value() is not None:
        others = [argument for argument in arguments if not argument.startswith(("resume=", "imports="))]
        imports = [argument[8:] for argument in arguments if argument.startswith("imports=")]
        return continue_run(Path(str(resume[-1].value())), others, stop, ",".join(imports).split(","))
    config, run = compose_train(arguments)
    return start_run(config, run["run_dir"], stop)


def start_run(config: TrainConfig, run_dir: str | None, stop: GracefulStop) -> int:
    """Train a new run."""
    folder = Path(run_dir) if run_dir else default_run_dir(config)
    refuse_used(folder)
    prepare_torch(config)
    with contextlib.ExitStack() as stack:
        trainer = make_trainer(config, folder, stack)
        stack.enter_context(RunLock(folder))
        refuse_used(folder)
        write_config(config, folder)
        return train(trainer, stack, stop)


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
        return train(trainer, stack, stop)


def make_trainer(
    config: TrainConfig, folder: Path, stack: contextlib.ExitStack, checkpoint: Checkpoint | None = None
) -> Trainer:
    """Build environments, agent and trainer; the environments are closed with the stack."""
    env = make_env(config, config.num_envs)
    stack.callback(env.close)

    def evaluation_env() -> Any:
        made = make_evaluation_env(config, config.evaluate.episodes)
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


def train(trainer: Trainer, stack: contextlib.ExitStack, stop: GracefulStop) -> int:
    """Run the loop under a monitor; SIGTERM and Ctrl-C save and end it."""
    config = trainer.config
    monitor = Monitor(
        trainer.run_dir,
        total_steps=config.steps,
        resume_step=trainer.resume_step,
        elapsed_s=trainer.elapsed_s,
    )
    stack.enter_context(monitor)
    monitor.note(f"run directory: {trainer.run_dir} (tensorboard --logdir {shlex.quote(str(trainer.run_dir))})")
    if config.steps < config.num_envs:
        monitor.note(f"num_envs={config.num_envs}: one step of all of them is more than steps={config.steps}")
    if config.steps <= config.learning_starts:
        monitor.note(f"steps={config.steps} end before learning starts; lower learning_starts={config.learning_starts}")
    finished = trainer.run(monitor, lambda: stop.requested)
    monitor.close()  # before the last word, so that the table does not stand below it
    path = shlex.quote(str(trainer.run_dir)) + imports_argument(config.env)
    if finished and trainer.updates == 0:
        steps = trainer.worker.steps  # of whole steps of all environments
        print(f"no update was made: the agent is as it was drawn; use more than steps={steps}{earlier(config)}")
    if finished:
        said = f"finished at step {trainer.worker.steps}; next: python scripts/evaluate_agent.py run={path}"
    else:
        said = f"saved at step {trainer.worker.steps}; next: python scripts/train_agent.py resume={path}"
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


def default_run_dir(config: TrainConfig) -> Path:
    """Return a run directory that says task, agent, seed and time."""
    name = f"{config.env.name}-{config.agent_name}-s{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, number = Path("runs") / name, 1
    while folder.exists():
        number += 1
        folder = Path("runs") / f"{name}-{number}"
    return folder


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


def sweep(arguments: list[str], stop: GracefulStop) -> int:
    """Run every combination of the swept values through Hydra's launcher (hydra/launcher=... for a cluster)."""
    overrides = parse([argument for argument in arguments if not argument.startswith("hydra")])
    if any(override.key_or_group == "resume" for override in overrides):
        raise UserError("resume= continues one run; leave out -m")
    refuse_impossible([compose_train(combination)[0] for combination in expand(overrides)])
    for folder in (str(override.value()) for override in overrides if override.key_or_group == "run_dir"):
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to run_dir={folder} ({error.strerror}); choose another run_dir=") from None
    hydra_own = [argument for argument in arguments if argument.startswith("hydra")]
    sys.argv = [sys.argv[0], "--multirun", *hydra_arguments(overrides), *hydra_own]
    failed: list[str] = []

    def run_one(composed: DictConfig) -> int:
        if stop.requested:  # the signal was meant for the sweep
            return 0
        try:
            return run_swept(composed, stop)
        except UserError as error:  # one bad run does not cost the others
            failed.append(str(error))
            return refuse(str(error))

    hydra.main(config_path=str(CONF), config_name="train", version_base="1.3")(run_one)()
    for error in failed:  # once more, where they are not lost among the runs
        print(f"failed: {error}", file=sys.stderr)
    return 2 if failed else 0


def refuse_impossible(configs: list[TrainConfig]) -> None:
    """Raise UserError, before the first run, if agent and environment of one do not go together."""
    seen: list[TrainConfig] = []
    for config in configs:
        config = dataclasses.replace(config, seed=0)  # seeds fit alike
        if config not in seen:
            seen.append(config)
            env = make_env(config, 1)
            try:
                check_fit(config, env)
            finally:
                env.close()


def run_swept(composed: DictConfig, stop: GracefulStop) -> int:
    """Run one member of a sweep, in a directory of its own."""
    job = HydraConfig.get()
    plain: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    config, run = from_composed(plain, job.runtime.choices.get("preset", "none"))
    folder = run["run_dir"]
    if folder is not None:
        name = f"{int(job.job.num):03d}-{config.env.name}-{config.agent_name}-s{config.seed}"
        folder = str(Path(folder) / name)
    return start_run(config, folder, stop)


if __name__ == "__main__":
    sys.exit(main())
