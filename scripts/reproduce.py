"""Reproduce a paper's claim, small and honestly: ``python scripts/reproduce.py paper=<name>``.

Without paper= it lists the papers and their states. The experiment's numbers stand in rlsuite/conf/paper/<name>.yaml
and can be overridden (key=value). The result goes to docs/results/<name>.json (output=<folder> for elsewhere).
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from rlsuite.cli import command
from rlsuite.config.compose import CONF, plain_values
from rlsuite.errors import UserError, near_matches
from rlsuite.experiment import Result, read_state, write_result

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"


def papers() -> list[str]:
    """Return the names of the papers there is an experiment for."""
    return sorted(path.stem for path in (CONF / "paper").glob("*.yaml"))


@command()
def main(arguments: list[str]) -> int:
    """Run one paper's experiment, or list them all."""
    values = plain_values(arguments)
    folder = Path(str(values.pop("output", RESULTS)))
    paper = values.pop("paper", None)
    if paper is None:
        if values:
            raise UserError(f"{', '.join(values)}= needs paper=<name>{near_matches('', papers())}")
        list_papers(folder)
        return 0
    if paper not in papers():
        raise UserError(f"unknown paper '{paper}'{near_matches(str(paper), papers()) or '; none is here yet'}")
    config = read_numbers(paper, values)
    began = time.perf_counter()
    result: Result = importlib.import_module(f"scripts.experiments.{paper}").run(config)
    minutes = (time.perf_counter() - began) / 60
    print("\n".join(result.table()))
    path = write_result(result, minutes, folder)
    print(f"{paper}: {result.verdict} ({minutes:.1f} minutes; {path})")
    if result.full_scale:
        print(f"full scale: {result.full_scale}")
    return 0


def read_numbers(paper: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the experiment's numbers with the overrides of the command line.

    Raises:
        UserError: for a key the experiment does not have.
    """
    numbers: dict[str, Any] = yaml.safe_load((CONF / "paper" / f"{paper}.yaml").read_text()) or {}
    for key in overrides:
        if key not in numbers:
            raise UserError(f"paper={paper} has no key '{key}'{near_matches(key, numbers)}")
    return numbers | overrides


def list_papers(folder: Path) -> None:
    """Print each paper with its state."""
    names = papers()
    if not names:
        print("no experiment is here yet; docs/contributing.md says how to add one")
    for name in names:
        print(f"{name:24} {read_state(name, folder)}")


if __name__ == "__main__":
    sys.exit(main())
