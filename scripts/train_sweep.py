"""A sweep: every combination of the values that the keys name, one after the other or several at a time.

With ``hydra/launcher=`` the members go through Hydra's launcher, to a cluster; without, they run here.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from agents.assembly import check_fit, make_env
from rlsuite.agent_registry import agent_class
from rlsuite.cli import refuse
from rlsuite.config.compose import CONF, compose_train, expand, from_composed, hydra_arguments, one_line, parse, quoted
from rlsuite.config.schema import TrainConfig
from rlsuite.distributed import asked_for
from rlsuite.errors import UserError, printable, require
from rlsuite.records.progress import duration
from rlsuite.running.signals import GracefulStop
from rlsuite.running.threads import available_threads
from rlsuite.statistics.curves import make_curves
from rlsuite.statistics.digits import shown
from rlsuite.statistics.means import NONE
from rlsuite.statistics.runs import read_runs
from scripts.train_run import AUTO, command_of, run_in

DOOR = Path(__file__).with_name("train_agent.py")


class Member(NamedTuple):
    """A run of a sweep: its arguments, its config and where it lies."""

    arguments: list[str]
    config: TrainConfig
    folder: Path


def sweep(arguments: list[str], stop: GracefulStop, folder: Path) -> int:
    """Run all combinations, jobs= of them at a time; print how they ended."""
    jobs, arguments = take_jobs(arguments)
    own = [argument for argument in arguments if argument.startswith("hydra")]
    overrides = parse([argument for argument in arguments if not argument.startswith("hydra")])
    require(asked_for().alone, "a sweep's runs have one process each; leave out torchrun, or -m")
    resume = [str(override.value()) for override in overrides if override.key_or_group == "resume"]
    if any(value != AUTO for value in resume):
        raise UserError(f"resume= continues one run; leave out -m, or use resume={AUTO} for all that have begun")
    combinations = scoped(expand(overrides))
    members = [make_member(number, combination, folder) for number, combination in enumerate(combinations)]
    refuse_impossible([member.config for member in members])
    for parent in {member.folder.parent for member in members}:
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to run_dir={parent} ({error.strerror}); choose another run_dir=") from None
    if own:
        require(jobs == 1, f"jobs={jobs}: with hydra/launcher= the launcher says how many; leave jobs= out")
        sys.argv = [sys.argv[0], "--multirun", *hydra_arguments(overrides), quoted("hydra.sweep.dir", folder), *own]
        failed = through_hydra(stop)
    else:
        failed = here(members, stop) if jobs == 1 else side_by_side(members, stop, jobs)
        for line in results(members, [override.key_or_group for override in overrides if override.is_sweep_override()]):
            print(line)
    for error in failed:  # once more, where they are not lost among the runs
        print(f"failed: {printable(error)}", file=sys.stderr)
    return 2 if failed else 0


def take_jobs(arguments: list[str]) -> tuple[int, list[str]]:
    """Return how many members run at a time, and the other arguments."""
    given = [argument.partition("=")[2] for argument in arguments if argument.startswith("jobs=")]
    text = given[-1] if given else "1"
    require(text.isdecimal() and 1 <= int(text) <= 256, f"jobs={text}: use a whole number from 1 to 256")
    return int(text), [argument for argument in arguments if not argument.startswith("jobs=")]


def scoped(combinations: Sequence[list[str]]) -> list[list[str]]:
    """Leave out of each combination the agent's keys that its agent has not but another of the sweep has; no twins.

    ``agent=td3,sac agent.policy_delay=2,4`` is two runs of td3 and one of sac.
    """
    known: dict[str, set[str]] = {}

    def agent_of(combination: list[str]) -> str:
        named = [argument[6:] for argument in combination if argument.startswith("agent=")]
        name = named[-1] if named else "ace"  # the last one counts, as Hydra has it
        if name not in known:
            known[name] = {entry.name for entry in dataclasses.fields(agent_class(name).Config)}
        return name

    owners = [agent_of(combination) for combination in combinations]
    kept: list[list[str]] = []
    for combination, name in zip(combinations, owners, strict=True):
        left = []
        for argument in combination:
            key = argument.partition("=")[0].split(".")
            foreign = key[0] == "agent" and len(key) > 1 and key[1] not in known[name]
            if not (foreign and any(key[1] in keys for keys in known.values())):
                left.append(argument)
        if left not in kept:
            kept.append(left)
    return kept


def make_member(number: int, combination: list[str], folder: Path) -> Member:
    """Return a run of the sweep, in a directory of its own."""
    config, run = compose_train(combination)
    name = f"{number:03d}-{config.env.name}-{config.agent_name}-s{config.seed}"
    rest = [argument for argument in combination if not argument.startswith("run_dir=")]
    return Member(rest, config, Path(run["run_dir"] or folder) / name)


# -- here ---------------------------------------------------------------------------------------------------


def here(members: Sequence[Member], stop: GracefulStop) -> list[str]:
    """Run the members one after the other in this process; return what went wrong."""
    failed: list[str] = []
    began = time.monotonic()
    for done, (arguments, config, folder) in enumerate(members):
        if stop.requested:  # the signal was meant for the sweep
            break
        print(f"{count(done, done + 1, len(members), began)}: {folder.name}", flush=True)
        try:
            run_in(config, folder, stop, command_of(arguments), auto=f"resume={AUTO}" in arguments)
        except UserError as error:  # one bad run does not cost the others
            failed.append(str(error))
            refuse(str(error))
    return failed


def count(done: int, number: int, total: int, began: float) -> str:
    """Return "2 of 9, 14m00s left": which member this is, and the time left at the pace of those that are done."""
    if not done:
        return f"{number} of {total}"
    return f"{number} of {total}, {duration((time.monotonic() - began) / done * (total - done))} left"


def side_by_side(members: Sequence[Member], stop: GracefulStop, jobs: int) -> list[str]:
    """Run several members at a time, each in a process of its own that writes <folder>.log; return what went wrong."""
    threads = max(available_threads() // jobs, 1)
    waiting = list(members)
    running: list[tuple[Member, subprocess.Popen]] = []
    failed: list[str] = []
    began, done, told = time.monotonic(), 0, False
    try:
        while running or (waiting and not stop.requested):
            while waiting and len(running) < jobs and not stop.requested:
                member = waiting.pop(0)
                share = [] if any(one.startswith("num_threads=") for one in member.arguments) else [threads]
                running.append((member, _launch(member, [f"num_threads={number}" for number in share])))
            if stop.requested and not told:
                told = True
                for _, process in running:
                    process.terminate()  # each saves and ends
            time.sleep(0.1)
            ended = [(member, process) for member, process in running if process.poll() is not None]
            for member, process in ended:
                running.remove((member, process))
                done += 1
                print(f"{count(done, done, len(members), began)}: {member.folder.name} has ended", flush=True)
                if process.returncode:
                    failed.append(f"{member.folder.name}: {_last_line(_log(member))}")
    finally:
        for _, process in running:
            process.terminate()
    return failed


def _launch(member: Member, share: list[str]) -> subprocess.Popen:
    command = [sys.executable, str(DOOR), *member.arguments, *share, f"run_dir={member.folder}"]
    with open(_log(member), "w") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def _log(member: Member) -> Path:
    return member.folder.with_name(member.folder.name + ".log")


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else f"it ended without a word in {path}"


# -- how they ended -------------------------------------------------------------------------------------------


def results(members: Sequence[Member], swept: Sequence[str]) -> list[str]:
    """Return a table of the members' last evaluations: mean over seeds and its 95 % interval."""
    by = ["agent.name", *(_key_in_config(key) for key in swept if key not in ("agent", "env", "seed", "preset"))]
    evaluated = [str(member.folder) for member in members if (member.folder / "metrics.jsonl").exists()]
    try:
        curves = make_curves(read_runs(evaluated, by)) if evaluated else []
    except UserError as error:
        return [f"no table: {printable(str(error))}"]
    if not curves:
        return []
    task_width = min(max(len(curve.task) for curve in curves), 24)
    width = min(max(max(len(curve.label) for curve in curves), 5), 40)
    lines = [f"{'task':{task_width}} {'agent':{width}} seeds {'return':>9}  95 % interval"]
    for curve in sorted(curves, key=lambda curve: (curve.task, -curve.last_mean)):
        low, high, kind = curve.last_interval
        interval = "one seed" if kind == NONE else f"[{shown(low, 1)}, {shown(high, 1)}]"
        task, label = printable(curve.task)[:task_width], printable(curve.label)[:width]
        mean = shown(curve.last_mean, 1)
        lines.append(f"{task:{task_width}} {label:{width}} {len(curve.seeds):>5} {mean:>9}  {interval}")
    return lines


