"""Jobs: what an experiment computes, arm by arm and seed by seed, each run once and its result kept as JSON.

A job `push-sher-s0` of digest 1a2b3c4d has in the experiment's folder
    push-sher-s0-1a2b3c4d/      its own folder: checkpoints, weights, pictures
    push-sher-s0-1a2b3c4d.log   what it printed
    push-sher-s0-1a2b3c4d.json  its result, written when it is finished: such a job is not run again
The digest is of all that the result depends on, so other numbers are other jobs and neither overwrites the other, and
a bar, on which nothing depends, can be changed without running anything. An experiment that was stopped or killed goes
on when it is called again; what a half-done job finds in its folder is what it has left there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rlsuite.errors import UserError, require
from rlsuite.experiment.processes import Progress, end, open_log, start
from rlsuite.experiment.results import commit, write_whole
from rlsuite.experiment.worker import RESULT, call, function_path, plain_inputs
from rlsuite.records.checkpoint_format import versions
from rlsuite.running.signals import GracefulStop


class Job(Protocol):
    """What can be run once and kept; the methods get the job's own folder."""

    @property
    def name(self) -> str:
        """The job's name, such as push-sher-s0; one for each job of an experiment."""
        ...

    @property
    def about(self) -> Any:
        """All that the result depends on, JSON-able."""
        ...

    @property
    def in_process(self) -> bool:
        """Whether it always runs in this process."""
        ...

    def is_whole(self, folder: Path) -> bool:
        """Return whether what a kept result stands for is still there; refuse a folder of something else."""
        ...

    def command(self, folder: Path) -> Sequence[str] | None:
        """Return the command that begins the job, or goes on with it; None where nothing is left but its result."""
        ...

    def run_here(self, folder: Path) -> None:
        """Do in this process what the command would do."""
        ...

    def result(self, folder: Path) -> Any:
        """Return the JSON-able result of a job that has ended well."""
        ...

    def minutes(self, folder: Path, minutes: float) -> float:
        """Return the minutes that the job took, `minutes` of them in the call that finished it."""
        ...


@dataclass(frozen=True, kw_only=True)
class FunctionJob:
    """A function of (arm, seed, folder), and of inputs by name; it returns what JSON can hold.

    Where it runs makes no difference to it: its inputs have been through JSON (a frozen dataclass arrives as one,
    by its annotation), torch has one thread, and its folder holds what an interrupted call left. In a subprocess the
    module is imported anew, so it must be a module's own function, and what it changes in memory is gone afterwards.

    Attributes:
        function: a module's own function.
        arm: first argument.
        seed: second argument.
        inputs: further arguments, by name; give it what the result depends on, not the bars.
        in_process: run it in this process whatever `parallel` is: for functions of seconds.
    """

    function: Callable[..., Any]
    arm: str
    seed: int
    inputs: Mapping[str, Any] = field(default_factory=dict)
    in_process: bool = False

    @property
    def name(self) -> str:
        """Function, arm and seed."""
        return f"{self.function.__name__}-{self.arm}-s{self.seed}".replace("_", "-")

    @property
    def about(self) -> Any:
        """Function and arguments."""
        return {
            "function": function_path(self.function),
            "arm": self.arm,
            "seed": self.seed,
            "inputs": plain_inputs(self.inputs),
        }

    def is_whole(self, folder: Path) -> bool:
        """Return True: the kept result is all that is asked for."""
        return True

    def command(self, folder: Path) -> Sequence[str] | None:
        """Return the worker's command."""
        if (folder / RESULT).exists():  # the call that would have kept it was killed
            return None
        return [sys.executable, "-P", "-m", "rlsuite.experiment.worker", json.dumps(self.about), str(folder)]

    def run_here(self, folder: Path) -> None:
        """Call the function."""
        call(self.function, self.about, folder)

    def result(self, folder: Path) -> Any:
        """Return what the function returned."""
        return json.loads((folder / RESULT).read_text())

    def minutes(self, folder: Path, minutes: float) -> float:
        """Return those of the last call."""
        return minutes


