"""Train five agents on six tasks, and write docs/benchmark.md: ``python scripts/run_benchmark.py``.

PPO, SAC, TD3, ACE and FlashSAC, each with its defaults, 100,000 steps, three seeds, one thread a run: about 20 hours of
a core. It is done in pieces: ``minutes=60`` stops and saves after an hour, as Ctrl-C does, and the same command goes
on. The page and its data (docs/results/benchmark.json) are written whenever it ends; a table that lacks runs says so.
``document=true`` writes them from what there is. A run that the data holds is finished, on whichever machine it was
trained and even if its folder is gone. Other agents, tasks, seeds or steps than these go to folder= instead.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agents  # noqa: F401  (they make themselves known by name)
import envs  # noqa: F401
from rlsuite.cli import command
from rlsuite.config.compose import compose_train, script_config
from rlsuite.config.schema import to_plain
from rlsuite.errors import UserError, require
from rlsuite.experiment.frame import lock
from rlsuite.experiment.jobs import Jobs
from rlsuite.experiment.kinds import record_of
from rlsuite.experiment.results import write_whole
from rlsuite.records.files import require_writable
from rlsuite.statistics.curves import by_seed, grouped
from rlsuite.statistics.digits import shown
from rlsuite.statistics.means import NONE, mean_interval
from rlsuite.statistics.runs import Run, read_data, read_run, write_data
from rlsuite.statistics.same_config import digest_of
from scripts.experiments.training_runs import TrainingJob, for_seeds, train_all

AGENTS = ("ppo", "sac", "td3", "ace", "flash_sac")
TASKS = ("Hopper", "Walker2d", "HalfCheetah", "Swimmer", "Ant", "Humanoid")
STEPS, SEEDS, EPISODES = 100_000, 3, 10
FACTS = ("versions", "commit", "date")  # of a run, beside its evaluations
Finished = tuple[Run, Mapping[str, Any]]
PAGE, DATA = Path("docs/benchmark.md"), Path("docs/results/benchmark.json")


@dataclass(frozen=True, kw_only=True)
class RunBenchmarkConfig:
    """What is trained, and where it is kept.

    Attributes:
        agents: names of agent=, each with its defaults.
        tasks: names of env=.
        seeds: seeds 0, 1, ... of each.
        steps: environment steps of each run.
        preset: of every run: none, or debug for a table in seconds.
        parallel: runs at a time, each in a process of one thread; 0: in this one.
        minutes: stop, save and write the page after so long; 0: when all is done.
        document: train nothing and write the page from what there is.
        folder: where runs are kept.
    """

    agents: tuple[str, ...] = AGENTS
    tasks: tuple[str, ...] = TASKS
    seeds: int = SEEDS
    steps: int = STEPS
    preset: str = "none"
    parallel: int = 2
    minutes: float = 0.0
    document: bool = False
    folder: str = "runs/benchmark"

    def __post_init__(self) -> None:
        for name in ("agents", "tasks"):
            values = getattr(self, name)
            require(bool(values), f"{name}=[]: name one or more")
            require(len(set(values)) == len(values), f"{name}={','.join(values)}: name each once")
        require(self.seeds >= 1, f"seeds={self.seeds}: use 1 or more")
        require(self.steps >= 1, f"steps={self.steps}: use 1 or more")
        require(self.parallel >= 0, f"parallel={self.parallel}: use 0 (in this process) or more")
        require(
            self.parallel > 0 or not self.minutes,
            "minutes= stops runs in processes of their own; use parallel=1 or more",
        )
        require(math.isfinite(self.minutes) and self.minutes >= 0, f"minutes={self.minutes}: use 0 (no limit) or more")

    @property
    def committed(self) -> bool:
        """Whether this is the benchmark that the page in docs/ is of."""
        return (self.agents, self.tasks, self.seeds, self.steps, self.preset) == (AGENTS, TASKS, SEEDS, STEPS, "none")


@command(RunBenchmarkConfig)
def main(arguments: list[str]) -> int:
    """Train what is left, and write page and data."""
    config = script_config(RunBenchmarkConfig, arguments)
    folder = Path(config.folder)
    page, data = (PAGE, DATA) if config.committed else (folder / PAGE.name, folder / DATA.name)
    require_writable(page)
    jobs = Jobs(folder, config.parallel)
    named = training_runs(config)
    for name, words in named.items():
        if name.endswith("-s0"):  # a wrong agent or task is refused before anything is written
            compose_train(words)
    kept = kept_runs(named, jobs, data)
    with contextlib.ExitStack() as stack:
        stack.push(lock(folder))
        try:
            if not config.document:
                train_for(config.minutes, {name: named[name] for name in named if name not in kept}, jobs)
        finally:  # stopped in between, too: what is there is the page
            found = kept | finished_runs(named, jobs)
            runs, facts = zip(*(found[name] for name in named if name in found), strict=True) if found else ((), ())
            write_whole(page, "\n".join(document(config, runs, facts, data)) + "\n")
            if runs:
                write_data(runs, data, facts)
            print(f"{page}: {len(runs)} of {len(named)} runs")
    return 0


def training_runs(config: RunBenchmarkConfig) -> dict[str, list[str]]:
    """Return name -> arguments of train_agent.py, all of a seed before the next: a partial table is an even one."""
    arms = {
        f"{task}-{agent}".replace("_", "-"): [
            f"agent={agent}",
            f"env={task}",
            f"steps={config.steps}",
            f"preset={config.preset}",
        ]
        for task in config.tasks
        for agent in config.agents
    }
    # Returns are judged every 20,000 steps; clips would need a screen's software.
    every = max(1, min(20_000, config.steps))
    arms = {
        name: [*words, f"evaluate.every={every}", "evaluate.clip_every=0", "device=cpu"] for name, words in arms.items()
    }
    return {name: words for seed in range(config.seeds) for name, words in for_seeds(arms, [seed]).items()}


def train_for(minutes: float, named: dict[str, list[str]], jobs: Jobs) -> None:
    """Train what is left, but stop after so many minutes (0: never): runs save themselves at a SIGTERM to this process.

    Raises:
        UserError: as `train_all` does, but not for the stop that was asked for.
    """
    fired = threading.Event()

    def stop() -> None:
        fired.set()
        os.kill(os.getpid(), signal.SIGTERM)

    timer = threading.Timer(60 * minutes, stop)
    timer.daemon = True
    if minutes:
        timer.start()
    try:
        train_all(named, jobs)
    except UserError as error:
        if not fired.is_set():
            raise
        print(f"after minutes={minutes:g}: {error}")
    finally:
        timer.cancel()


def kept_runs(named: dict[str, list[str]], jobs: Jobs, data: Path) -> dict[str, Finished]:
    """Return name -> the run that the data file holds of it and what it says of the run; {} without a file.

    A run whose configuration is not what its arguments compose today is no longer one of the benchmark's, and is left
    out with a line that says so.

    Raises:
        UserError: if the file cannot be read.
    """
    if not data.exists():
        return {}
    runs, lines = read_data(data), json.loads(data.read_text())
    by_folder = {run.name.rpartition("/")[2]: (run, line) for run, line in zip(runs, lines, strict=True)}
    kept, changed = {}, []
    for name, words in named.items():
        job = TrainingJob(name, tuple(words))
        if (folder := jobs.path(job).name) in by_folder:
            run, line = by_folder[folder]
            if run.config == digest_of(to_plain(job.config)):
                kept[name] = run, {key: line[key] for key in FACTS if key in line}
            else:
                changed.append(name)
    if changed:
        print(f"to be trained again, as their configuration has changed since: {', '.join(changed)}")
    return kept


def finished_runs(named: dict[str, list[str]], jobs: Jobs) -> dict[str, Finished]:
    """Return name -> the run that is finished in its folder, and what its job's record says of it."""
    found = {}
    for name, words in named.items():
        folder = jobs.path(TrainingJob(name, tuple(words)))
        with contextlib.suppress(FileNotFoundError):
            record = json.loads(record_of(folder).read_text())
            found[name] = read_run(folder), {key: record[key] for key in FACTS}
    return found


