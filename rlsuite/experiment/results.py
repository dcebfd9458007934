"""The JSON file of a paper: claims and figures, beside the numbers, jobs, versions and source that gave them."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlsuite.errors import UserError
from rlsuite.experiment.claims import Result
from rlsuite.records.checkpoint_format import versions
from rlsuite.records.files import write_atomically


def to_json(
    paper: str, result: Result, minutes: float, *, numbers: Mapping[str, Any], jobs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what a result file holds.

    Args:
        paper: its name.
        result: what its experiment found.
        minutes: wall clock of the call that found it; jobs of earlier calls are not in it.
        numbers: the experiment's.
        jobs: name -> minutes and commit of each job, some of which earlier calls may have run.
    """
    return {
        "paper": paper,
        "verdict": result.verdict,
        "seeds": list(result.seeds),
        "claims": [claim.to_json() for claim in result.claims],
        "numbers": dict(numbers),
        "figures": dict(result.figures),
        "full_scale": result.full_scale,
        "minutes": round(minutes, 2),
        "jobs": {name: dict(job) for name, job in jobs.items()},
        "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
        "versions": versions(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def write_result(
    path: Path,
    result: Result,
    minutes: float,
    *,
    paper: str,
    numbers: Mapping[str, Any],
    jobs: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write a result file, whole or not at all; `to_json` says what it holds.

    Raises:
        UserError: if it cannot be written, or a figure is not finite.
    """
    try:
        text = json.dumps(to_json(paper, result, minutes, numbers=numbers, jobs=jobs), indent=2, allow_nan=False)
    except ValueError:
        raise UserError(f"paper={paper}: a figure is not finite, so nothing was written; rerun it") from None
    write_whole(path, text + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a kill leaves the old one or the new one.

    Raises:
        UserError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); check the folder's permissions") from None


def read_result(path: Path) -> dict[str, Any] | None:
    """Return a result file with what every reader needs, None if there is none.

    Files written before jobs were kept hold `training_minutes` by run instead; `job_minutes` here is the sum of either.

    Raises:
        UserError: if it is damaged.
    """
    try:
        found = json.loads(path.read_text())
        minutes = [job["minutes"] for job in found.get("jobs", {}).values()]
        found["job_minutes"] = float(sum(minutes or found.get("training_minutes", {}).values()))
        for key, kind in {"verdict": str, "claims": list, "date": str, "commit": str}.items():
            if not isinstance(found[key], kind):
                raise TypeError(key)
        found["minutes"] = float(found["minutes"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged; run it again") from None
    return found


def commit() -> str:
    """Return the commit of the source tree, with "+changes" if it has some, or "unknown"."""
    root = Path(__file__).resolve().parents[2]
    commands: Sequence[Sequence[str]] = (["rev-parse", "HEAD"], ["status", "--porcelain"])
    try:
        head, changes = (
            subprocess.run(
                ["git", "-C", str(root), *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if changes else "")