@dataclass(frozen=True, kw_only=True)
class CommandJob:
    """Any command; its result is the last line it prints if that is JSON, else null.

    Attributes:
        name: of the job.
        words: the command; in each word `{folder}` stands for the job's folder.
        in_process: False; with parallel=0 the command is a subprocess all the same, waited for.
    """

    name: str
    words: tuple[str, ...]
    in_process: bool = False

    @property
    def about(self) -> Any:
        """The words."""
        return {"command": list(self.words)}

    def is_whole(self, folder: Path) -> bool:
        """Return True: the kept result is all that is asked for."""
        return True

    def command(self, folder: Path) -> Sequence[str] | None:
        """Return the words with the folder in them."""
        return [word.replace("{folder}", str(folder)) for word in self.words]

    def run_here(self, folder: Path) -> None:
        """Run the command and wait for it."""
        process = start(self.command(folder) or (), log_of(folder))
        try:
            status = process.wait()
        finally:
            end([process])
        require(status == 0, failure(self.name, folder, status))

    def result(self, folder: Path) -> Any:
        """Return the last line of the output, read as JSON."""
        with contextlib.suppress(ValueError):
            return json.loads(last_line(folder))
        return None

    def minutes(self, folder: Path, minutes: float) -> float:
        """Return those of the last call."""
        return minutes


