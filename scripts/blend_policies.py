"""Teach a fresh policy what trained ones do: ``python scripts/blend_policies.py run=A,B run_dir=C``.

The student is made as the first run's agent was (ppo or trpo), but for what agent.<key>=, steps= and env.<option>= say:
larger networks with agent.hidden_sizes=[256,256], a harder task with env.max_obstacles=10. It learns by regression on
states of rollouts that teachers lead at first and the student at last (agents/blending.py), and is written as a run of
its own that has taken no step yet: ``python scripts/train_agent.py resume=C`` trains it further, and
``python scripts/evaluate_agent.py C`` judges it.

The last line printed is JSON: how student and teachers differed in each round, seconds, the run directory. A blend that
is killed leaves nothing and starts anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.assembly import load_agent, make_env, prepare_torch
from agents.blending import BlendConfig, blend, check_teachers
from agents.on_policy import OnPolicyAgent
from agents.training import make_trainer, refuse_used, write_config
from rlsuite.agent import Agent
from rlsuite.cli import as_started, command, positional, typed
from rlsuite.config.build import build
from rlsuite.config.compose import merge, plain_values
from rlsuite.config.imports import trusted_arguments
from rlsuite.config.schema import TrainConfig, to_plain, train_config
from rlsuite.errors import require, require_threads
from rlsuite.records.checkpoint import resolve_checkpoint
from rlsuite.records.json_text import to_json
from rlsuite.records.monitor import Monitor
from rlsuite.records.run_lock import RunLock

OF_STUDENT = ("agent.", "env.", "steps=")


@dataclass(frozen=True, kw_only=True)
class BlendPoliciesConfig(BlendConfig):
    """Who teaches, how, and where the student goes.

    Attributes:
        run: run directories or checkpoints of the teachers, with commas between.
        run_dir: the student's run directory.
        num_threads: threads of simulator and torch; 0 takes all cores.
        device: auto, cpu or cuda.
        imports: packages that the runs' env.id, such as package:Task-v0, may have imported; none is without it.
    """

    run: tuple[str, ...] = ()
    run_dir: str = ""
    num_threads: int = 0
    device: str = "auto"
    imports: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.run) and all(self.run), "run= is missing; name the teachers' run directories: run=A,B")
        require(bool(self.run_dir), "run_dir= is missing; say where the student's run is kept")
        require_threads(self.num_threads)


@command(BlendPoliciesConfig)
def main(arguments: list[str]) -> int:
    """Teach, write and print."""
    began = time.monotonic()
    arguments = positional(arguments, "run")
    student = [argument for argument in arguments if argument.startswith(OF_STUDENT)]
    own = plain_values([argument for argument in arguments if argument not in student])
    names = own.get("run", [])
    own["run"] = list(names) if isinstance(names, list | tuple) else [names]
    script: BlendPoliciesConfig = build(BlendPoliciesConfig, own)
    folder = Path(script.run_dir)
    refuse_used(folder)
    teachers, config = load_teachers(script, student)
    prepare_torch(config)
    differences = write_student(teachers, config, script, folder)
    path = typed(folder) + trusted_arguments(config)
    print(as_started(f"written to {folder}; train it further with: python scripts/train_agent.py resume={path}"))
    seconds = round(time.monotonic() - began, 1)
    print(to_json({"differences": differences, "seconds": seconds, "run_dir": str(folder)}))
    return 0


def load_teachers(script: BlendPoliciesConfig, changes: Sequence[str]) -> tuple[list[Agent], TrainConfig]:
    """Return the teachers, and the config of the student's run."""
    loaded = [
        load_agent(resolve_checkpoint(Path(run)), device=script.device, imports=script.imports) for run in script.run
    ]
    plain = to_plain(loaded[0][1])
    options = plain_values([change for change in changes if change.startswith("env.")])
    for key, value in options.items():  # a run that is resumed could not change them; the student's is a new one
        name = key.removeprefix("env.")
        require(name not in ("id", "adapter"), f"{key}={value}: the student's task is the teachers'; leave it out")
        plain["env"]["options"][name] = value
    config = train_config(merge(plain, [change for change in changes if not change.startswith("env.")]))
    config = dataclasses.replace(config, seed=script.seed, num_threads=script.num_threads)
    return [agent for agent, _ in loaded], config


def write_student(
    teachers: Sequence[Agent], config: TrainConfig, script: BlendPoliciesConfig, folder: Path
) -> list[float]:
    """Teach the student of a new run, and write the run's first checkpoint."""
    with contextlib.ExitStack() as stack:
        trainer = make_trainer(config, folder, stack)
        check_teachers(teachers, trainer.agent)
        stack.enter_context(RunLock(folder))  # before the work, so that a folder of no use costs none
        assert isinstance(trainer.agent, OnPolicyAgent)
        env = make_env(config, script.num_envs)
        stack.callback(env.close)
        differences = blend(trainer.agent, teachers, env, script)
        refuse_used(folder)
        write_config(config, folder)
        monitor = stack.enter_context(Monitor(folder, total_steps=config.steps, console=False))
        trainer.run(monitor, lambda: True)  # stopped before its first step: it saves
    return [round(difference, 6) for difference in differences]


if __name__ == "__main__":
    sys.exit(main())
