"""Reproduce a paper's claim, small and honestly: ``python scripts/reproduce.py paper=<name>``.

Without paper= it lists the papers and their states: not built, not run, holds, does not hold here. paper=<name> --help
shows what is run and claimed, and every number with its default; numbers are overridden as key=value. The result goes
to docs/results/<name>.json, or, where a number differs from the committed ones, to runs/reproduced/<name>/.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsuite.cli import command
from rlsuite.config.build import build
from rlsuite.config.compose import plain_values
from rlsuite.config.help import describe
from rlsuite.errors import UserError, near_matches, require
from rlsuite.experiment.frame import Experiment, reproduce
from rlsuite.experiment.papers import NOT_RUN, Paper, document, read_papers, state
from rlsuite.experiment.processes import end, start
from rlsuite.experiment.results import write_whole
from rlsuite.running.signals import GracefulStop

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXPERIMENTS = Path(__file__).resolve().parent / "experiments"


@dataclass(frozen=True, kw_only=True)
class Call:
    """The keys of the script itself; no figure depends on them.

    Attributes:
        paper: which; all: every one there is an experiment for, each in a process of its own.
        preset: debug: the experiment's numbers for a run of seconds.
        parallel: jobs at a time, each in a process of its own; 0: in this process, one after the other; -1: 2, and with
            preset=debug 0.
        runs: folder in which each paper has one for its jobs; what is found finished there is not run again.
        output: folder for <paper>.json instead.
        missing: with paper=all: those alone that have not been run.
        document: write docs/papers.md anew and do nothing else.
    """

    paper: str = ""
    preset: str = "none"
    parallel: int = -1
    runs: tuple[str, ...] = ("runs/reproduced",)
    output: str = ""
    missing: bool = False
    document: bool = False

    def __post_init__(self) -> None:
        require(self.preset in ("none", "debug"), f"preset={self.preset}: use debug, or leave it out")
        require(self.parallel >= -1, f"parallel={self.parallel}: use 0 (in this process) or more")
        require(len(self.runs) == 1, "runs=: name one folder")
        require(self.paper == "all" or not self.missing, "missing=true needs paper=all")


KEYS = tuple(field.name for field in dataclasses.fields(Call))
RESERVED = (*KEYS, "agent", "env")  # of the command line's grammar


@command(answers_help=True)
def main(arguments: list[str]) -> int:
    """Run one paper's experiment, or all, or list them."""
    wants_help = "--help" in arguments or "-h" in arguments
    values = plain_values([argument for argument in arguments if argument not in ("--help", "-h")])
    call: Call = build(Call, {key: value for key, value in values.items() if key in KEYS})
    numbers = {key: value for key, value in values.items() if key not in KEYS}
    require(DOCS.exists(), "the papers and their results lie in the repository; run this in a checkout of it")
    papers = read_papers(DOCS / "papers.yaml")
    if wants_help:
        print(help_text(load(call.paper, papers) if call.paper else None))
        return 0
    if call.paper in ("", "all") and numbers:
        raise UserError(f"{', '.join(numbers)}= needs paper=<name>{near_matches(next(iter(numbers)), KEYS)}")
    if call.document:
        write_document(papers)
        return 0
    if not call.paper:
        for name in papers:
            print(f"{name:22} {state(name, DOCS / 'results', built=is_built(name))}")
        return 0
    if call.paper == "all":
        return run_all(call, papers)
    experiment = load(call.paper, papers)
    debug = call.preset == "debug"
    path = reproduce(
        experiment,
        experiment.numbers(numbers, debug=debug),
        jobs_folder=Path(call.runs[0]) / call.paper,
        parallel=call.parallel if call.parallel >= 0 else 0 if debug else 2,
        results=DOCS / "results",
        output=Path(call.output) if call.output else None,
    )
    if path.parent == DOCS / "results":
        write_document(papers)
    return 0


def is_built(name: str) -> bool:
    """Return whether there is an experiment for a paper."""
    return (EXPERIMENTS / f"{name}.py").exists()


def load(name: str, papers: dict[str, Paper]) -> Experiment:
    """Import a paper's experiment.

    Raises:
        UserError: if the paper is unknown, or its experiment is not built.
    """
    if name not in papers:
        close = near_matches(name, papers, only_close=True)
        raise UserError(f"unknown paper '{name}'{close or '; python scripts/reproduce.py lists them'}")
    if not is_built(name):
        built = ", ".join(sorted(other for other in papers if is_built(other)))
        raise UserError(f"paper={name} has no experiment yet ({EXPERIMENTS.name}/{name}.py); built: {built}")
    return Experiment.of(importlib.import_module(f"scripts.experiments.{name}"), RESERVED)


def help_text(experiment: Experiment | None) -> str:
    """Return the help of the script, or of one experiment."""
    about = experiment.help() if experiment else (__doc__ or "").strip()
    return "\n".join([about, "", "keys of the script:", *describe(Call)])


def write_document(papers: dict[str, Paper]) -> None:
    """Write docs/papers.md."""
    write_whole(DOCS / "papers.md", document(papers.values(), DOCS / "results"))
    print(f"wrote {DOCS / 'papers.md'}")


def run_all(call: Call, papers: dict[str, Paper]) -> int:
    """Run every experiment there is, one after the other; a failure is told and does not stop the others.

    Returns:
        0, or 1 if one of them failed.

    Raises:
        UserError: if a signal ended it.
    """
    names = [name for name in papers if is_built(name)]
    if call.missing:
        names = [name for name in names if state(name, DOCS / "results", built=True) == NOT_RUN]
    passed_on: dict[str, Any] = {"preset": call.preset, "parallel": call.parallel, "runs": call.runs[0]}
    words = [f"{key}={value}" for key, value in passed_on.items() if value != "none"]
    words += [f"output={call.output}"] * bool(call.output)
    failed = []
    with GracefulStop() as stop:
        for name in names:
            print(f"== {name} ==", flush=True)
            process = start([sys.executable, str(Path(__file__).resolve()), f"paper={name}", *words])
            try:
                while process.poll() is None and not stop.requested:
                    time.sleep(0.1)
            finally:
                end([process])
            require(not stop.requested, f"stopped by {stop.reason} in paper={name}; the same command goes on with it")
            if process.returncode:
                failed.append(name)
    print(
        f"{len(names) - len(failed)} of {len(names)} experiments ran" + f"; failed: {', '.join(failed)}" * bool(failed)
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