class Jobs:
    """Runs the jobs of one experiment and keeps their results.

    Args:
        folder: where they are kept.
        parallel: jobs at a time, each in a process of its own; 0: in this process, one after the other.
    """

    def __init__(self, folder: Path, parallel: int = 2) -> None:
        require(parallel >= 0, f"parallel={parallel}: use 0 (in this process) or more")
        self.folder, self.parallel = folder, parallel
        self.kept: dict[str, dict[str, Any]] = {}
        self._abouts: dict[str, Any] = {}

    @property
    def threads(self) -> int:
        """Threads for what the experiment itself computes between its jobs; no figure depends on it."""
        return max(1, self.parallel)

    def grid(
        self,
        function: Callable[..., Any],
        *,
        arms: Iterable[str],
        seeds: Iterable[int],
        in_process: bool = False,
        **inputs: Any,
    ) -> dict[str, tuple[Any, ...]]:
        """Run a function for every arm and seed; return arm -> results by seed. `FunctionJob` says more."""
        arms, seeds = tuple(arms), tuple(seeds)
        made = {
            (arm, seed): FunctionJob(function=function, arm=arm, seed=seed, inputs=inputs, in_process=in_process)
            for arm in arms
            for seed in seeds
        }
        results = self.run(made.values())
        return {arm: tuple(results[made[arm, seed].name] for seed in seeds) for arm in arms}

    def run(self, jobs: Iterable[Job]) -> dict[str, Any]:
        """Run the jobs that are not kept yet; return name -> result of all.

        Raises:
            UserError: if a job fails, with the last line it printed (those beside it are asked to save and end), or a
                signal ended it all.
        """
        named: dict[str, Job] = {}
        for job in jobs:
            about = json.loads(json.dumps(job.about))
            if job.name in named or self._abouts.setdefault(job.name, about) != about:
                raise ValueError(f"two jobs are called {job.name}")
            if not re.fullmatch(r"[\w.,=+-]+", job.name):
                raise ValueError(f"'{job.name}' cannot be a folder's name; use letters, digits, -, _ and .")
            named[job.name] = job
        waiting = {name: job for name, job in named.items() if not self._is_kept(job)}
        if waiting:
            print(f"{self.folder}: {len(named) - len(waiting)} of {len(named)} jobs are finished", flush=True)
            progress = Progress(len(named), len(waiting), self.parallel)
            for name, job in list(waiting.items()):
                if self.parallel == 0 or job.in_process:
                    self._run_here(waiting.pop(name), progress)
            self._run_beside(waiting, progress)
        return {name: self.kept[name]["result"] for name in named}

    def path(self, job: Job) -> Path:
        """Return the job's folder."""
        text = json.dumps(job.about, sort_keys=True)
        return self.folder / f"{job.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    # -- one at a time, or beside each other ----------------------------------------------------------------

    def _run_here(self, job: Job, progress: Progress) -> None:
        folder = self._folder(job)
        progress.began(job.name)
        try:
            log = io.TextIOWrapper(open_log(log_of(folder)), line_buffering=True)
            with log, contextlib.redirect_stdout(log):
                if job.command(folder) is not None:
                    job.run_here(folder)
        except UserError as error:
            raise UserError(f"{job.name}: {error}") from None
        self._keep(job, progress.ended(job.name))

    def _run_beside(self, waiting: dict[str, Job], progress: Progress) -> None:
        running: dict[str, tuple[Job, subprocess.Popen[bytes]]] = {}
        with GracefulStop() as stop:
            try:
                while waiting or running:
                    if stop.requested:
                        raise UserError(f"stopped by {stop.reason}; the same command goes on with {self.folder}")
                    while waiting and len(running) < self.parallel:
                        name = next(iter(waiting))
                        job = waiting.pop(name)
                        folder = self._folder(job)
                        words = job.command(folder)
                        progress.began(name)
                        if words is None:
                            self._keep(job, progress.ended(name))
                            continue
                        running[name] = job, start(words, log_of(folder), {"PYTHONPATH": search_path()})
                    for name in [name for name, (_, process) in running.items() if process.poll() is not None]:
                        job, process = running.pop(name)
                        if stop.requested:  # the terminal's Ctrl-C reached the job as well
                            continue
                        folder = self.path(job)
                        require(process.returncode == 0, failure(name, folder, process.returncode))
                        self._keep(job, progress.ended(name))
                    time.sleep(0.1)
            finally:
                end(process for _, process in running.values())

    # -- what is kept ---------------------------------------------------------------------------------------

    def _folder(self, job: Job) -> Path:
        folder = self.path(job)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {folder} ({error.strerror}); choose another runs=") from None
        return folder

    def _is_kept(self, job: Job) -> bool:
        folder = self.path(job)
        path = record_of(folder)
        whole = job.is_whole(folder)
        try:
            record = json.loads(path.read_text())
            found = {key: record[key] for key in ("about", "result", "minutes", "commit")}
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError):
            print(f"{path} is damaged; the job is run again", flush=True)
            return False
        if found["about"] != self._abouts[job.name] or not whole:
            return False
        self.kept[job.name] = found
        return True

    def _keep(self, job: Job, seconds: float) -> None:
        folder = self.path(job)
        if not job.is_whole(folder):
            raise UserError(failure(job.name, folder, 0))
        record = {
            "job": job.name,
            "about": self._abouts[job.name],
            "result": job.result(folder),
            "minutes": round(job.minutes(folder, seconds / 60), 3),
            "commit": commit(),
            "versions": versions(),
            "date": time.strftime("%Y-%m-%d"),
        }
        try:
            text = json.dumps(record, indent=1, allow_nan=False)
        except ValueError:
            raise UserError(f"{job.name}: a figure is not finite, so nothing was kept; see {log_of(folder)}") from None
        write_whole(record_of(folder), text + "\n")
        (folder / RESULT).unlink(missing_ok=True)
        self.kept[job.name] = record


def log_of(folder: Path) -> Path:
    """Return where a job's output goes."""
    return folder.with_name(folder.name + ".log")


def record_of(folder: Path) -> Path:
    """Return where a job's result is kept."""
    return folder.with_name(folder.name + ".json")


def last_line(folder: Path) -> str:
    """Return the last line a job has printed."""
    lines = log_of(folder).read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def failure(name: str, folder: Path, status: int) -> str:
    """Return one line about a job that did not finish, with the last line it printed."""
    return f"{name} ended with status {status}: {last_line(folder)} (its output is in {log_of(folder)})"


def search_path() -> str:
    """Return PYTHONPATH for a subprocess that is to import what this process can."""
    return os.pathsep.join(part for part in sys.path if part)
