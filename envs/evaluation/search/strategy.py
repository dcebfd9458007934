"""The search loop: a strategy asks, an evaluator answers, a history remembers and lets a killed search go on.

A strategy is a deterministic function of its seed and of the scores it was told. Its state need not be saved: the
history is it, and a resumed search tells it the same scores again.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from envs.evaluation.search.space import Architecture, Space
from rlsuite.errors import UserError, require
from rlsuite.records.files import write_atomically

WORST = -math.inf


class Proposal(NamedTuple):
    """What a strategy asks for: architectures whose shared weights learn next, and those to be scored after that."""

    train: tuple[Architecture, ...] = ()
    judge: tuple[Architecture, ...] = ()


class Strategy(Protocol):
    """Proposes, learns from scores, and says in the end what it has found. Larger scores are better."""

    def ask(self) -> Proposal:
        """Return the next proposal; an empty one ends the search."""
        ...

    def tell(self, scores: Sequence[float]) -> None:
        """Take a score for each architecture of the last proposal's `judge`."""
        ...


class Evaluator(Protocol):
    """Says what architectures are worth."""

    def prepare(self, train: Sequence[Architecture]) -> None:
        """Let shared weights learn in these architectures, where there are any."""
        ...

    def score(self, judge: Sequence[Architecture]) -> list[float]:
        """Return a score for each; a candidate that failed may be NaN."""
        ...

    def save(self, folder: Path) -> None:
        """Write what has been learned under a folder, whole or not at all."""
        ...

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        ...


@dataclass
class Outcome:
    """What a search did.

    Attributes:
        judged: each architecture that was asked for, in turn, with its score; the same one may come twice.
        queries: how many of them had to be evaluated.
    """

    judged: list[tuple[Architecture, float]] = field(default_factory=list)
    queries: int = 0

    @property
    def best(self) -> Architecture:
        """The first of those with the highest score."""
        return max(self.judged, key=lambda pair: pair[1])[0]


def search(
    space: Space,
    strategy: Strategy,
    evaluator: Evaluator,
    *,
    budget: int,
    folder: Path | None = None,
    description: dict[str, Any] | None = None,
    on_round: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Search until `budget` different networks have been evaluated, or the strategy has no more to ask.

    Networks that are canonically the same are evaluated once; asking for one again is free. A score that is not finite
    is the worst one, and the search goes on. Shared weights that learn change what a network is worth: an evaluator
    that has any says so by `changes = True`, and scores are then not kept from one round to the next. What an evaluator
    has as its `description`, plain data, is kept in the history's header, too.

    Args:
        space: what is searched.
        strategy: who proposes.
        evaluator: who judges.
        budget: networks evaluated at most; a round that would exceed it is cut.
        folder: keeps history.jsonl there, continues one that is there, and lets the evaluator save beside it.
        description: plain data that a continued history must have been begun with, beside space and budget: strategy,
            seeds.
        on_round: called after each round.

    Raises:
        UserError: if the history is of another search, or cannot be read.
    """
    require(budget >= 1, f"budget={budget}: use 1 or more")
    evaluated = getattr(evaluator, "description", {})
    header = {**space.told_apart(), "budget": budget, **evaluated, **(description or {})}
    history = History(folder, header)
    outcome, known = Outcome(), {}
    changes = getattr(evaluator, "changes", False)
    while outcome.queries < budget:
        proposal = strategy.ask()
        if not proposal.judge and not proposal.train:
            break
        if changes:
            known = {}
        judge, fresh = _within(space, proposal.judge, known, budget - outcome.queries)
        recorded = history.next(proposal)
        if recorded is None:
            evaluator.prepare(proposal.train)
            found = [score if math.isfinite(score) else WORST for score in evaluator.score(list(fresh.values()))]
            history.append(proposal, found, evaluator)
        else:
            found = recorded
            if history.at_end:
                history.restore(evaluator)
        known.update(zip(fresh, found, strict=True))
        outcome.queries += len(fresh)
        scores = [known[space.canonical(architecture)] for architecture in judge]
        outcome.judged += zip(judge, scores, strict=True)
        if len(judge) < len(proposal.judge):
            break
        strategy.tell(scores)
        on_round(outcome)
    return outcome


def _within(
    space: Space, judge: Sequence[Architecture], known: dict[Hashable, float], left: int
) -> tuple[list[Architecture], dict[Hashable, Architecture]]:
    """Return what of a round the budget allows, and of that what must be evaluated, by its canonical form."""
    kept: list[Architecture] = []
    fresh: dict[Hashable, Architecture] = {}
    for architecture in judge:
        form = space.canonical(architecture)
        if form not in known and form not in fresh:
            if len(fresh) == left:
                break
            fresh[form] = architecture
        kept.append(architecture)
    return kept, fresh


class History:
    """history.jsonl: a header, then a line for each round: what was asked, and the scores that were found.

    A torn last line, left by a kill, is cut off; its round is done again.
    """

    def __init__(self, folder: Path | None, header: dict[str, Any]) -> None:
        self.path = None if folder is None else folder / "history.jsonl"
        self.rounds: list[dict[str, Any]] = []
        self.position = 0
        if folder is None or self.path is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self._write([header])
            return
        lines = self.path.read_bytes().split(b"\n")
        try:
            stored, *self.rounds = [json.loads(line) for line in lines[:-1]]
        except (ValueError, UnicodeDecodeError):
            raise UserError(f"{self.path} is not the history of a search; choose another folder") from None
        header = json.loads(json.dumps(header))
        if stored != header:
            differing = sorted(key for key in {*stored, *header} if stored.get(key) != header.get(key))
            raise UserError(f"{self.path} is of another search ({', '.join(differing)} differ); choose another folder")
        self._write([stored, *self.rounds])  # without a torn last line

    @property
    def at_end(self) -> bool:
        """Whether the round returned last is the last one recorded."""
        return self.position == len(self.rounds)

    def next(self, proposal: Proposal) -> list[float] | None:
        """Return the recorded scores of the round that this proposal begins, or None if it is new.

        Raises:
            UserError: if another proposal was recorded.
        """
        if self.position == len(self.rounds):
            return None
        entry = self.rounds[self.position]
        self.position += 1
        if entry["asked"] != _plain(proposal):
            raise UserError(f"{self.path}, round {self.position}: the strategy asks for others now; begin a new search")
        return [WORST if score is None else score for score in entry["scores"]]

    def append(self, proposal: Proposal, scores: list[float], evaluator: Evaluator) -> None:
        """Record a new round, after what the evaluator has learned in it."""
        if self.path is None:
            return
        plain = [score if math.isfinite(score) else None for score in scores]
        self.rounds.append({"asked": _plain(proposal), "scores": plain})
        self.position += 1
        evaluator.save(self.path.parent / f"round-{len(self.rounds)}")
        with self.path.open("ab") as file:
            file.write(_line(self.rounds[-1]))
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(self.path.parent / f"round-{len(self.rounds) - 1}", ignore_errors=True)  # no one returns there

    def restore(self, evaluator: Evaluator) -> None:
        """Give the evaluator back what it had learned by the last recorded round."""
        assert self.path is not None
        evaluator.load(self.path.parent / f"round-{len(self.rounds)}")

    def _write(self, entries: list[dict[str, Any]]) -> None:
        assert self.path is not None
        write_atomically(self.path, b"".join(map(_line, entries)))


def _plain(proposal: Proposal) -> list[list[list[int]]]:
    return [[list(architecture) for architecture in part] for part in proposal]


def _line(entry: dict[str, Any]) -> bytes:
    return (json.dumps(entry, allow_nan=False) + "\n").encode()