def document(
    config: RunBenchmarkConfig, runs: Sequence[Run], facts: Sequence[Mapping[str, Any]], data: Path
) -> list[str]:
    """Return the page's lines: what was run, the table of final returns, that of minutes, versions."""
    wanted = len(config.agents) * len(config.tasks) * config.seeds
    groups = grouped(runs)
    chosen = "with its defaults (`rlsuite/conf/agent/`)" if config.preset == "none" else f"with preset={config.preset}"
    seeds = "seed 0" if config.seeds == 1 else f"seeds 0 to {config.seeds - 1}"
    lines = [
        "# Benchmark",
        "",
        f"Written by `python scripts/run_benchmark.py`. Each agent {chosen},",
        f"{config.steps:,} steps, {seeds}, one thread a run, no GPU.",
        "",
    ]
    if len(runs) < wanted:
        lines += [
            f"**Partial: {len(runs)} of {wanted} runs are finished.** In brackets: how many seeds a figure is of."
        ]
        lines += [""]
    lines += ["## Final returns", ""]
    lines += [
        f"Mean return of the last evaluation, {EPISODES} episodes of the deterministic policy; 95 % interval over",
        "seeds by Student's t (docs/statistics.md), which is wide for three. Rewards and observations are as in",
        "Gymnasium's v5 tasks.",
        "",
    ]
    lines += table(config, groups, final_return)
    lines += ["", "## Minutes of a run", "", "Wall clock of training, evaluations left out, mean over seeds.", ""]
    lines += table(config, groups, minutes)
    lines += ["", "## Curves and versions", ""]
    if not runs:
        return [*lines, "No run is finished yet."]
    lines.append(f"Every evaluation of every run: `{data}`; `python scripts/plot_curves.py runs={data}` draws them.")
    lines.append("")
    for key in FACTS:
        found = sorted({_said(fact[key]) for fact in facts if key in fact})
        lines.append(f"- {key}: {'; '.join(found)}")
    lines.append(f"- machine that wrote this: {platform.machine()}, {os.cpu_count()} cores")
    return lines


def table(
    config: RunBenchmarkConfig, groups: dict[tuple[str, str], list[Run]], cell: Callable[[Sequence[Run], int], str]
) -> list[str]:
    """Return a table of tasks by agents, a dash where no run is finished."""
    lines = ["| task | " + " | ".join(config.agents) + " |", "|---" * (len(config.agents) + 1) + "|"]
    for task in config.tasks:
        found = [groups.get((task, agent), []) for agent in config.agents]
        cells = [cell(runs, config.seeds) if runs else "-" for runs in found]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return lines


def final_return(runs: Sequence[Run], seeds: int) -> str:
    """Return mean and interval of the last evaluations, with the number of seeds where some are missing."""
    values = [sum(float(run.returns[-1]) for run in same) / len(same) for same in by_seed(runs).values()]
    low, high, kind = mean_interval(values)
    mean = shown(sum(values) / len(values))
    text = mean if kind == NONE else f"{mean} ({shown(low)} to {shown(high)})"
    return text if len(values) == seeds else f"{text} [{len(values)}]"


def minutes(runs: Sequence[Run], seeds: int) -> str:
    """Return the mean minutes of the runs' training."""
    return f"{sum(float(run.seconds[-1]) for run in runs) / len(runs) / 60:.1f}"


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
