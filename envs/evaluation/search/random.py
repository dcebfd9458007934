"""Random search: architectures drawn uniformly, each once. The yardstick of every other strategy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from envs.evaluation.search.space import Space
from envs.evaluation.search.strategy import Proposal


class RandomSearch:
    """Proposes an architecture at a time, drawn uniformly from those not proposed before.

    Args:
        space: what is searched.
        seed: of the draws.
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self.space = space
        self.rng = np.random.default_rng(seed)
        self.proposed: set[tuple[int, ...]] = set()

    def ask(self) -> Proposal:
        """Return one new architecture, or nothing once most of a small space has been seen."""
        for _ in range(1000):
            architecture = self.space.sample(self.rng)
            if architecture not in self.proposed:
                self.proposed.add(architecture)
                return Proposal(judge=(architecture,))
        return Proposal()

    def tell(self, scores: Sequence[float]) -> None:
        """Learn nothing."""


def expected_best(validation: np.ndarray, test: np.ndarray, draws: int) -> float:
    """Return the mean test score of the best of `draws` different rows by validation score: random search exactly.

    Of rows sorted by validation score, the one with k worse rows is the best of a draw in binom(k, n - 1) of
    binom(R, n) cases. Rows with equal scores share the chance that one of them is the best.

    Args:
        validation: (R,).
        test: (R,).
        draws: n, from 1 to R.
    """
    rows = len(validation)
    order = np.argsort(validation, kind="stable")
    logarithms = [
        math.lgamma(k + 1) - math.lgamma(draws) - math.lgamma(k - draws + 2) if k >= draws - 1 else -math.inf
        for k in range(rows)
    ]
    total = math.lgamma(rows + 1) - math.lgamma(draws + 1) - math.lgamma(rows - draws + 1)
    chance = np.exp(np.asarray(logarithms) - total)
    _, group = np.unique(validation[order], return_inverse=True)
    shared = np.bincount(group, weights=chance) / np.bincount(group)
    return float(shared[group] @ test[order])
