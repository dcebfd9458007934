"""Regularized evolution (Real et al. 2019, arXiv:1802.01548): the best of a sample has a child, the oldest dies."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.strategy import Proposal
from rlsuite.errors import require


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """Regularized evolution.

    Attributes:
        population: architectures alive at a time.
        sample: of them, drawn with replacement, whose best becomes the parent.
    """

    population: int = 20
    sample: int = 5

    def __post_init__(self) -> None:
        for name in ("population", "sample"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


class RegularizedEvolution:
    """Proposes random architectures until the population is full, then one child at a time.

    Args:
        space: what is searched; a child differs from its parent at one place.
        config: see EvolutionConfig.
        seed: of all draws.
    """

    def __init__(self, space: Space, config: EvolutionConfig | None = None, *, seed: int) -> None:
        self.space, self.config = space, config or EvolutionConfig()
        self.rng = np.random.default_rng(seed)
        self.population: deque[tuple[Architecture, float]] = deque(maxlen=self.config.population)
        self.waiting: Architecture = ()

    def ask(self) -> Proposal:
        """Return one architecture."""
        if len(self.population) < self.config.population:
            self.waiting = self.space.sample(self.rng)
        else:
            drawn = self.rng.integers(len(self.population), size=self.config.sample)
            parent = max((self.population[i] for i in drawn), key=lambda member: member[1])[0]
            self.waiting = self.space.mutate(parent, self.rng)
        return Proposal(judge=(self.waiting,))

    def tell(self, scores: Sequence[float]) -> None:
        """Let the newcomer in; where the population is full its oldest member dies."""
        self.population.append((self.waiting, scores[0]))
