"""Local search (White et al. 2021, arXiv:2005.02960): walk to the first better neighbour; from a summit, start anew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.strategy import Proposal


class LocalSearch:
    """Proposes a neighbour at a time, in random order, and moves as soon as one is better.

    Args:
        space: what is searched.
        seed: of starts and of the order of neighbours.
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self.space = space
        self.rng = np.random.default_rng(seed)
        self.score = -np.inf
        self.untried: list[Architecture] | None = None  # neighbours of where it stands; None: a start is due
        self.waiting: Architecture = ()

    def ask(self) -> Proposal:
        """Return one architecture."""
        if self.untried:
            self.waiting = self.untried.pop()
        else:
            self.untried, self.score = None, -np.inf
            self.waiting = self.space.sample(self.rng)
        return Proposal(judge=(self.waiting,))

    def tell(self, scores: Sequence[float]) -> None:
        """Move where it is better, or where it has just started."""
        if self.untried is None or scores[0] > self.score:
            self.score = scores[0]
            around = list(self.space.neighbours(self.waiting))
            self.untried = [around[i] for i in self.rng.permutation(len(around))]
