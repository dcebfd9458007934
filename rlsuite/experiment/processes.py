"""Subprocesses that do not outlive this one, and a printed line for each that begins or ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from rlsuite.errors import UserError

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
GRACE_S = 60.0  # for a job to save itself after SIGTERM


def start(
    words: Sequence[str], log: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a subprocess that ends when this process does.

    Args:
        words: the command.
        log: where its output is added; None leaves it where ours goes.
        environment: variables on top of ours.

    Raises:
        UserError: if the log cannot be written, or there is no such command.
    """
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(open_log(log)) if log else None  # closed here: the child has its own
        try:
            return subprocess.Popen(
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                env={**os.environ, **(environment or {})},
                preexec_fn=_end_with_parent(),
            )
        except OSError as error:
            raise UserError(f"cannot start {words[0]} ({error.strerror}); is it installed?") from None


def open_log(log: Path) -> BinaryIO:
    """Open a log to add to it.

    Raises:
        UserError: if it cannot be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return open(log, "ab")
    except OSError as error:
        raise UserError(f"cannot write {log} ({error.strerror}); choose another runs=") from None


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
    """One printed line for every job that begins or ends.

    Args:
        total: jobs asked for.
        left: those not finished yet.
        parallel: jobs at a time.
    """

    def __init__(self, total: int, left: int, parallel: int) -> None:
        self.total, self.left, self.parallel = total, left, max(1, parallel)
        self.start_s = time.monotonic()
        self.begun: dict[str, float] = {}
        self.durations: list[float] = []

    def began(self, name: str) -> None:
        """Note that a job begins."""
        self.begun[name] = time.monotonic()
        self._say(f"{name} begins")

    def ended(self, name: str) -> float:
        """Note that a job is finished; return its seconds."""
        self.durations.append(time.monotonic() - self.begun.pop(name))
        self.left -= 1
        left = f", about {self.seconds_left(time.monotonic()) / 60:.0f} minutes left" if self.left else ""
        self._say(f"{name} finished, {self.total - self.left} of {self.total}{left}")
        return self.durations[-1]

    def seconds_left(self, now: float) -> float:
        """Return the time left if the jobs to come take as long as those so far."""
        spent = sum(now - begun for begun in self.begun.values())
        mean = sum(self.durations) / len(self.durations)
        return max(0.0, self.left * mean - spent) / min(self.parallel, max(self.left, 1))

    def _say(self, text: str) -> None:
        print(f"[{(time.monotonic() - self.start_s) / 60:6.1f} min] {text}", flush=True)
