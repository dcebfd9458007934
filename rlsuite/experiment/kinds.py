"""Kinds of jobs: a function of (arm, seed, folder), or any command; `Job` is what a third kind has to be."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rlsuite.errors import require
from rlsuite.experiment.processes import end, start
from rlsuite.experiment.worker import RESULT, call, function_path, plain_inputs


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
