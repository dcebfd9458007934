"""The frame of a paper's reproduction: claims as inequalities with a margin, and the JSON file that holds them.

Shapes: S seeds.
"""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlsuite.errors import UserError
from rlsuite.records.checkpoint_format import versions

HOLDS, FAILS = "holds", "does not hold here"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim: a figure, for each seed, that must be at least (or at most) a bar.

    Attributes:
        statement: what is claimed, in a sentence.
        margin: the bar.
        figures: (S,) the figure of each seed.
        at_least: True if the mean figure must reach the bar from above, False if it must stay below it.
    """

    statement: str
    margin: float
    figures: tuple[float, ...]
    at_least: bool = True

    @property
    def mean(self) -> float:
        """The mean over seeds, which decides."""
        return sum(self.figures) / len(self.figures)

    @property
    def verdict(self) -> str:
        """HOLDS or FAILS; a figure that is not a number fails."""
        good = self.mean >= self.margin if self.at_least else self.mean <= self.margin
        return HOLDS if good else FAILS


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an experiment found.

    Attributes:
        paper: its name.
        seeds: the seeds run.
        claims: what was tested.
        figures: every other figure worth keeping, JSON-able.
        full_scale: the command that runs the claim at the paper's own size.
        training_minutes: wall clock of each training run, some of which earlier calls may have made.
    """

    paper: str
    seeds: tuple[int, ...]
    claims: tuple[Claim, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)
    full_scale: str = ""
    training_minutes: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """HOLDS if every claim does, else FAILS."""
        return HOLDS if all(claim.verdict == HOLDS for claim in self.claims) else FAILS

    def table(self) -> list[str]:
        """Return the claims as lines of text."""
        lines = []
        for claim in self.claims:
            bar = f"{'>=' if claim.at_least else '<='} {claim.margin:g}"
            seeds = ", ".join(f"{figure:.4g}" for figure in claim.figures)
            lines.append(f"{claim.verdict}: {claim.statement}: {claim.mean:.4g} {bar} (by seed: {seeds})")
        return lines

    def to_json(self, minutes: float) -> dict[str, Any]:
        """Return what docs/results/<paper>.json holds."""
        return {
            "paper": self.paper,
            "verdict": self.verdict,
            "seeds": list(self.seeds),
            "claims": [
                {
                    "statement": claim.statement,
                    "margin": claim.margin,
                    "at_least": claim.at_least,
                    "figures": list(claim.figures),
                    "mean": claim.mean,
                    "verdict": claim.verdict,
                }
                for claim in self.claims
            ],
            "figures": dict(self.figures),
            "full_scale": self.full_scale,
            "minutes": round(minutes, 2),
            "training_minutes": dict(self.training_minutes),
            "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
            "versions": versions(),
            "commit": commit(),
            "date": time.strftime("%Y-%m-%d"),
        }


def write_result(result: Result, minutes: float, folder: Path) -> Path:
    """Write docs/results/<paper>.json, whole or not at all; return its path."""
    path = folder / f"{result.paper}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".json.tmp")
        temporary.write_text(json.dumps(result.to_json(minutes), indent=2, allow_nan=False) + "\n")
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); check the folder's permissions") from None
    except ValueError:
        raise UserError(f"paper={result.paper}: a figure is not finite, so nothing was written; rerun it") from None
    return path


def read_state(paper: str, folder: Path) -> str:
    """Return a paper's state in a few words: its verdict with date, or "not run yet"."""
    path = folder / f"{paper}.json"
    try:
        result = json.loads(path.read_text())
        trained = sum(result.get("training_minutes", {}).values())
        took = f"{trained:.0f} minutes of trainings" if trained else f"{result['minutes']} minutes"
        return f"{result['verdict']} ({result['date']}, {took}, commit {result['commit'][:9]})"
    except FileNotFoundError:
        return "not run yet"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{path} is damaged; run it again"


def commit() -> str:
    """Return the commit of the source tree, with "+changes" if it has some, or "unknown"."""
    root = Path(__file__).resolve().parents[1]
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
