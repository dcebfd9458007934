"""Claims: inequalities whose bars are set before the first run, and what an experiment finds of them.

Shapes: S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HOLDS, FAILS = "holds", "does not hold here"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim: a figure, for each seed, that must be at least (or at most) a bar.

    Attributes:
        statement: what is claimed, in a sentence.
        margin: the bar, one of the experiment's numbers: set beforehand, never moved afterwards.
        figures: (S,) the figure of each seed; where every seed must pass, the worst one's alone.
        at_least: True if the mean figure must reach the bar from above, False if it must stay below it.
    """

    statement: str
    margin: float
    figures: tuple[float, ...]
    at_least: bool = True

    def __post_init__(self) -> None:
        if not self.figures:
            raise ValueError(f"claim '{self.statement}' has no figure")

    @property
    def mean(self) -> float:
        """The mean over seeds, which decides."""
        return sum(self.figures) / len(self.figures)

    @property
    def verdict(self) -> str:
        """HOLDS or FAILS; a figure that is not a number fails."""
        good = self.mean >= self.margin if self.at_least else self.mean <= self.margin
        return HOLDS if good else FAILS

    def line(self) -> str:
        """Return verdict, statement, mean, bar and figures on one line."""
        bar = f"{'>=' if self.at_least else '<='} {self.margin:g}"
        seeds = ", ".join(f"{figure:.4g}" for figure in self.figures)
        return f"{self.verdict}: {self.statement}: {self.mean:.4g} {bar} (by seed: {seeds})"

    def to_json(self) -> dict[str, Any]:
        """Return what a result file holds of the claim."""
        return {
            "statement": self.statement,
            "margin": self.margin,
            "at_least": self.at_least,
            "figures": list(self.figures),
            "mean": self.mean,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an experiment found.

    Attributes:
        seeds: the seeds run.
        claims: what was tested.
        figures: every other figure worth keeping, JSON-able.
        full_scale: the command that runs the claim at the paper's own size.
    """

    seeds: tuple[int, ...]
    claims: tuple[Claim, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)
    full_scale: str = ""

    @property
    def verdict(self) -> str:
        """HOLDS if there are claims and every one does, else FAILS."""
        return HOLDS if self.claims and all(claim.verdict == HOLDS for claim in self.claims) else FAILS

    def table(self) -> list[str]:
        """Return the claims as lines of text."""
        return [claim.line() for claim in self.claims]
