"""The training runs of an experiment: train_agent.py as jobs.

A finished run is not repeated and an interrupted one goes on from its last checkpoint, so that the same command
continues an experiment that was stopped.
"""

from __future__ import annotations

import functools
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsuite.config.compose import compose_train, read_config
from rlsuite.config.schema import TrainConfig, train_config
from rlsuite.errors import UserError
from rlsuite.experiment.jobs import Jobs
from rlsuite.records.checkpoint import list_checkpoints, read_checkpoint, resolve_checkpoint
from rlsuite.records.run_lock import RunLock

SCRIPT = Path(__file__).resolve().parents[1] / "train_agent.py"


@dataclass(frozen=True)
class TrainingJob:
    """A training run; its folder is the run directory, and its result the wall clock it took.

    Attributes:
        name: of the job.
        arguments: of train_agent.py, without run_dir.
        in_process: False; with parallel=0 it runs in this process all the same.
    """

    name: str
    arguments: tuple[str, ...]
    in_process: bool = False

    @functools.cached_property
    def config(self) -> TrainConfig:
        """What the arguments compose."""
        return compose_train(list(self.arguments))[0]

    @property
    def about(self) -> Any:
        """The arguments."""
        return {"train_agent": list(self.arguments)}

    def is_whole(self, folder: Path) -> bool:
        """Return whether the run is finished.

        Raises:
            UserError: if the directory holds a run of another configuration: defaults have changed since.
        """
        if not (folder / "config.yaml").exists():
            return False
        if train_config(read_config(folder)) != self.config:
            raise UserError(f"{folder} holds a run of another configuration; choose another runs=, or delete it")
        return finished(folder, self.config)

    def command(self, folder: Path) -> list[str] | None:
        """Return the command that brings the run to its end: begin, or go on; None if it is finished."""
        if (folder / "config.yaml").exists():
            if self.is_whole(folder):
                return None
            if list_checkpoints(folder):
                return [sys.executable, str(SCRIPT), f"resume={folder}"]
            with RunLock(folder):  # killed before its first checkpoint: nothing of it can be continued
                shutil.rmtree(folder)
        return [sys.executable, str(SCRIPT), *self.arguments, f"run_dir={folder}"]

    def run_here(self, folder: Path) -> None:
        """Train in this process."""
        from scripts import train_agent

        _, _, *arguments = self.command(folder) or ["", ""]
        train_agent.main(arguments)

    def result(self, folder: Path) -> Any:
        """Return nothing but the minutes: what the run has learned lies in its folder."""
        return {"training_minutes": training_minutes(folder)}

    def minutes(self, folder: Path, minutes: float) -> float:
        """Return the wall clock of the whole run, over all calls."""
        return training_minutes(folder)


def train_all(runs: Mapping[str, Sequence[str]], jobs: Jobs) -> dict[str, Path]:
    """Train every run; return its directory.

    Args:
        runs: name -> arguments of train_agent.py, without run_dir.
        jobs: runs and keeps them.

    Raises:
        UserError: if arguments are wrong, a directory holds another run, a run fails, or a signal ended it all.
    """
    made = [TrainingJob(name, tuple(arguments)) for name, arguments in runs.items()]
    for job in made:  # wrong arguments are refused before the first run begins
        assert job.config
    jobs.run(made)
    return {job.name: jobs.path(job) for job in made}


def for_seeds(arms: Mapping[str, Sequence[str]], seeds: Iterable[int]) -> dict[str, list[str]]:
    """Return <arm>-s<seed> -> arguments, of one thread each, for every arm and seed."""
    seeds = tuple(seeds)
    return {
        f"{arm}-s{seed}": [*arguments, f"seed={seed}", "num_threads=1"]
        for arm, arguments in arms.items()
        for seed in seeds
    }


def finished(path: Path, config: TrainConfig) -> bool:
    """Return whether a run has made all of its steps, and all of the updates that they call for."""
    if not list_checkpoints(path):
        return False
    latest = read_checkpoint(resolve_checkpoint(path), parts=[])
    return latest.step >= config.steps and not latest.metadata.get("busy", False)


def training_minutes(path: Path) -> float:
    """Return the wall clock that a finished run took; without its evaluations, if it ended with one."""
    *_, last = (path / "metrics.jsonl").read_text().splitlines()
    row = json.loads(last)
    return round(row.get("train_s", row["time_s"]) / 60, 2)
