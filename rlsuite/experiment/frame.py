"""A module of scripts/experiments/ as an experiment: its numbers, its help, and its run.

The module has
    its docstring   the paper, the method in a few lines, and the claims: what --help begins with
    Numbers         a frozen dataclass, all fields with defaults (the committed numbers), explained in `Attributes:`
    DEBUG           Numbers for a run of seconds: every line of the experiment, and no claim
    run             run(numbers: Numbers, jobs: Jobs) -> Result
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rlsuite.cli import as_started
from rlsuite.config.build import build
from rlsuite.config.help import describe
from rlsuite.errors import UserError, near_matches
from rlsuite.experiment.claims import Result
from rlsuite.experiment.jobs import Jobs
from rlsuite.experiment.results import write_result
from rlsuite.records.files import require_writable
from rlsuite.records.run_lock import RunLock


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One paper's experiment.

    Attributes:
        name: of the module, and paper= of reproduce.py.
        about: the module's docstring.
        committed: the numbers that docs/results/<name>.json is made with.
        debug: numbers for a run of seconds.
        run: what runs it.
    """

    name: str
    about: str
    committed: Any
    debug: Any
    run: Callable[[Any, Jobs], Result]

    @staticmethod
    def of(module: ModuleType, reserved: Mapping[str, str] | tuple[str, ...] = ()) -> Experiment:
        """Return a module's experiment.

        Args:
            module: with the four parts that the docstring of this file lists.
            reserved: keys of the command line that a number cannot be called.

        Raises:
            UserError: naming the part that is missing, or the number that is called like a key.
        """
        for part in ("Numbers", "DEBUG", "run", "__doc__"):
            if not getattr(module, part, None):
                raise UserError(f"{module.__file__} has no {part}; docs/contributing.md says what a paper's file holds")
        committed = module.Numbers()
        for field in dataclasses.fields(committed):
            if field.name in reserved:
                raise UserError(f"{module.__file__}: a number cannot be called {field.name}; it is a key of the script")
        return Experiment(
            name=module.__name__.rpartition(".")[2],
            about=module.__doc__ or "",
            committed=committed,
            debug=module.DEBUG,
            run=module.run,
        )

    def numbers(self, overrides: Mapping[str, Any], *, debug: bool = False) -> Any:
        """Return the committed numbers, or the debug numbers, with the overrides of the command line.

        Raises:
            UserError: for a key the experiment does not have, a value of the wrong type, or one out of range.
        """
        base = self.debug if debug else self.committed
        known = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
        for key in overrides:
            if key not in known:
                raise UserError(f"paper={self.name} has no key '{key}'{near_matches(key, known)}")
        return build(type(self.committed), known | dict(overrides))

    def help(self) -> str:
        """Return the experiment's documentation: what it does, its numbers with their defaults, and those of debug."""
        kind = type(self.committed)
        changed = [
            f"  {field.name}={plain_text(getattr(self.debug, field.name))}"
            for field in dataclasses.fields(kind)
            if getattr(self.debug, field.name) != getattr(self.committed, field.name)
        ]
        return "\n".join([self.about.strip(), "", "numbers:", *describe(kind), "", "of preset=debug:", *changed])


def reproduce(
    experiment: Experiment, numbers: Any, *, jobs_folder: Path, parallel: int, results: Path, output: Path | None = None
) -> Path:
    """Run an experiment, print its table, and write what it found; return the file.

    The file is `results`/<name>.json for the committed numbers alone. Others go beside the jobs, one file for each set
    of numbers, so that no smaller run ever replaces a verdict.

    Args:
        experiment: which.
        numbers: its, committed or not.
        jobs_folder: where its jobs are kept.
        parallel: as `Jobs` takes it.
        results: docs/results.
        output: a folder for the file instead.

    Raises:
        UserError: for bad numbers, a job that fails, or a file that cannot be written.
    """
    committed = numbers == experiment.committed
    if output is not None and not committed and output.resolve() == results.resolve():
        raise UserError(
            f"output={output} is for the committed numbers alone; leave output= out, or name another folder"
        )
    own = f"{'debug' if numbers == experiment.debug else digest(numbers)}-result.json"
    path = (output or results) / f"{experiment.name}.json" if output or committed else jobs_folder / own
    require_writable(path)
    began = time.perf_counter()
    jobs = Jobs(jobs_folder, parallel)
    with contextlib.ExitStack() as stack:
        stack.push(lock(jobs_folder))
        result = experiment.run(numbers, jobs)
    minutes = (time.perf_counter() - began) / 60
    print("\n".join(result.table()))
    write_result(
        path,
        result,
        minutes,
        paper=experiment.name,
        numbers=dataclasses.asdict(numbers),
        jobs={name: {key: job[key] for key in ("minutes", "commit")} for name, job in jobs.kept.items()},
    )
    print(f"{experiment.name}: {result.verdict} ({minutes:.1f} minutes; {path})")
    if result.full_scale:
        print(as_started(f"full scale: {result.full_scale}"))
    return path


def digest(numbers: Any) -> str:
    """Return eight hexadecimal digits that name a set of numbers."""
    text = json.dumps(dataclasses.asdict(numbers), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def plain_text(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    return json.dumps(value) if isinstance(value, tuple) and value else str(list(value) if value == () else value)


def lock(folder: Path) -> RunLock:
    """Hold the folder of an experiment's jobs: a second call would run them twice in the same places.

    Raises:
        UserError: if another process holds it, in words of reproduce.py.
    """
    try:
        return RunLock(folder).__enter__()
    except UserError as error:
        raise UserError(str(error).replace("run_dir=", "runs=").replace("run_dir ", "")) from None
