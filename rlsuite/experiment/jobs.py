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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rlsuite.errors import UserError, require
from rlsuite.experiment.kinds import FunctionJob, Job, failure, log_of, record_of
from rlsuite.experiment.processes import Progress, end, open_log, start
from rlsuite.experiment.results import commit, write_whole
from rlsuite.experiment.worker import RESULT
from rlsuite.records.checkpoint_format import versions
from rlsuite.records.files import read_text
from rlsuite.running.signals import GracefulStop


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
            record = json.loads(read_text(path))
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


def search_path() -> str:
    """Return PYTHONPATH for a subprocess that is to import what this process can."""
    return os.pathsep.join(part for part in sys.path if part)
