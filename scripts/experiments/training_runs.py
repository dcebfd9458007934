"""The training runs of an experiment: train_agent.py in subprocesses, a few at a time.

Finished runs found in the folder are not repeated and interrupted ones go on from their last checkpoint, so that the
same command continues an experiment that was stopped. No subprocess outlives the experiment.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from rlsuite.config.compose import compose_train, read_config
from rlsuite.config.schema import TrainConfig, train_config
from rlsuite.errors import UserError
from rlsuite.records.checkpoint import list_checkpoints, read_checkpoint, resolve_checkpoint
from rlsuite.records.run_lock import RunLock
from rlsuite.running.signals import GracefulStop

SCRIPT = Path(__file__).resolve().parents[1] / "train_agent.py"
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
GRACE_S = 60.0  # for a run to save itself after SIGTERM


def train_all(runs: Mapping[str, Sequence[str]], folder: Path, parallel: int) -> dict[str, Path]:
    """Train every run; return its directory, `folder`/<name>.

    Args:
        runs: name -> arguments of train_agent.py, without run_dir.
        folder: where the runs are kept, each with its output in <name>.log.
        parallel: runs at a time.

    Raises:
        UserError: if arguments are wrong, a directory holds another run, a run fails, or a signal ended it all.
    """
    directories = {name: folder / name for name in runs}
    configs = {name: compose_train(list(arguments))[0] for name, arguments in runs.items()}
    commands = {name: command(directories[name], configs[name], runs[name]) for name in runs}
    waiting = {name: found for name, found in commands.items() if found is not None}
    print(f"{folder}: {len(runs) - len(waiting)} of {len(runs)} runs are finished", flush=True)
    progress = Progress(len(runs), len(waiting), parallel)
    running: dict[str, subprocess.Popen[bytes]] = {}
    with GracefulStop() as stop:
        try:
            while waiting or running:
                if stop.requested:
                    raise UserError(f"stopped by {stop.reason}; the same command goes on with the runs in {folder}")
                while waiting and len(running) < parallel:
                    name = next(iter(waiting))
                    running[name] = start(waiting.pop(name), log_path(directories[name]))
                    progress.began(name)
                for name in [name for name, process in running.items() if process.poll() is not None]:
                    status = running.pop(name).returncode
                    if stop.requested:  # the terminal's Ctrl-C reached the run as well
                        continue
                    if status or not finished(directories[name], configs[name]):
                        raise UserError(failure(name, directories[name], status))
                    progress.ended(name)
                time.sleep(0.1)
        finally:
            end(running.values())
    return directories


def command(path: Path, config: TrainConfig, arguments: Sequence[str]) -> list[str] | None:
    """Return the command that brings a run to its end: begin, or go on; None if it is finished.

    Raises:
        UserError: if the directory holds a run of another configuration, or one that is in use.
    """
    if (path / "config.yaml").exists():
        if train_config(read_config(path)) != config:
            raise UserError(f"{path} holds a run of another configuration; choose another runs=, or delete it")
        if finished(path, config):
            return None
        if list_checkpoints(path):
            return [sys.executable, str(SCRIPT), f"resume={path}"]
        with RunLock(path):  # killed before its first checkpoint: nothing of it can be continued
            shutil.rmtree(path)
    return [sys.executable, str(SCRIPT), *arguments, f"run_dir={path}"]


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


def log_path(path: Path) -> Path:
    """Return where a run's output goes."""
    return path.with_name(path.name + ".log")


def failure(name: str, path: Path, status: int) -> str:
    """Return one line about a run that did not finish, with the last line it printed."""
    log = log_path(path)
    lines = log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
    return f"run {name} ended with status {status}: {lines[-1]} (its output is in {log})"


# -- subprocesses -------------------------------------------------------------------------------------------


def start(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a subprocess that ends when this process does."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = open(log, "ab")  # noqa: SIM115 (closed below: the child has its own)
    except OSError as error:
        raise UserError(f"cannot write {log} ({error.strerror}); choose another runs=") from None
    with output:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent(),
        )


def _end_with_parent() -> Callable[[], None] | None:
    """Return what makes Linux send SIGTERM to a child whose parent dies, even by kill -9."""
    if not sys.platform.startswith("linux"):
        return None
    library, parent = ctypes.CDLL(None), os.getpid()

    def ask() -> None:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask


def end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ask the processes to save and end; kill those that do not within GRACE_S."""
    alive = [process for process in processes if process.poll() is None]
    for process in alive:
        process.terminate()
    deadline = time.monotonic() + GRACE_S
    try:
        for process in alive:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:  # a second Ctrl-C does not wait
        for process in alive:
            if process.poll() is None:
                process.kill()
                process.wait()


class Progress:
    """One printed line for every run that begins or ends.

    Args:
        total: runs of the experiment.
        left: those not finished yet.
        parallel: runs at a time.
    """

    def __init__(self, total: int, left: int, parallel: int) -> None:
        self.total, self.left, self.parallel = total, left, parallel
        self.start_s = time.monotonic()
        self.begun: dict[str, float] = {}
        self.durations: list[float] = []

    def began(self, name: str) -> None:
        """Note that a run begins."""
        self.begun[name] = time.monotonic()
        self._say(f"run {name} begins")

    def ended(self, name: str) -> None:
        """Note that a run is finished."""
        self.durations.append(time.monotonic() - self.begun.pop(name))
        self.left -= 1
        left = f", about {self.seconds_left(time.monotonic()) / 60:.0f} minutes left" if self.left else ""
        self._say(f"run {name} finished, {self.total - self.left} of {self.total}{left}")

    def seconds_left(self, now: float) -> float:
        """Return the time left if the runs to come take as long as those so far."""
        spent = sum(now - begun for begun in self.begun.values())
        mean = sum(self.durations) / len(self.durations)
        return max(0.0, self.left * mean - spent) / min(self.parallel, max(self.left, 1))

    def _say(self, text: str) -> None:
        print(f"[{(time.monotonic() - self.start_s) / 60:6.1f} min] {text}", flush=True)