def _key_in_config(key: str) -> str:
    """Return where config.yaml holds what the command line calls `key`: a task's options lie one deeper."""
    group, dot, name = key.partition(".")
    return f"env.options.{name}" if group == "env" and dot and name not in ("id", "adapter") else key


# -- through Hydra ----------------------------------------------------------------------------------------------


def through_hydra(stop: GracefulStop) -> list[str]:
    """Hand the members to Hydra's launcher; return what went wrong."""
    failed: list[str] = []

    def run_one(composed: DictConfig) -> int:
        # In a process of the launcher's the signal comes here, and what is raised goes back to the sweep.
        with GracefulStop() as here:
            here.requested = stop.requested
            return 0 if stop.requested else run_swept(composed, here)

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come out as they are
    try:
        hydra.main(config_path=str(CONF), config_name="train", version_base="1.3")(run_one)()
    except UserError as error:
        failed.append(str(error))
    except HydraException as error:
        raise UserError(f"the launcher cannot be used: {one_line(error)}") from None
    return failed


def run_swept(composed: DictConfig, stop: GracefulStop) -> int:
    """Run one member that Hydra composed, in a directory of its own."""
    job = HydraConfig.get()
    plain: dict[str, Any] = OmegaConf.to_container(composed, resolve=True)  # type: ignore[assignment]
    config, run = from_composed(plain, job.runtime.choices.get("preset", "none"))
    name = f"{int(job.job.num):03d}-{config.env.name}-{config.agent_name}-s{config.seed}"
    folder, auto = Path(run["run_dir"] or job.sweep.dir) / name, run["resume"] == AUTO
    return run_in(config, folder, stop, command_of(job.overrides.task), auto=auto)


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
