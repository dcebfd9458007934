"""Which architecture is tried next: fairly, by probabilities, by tournaments. Uniform draws are `Space.sample`.

Shapes: P places, K choices.
"""

from __future__ import annotations

import numpy as np

from envs.evaluation.search.space import Architecture


def fair_round(alive: np.ndarray, rng: np.random.Generator) -> list[Architecture]:
    """Return a round of architectures in which every choice alive comes up exactly once at its place.

    Each place draws without replacement, independently of the others (Chu et al. 2021, arXiv:1907.01845; CP-NAS and
    BNAS, algorithm 1).

    Args:
        alive: (P, K) bool, with equally many at each place.
        rng: of the orders.
    """
    left = alive.sum(1)
    if len(set(left.tolist())) != 1:
        raise ValueError(f"places have {left.tolist()} choices; a fair round needs equally many")
    orders = [rng.permutation(np.flatnonzero(row)).tolist() for row in alive]
    return list(zip(*orders, strict=True))


def softmax_draw(values: np.ndarray, alive: np.ndarray, rng: np.random.Generator) -> Architecture:
    """Return an architecture whose choice at each place is drawn with probability softmax(values) of those alive.

    Args:
        values: (P, K); infinite ones are drawn before all others, equally often among themselves.
        alive: (P, K) bool.
        rng: of the draws.
    """
    drawn = []
    for row, mask in zip(values, alive, strict=True):
        row = np.where(mask, row, -np.inf)
        untried = np.isposinf(row)
        weights = untried.astype(float) if untried.any() else np.exp(row - row.max())
        drawn.append(int(rng.choice(len(row), p=weights / weights.sum())))
    return tuple(drawn)


def tournament(fitness: np.ndarray, size: int, rng: np.random.Generator) -> int:
    """Return the best of `size` indices drawn with replacement, by fitness (N,), the first drawn of equals."""
    drawn = rng.integers(len(fitness), size=size)
    return int(drawn[np.argmax(fitness[drawn])])
