"""Multi-objective evolution: NSGA-II (Deb et al. 2002) over scores and costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from envs.evaluation.search.pareto import crowding, fronts, nsga2
from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.strategy import Proposal
from rlsuite.errors import require


@dataclass(frozen=True, kw_only=True)
class NSGAConfig:
    """NSGA-II.

    Attributes:
        population: P, architectures alive, and children of each generation.
        crossover: probability that a child has two parents before it mutates.
    """

    population: int = 20
    crossover: float = 0.5

    def __post_init__(self) -> None:
        require(self.population >= 2, f"population={self.population}: use 2 or more")
        require(0.0 <= self.crossover <= 1.0, f"crossover={self.crossover}: use a value in [0, 1]")


class NSGA2:
    """Minimizes (-score, cost) for a population; parents win tournaments of two by front, then by crowding.

    Args:
        space: what is searched.
        cost: what a member costs, smaller is better.
        config: see NSGAConfig.
        seed: of all draws.
    """

    def __init__(
        self, space: Space, cost: Callable[[Architecture], float], config: NSGAConfig | None = None, *, seed: int
    ) -> None:
        self.space, self.cost, self.config = space, cost, config or NSGAConfig()
        self.rng = np.random.default_rng(seed)
        self.members: list[Architecture] = []
        self.objectives = np.zeros((0, 2))
        self.standing: list[tuple[int, float]] = []  # of each member: front, and how crowded it is there
        self.waiting: list[Architecture] = []

    def ask(self) -> Proposal:
        """Return a generation: P random architectures at first, P children after that."""
        known = set(self.members)
        self.waiting = []
        for _ in range(100 * self.config.population):
            child = self._child() if self.members else self.space.sample(self.rng)
            if child not in known:
                known.add(child)
                self.waiting.append(child)
            if len(self.waiting) == self.config.population:
                break
        return Proposal(judge=tuple(self.waiting))

    def tell(self, scores: Sequence[float]) -> None:
        """Keep the best P of parents and children."""
        found = np.array([[-score, self.cost(child)] for score, child in zip(scores, self.waiting, strict=True)])
        members, objectives = self.members + self.waiting, np.concatenate([self.objectives, found])
        kept = nsga2(objectives, self.config.population)
        self.members, self.objectives = [members[i] for i in kept], objectives[kept]
        self.standing = [(0, 0.0)] * len(kept)
        for number, front in enumerate(fronts(self.objectives)):
            for index, lonely in zip(front, crowding(self.objectives[front]), strict=True):
                self.standing[index] = (number, -lonely)

    def _child(self) -> Architecture:
        child = self.members[self._winner()]
        if self.rng.random() < self.config.crossover:
            child = self.space.crossover(child, self.members[self._winner()], self.rng)
        return self.space.mutate(child, self.rng)

    def _winner(self) -> int:
        one, other = self.rng.integers(len(self.members), size=2)
        return int(one if self.standing[one] <= self.standing[other] else other)
