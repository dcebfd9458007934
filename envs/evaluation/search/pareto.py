"""Which of several architectures to keep when more than one thing counts: pure functions on arrays.

Fronts and crowding of NSGA-II (Deb et al. 2002), reference directions of NSGA-III (Deb and Jain 2014), the protected
fronts of CARS (Yang et al. 2020, arXiv:1909.04977, section 3.3), and exact hypervolumes.

Every objective is minimized; negate what should grow. Rows that are equal are no better than each other and lie in one
front. Ties are broken by index.

Shapes: R rows (architectures), M objectives, D reference directions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np


def dominates(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return where `one` is at least as good in every objective and better in one; (..., M) and (..., M) to (...)."""
    return np.asarray((one <= other).all(-1) & (one < other).any(-1))


def ranks(objectives: np.ndarray) -> np.ndarray:
    """Return the front (R,) each row of (R, M) lies in, 0 for those that no row dominates.

    Raises:
        ValueError: if an objective is not a number.
    """
    if np.isnan(objectives).any():
        raise ValueError("an objective is NaN; give failed candidates the worst value instead")
    better = dominates(objectives[:, None], objectives[None])
    rank = np.full(len(objectives), -1)
    left = better.sum(axis=0)  # how many rows dominate each
    for front in range(len(objectives)):
        chosen = (left == 0) & (rank < 0)
        if not chosen.any():
            break
        rank[chosen] = front
        left = left - better[chosen].sum(axis=0)
    return rank


def fronts(objectives: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the indices of each front of (R, M) in turn, the best first."""
    rank = ranks(objectives)
    for front in range(rank.max(initial=-1) + 1):
        yield np.flatnonzero(rank == front)


def crowding(objectives: np.ndarray) -> np.ndarray:
    """Return how lonely each row (R,) of a front (R, M) is: its neighbours' box's mean side; infinite at the ends."""
    distance = np.zeros(len(objectives))
    for column in objectives.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]] if len(order) else 0.0
        distance[order[[0, -1]] if len(order) else order] = np.inf
        if span > 0 and len(order) > 2:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distance / objectives.shape[1]


def nsga2(objectives: np.ndarray, keep: int) -> np.ndarray:
    """Return the indices of `keep` rows of (R, M): whole fronts, and of the last one the loneliest rows."""
    return _fill(objectives, keep, lambda chosen, front, places: _loneliest(objectives[front], places))


def nsga3(objectives: np.ndarray, keep: int, directions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the indices of `keep` rows of (R, M): whole fronts, and of the last one those near seldom-used directions.

    Args:
        objectives: (R, M).
        keep: how many.
        directions: (D, M), as `reference_directions` gives them.
        rng: draws among equal choices.
    """

    def fill(chosen: np.ndarray, front: np.ndarray, places: int) -> np.ndarray:
        candidates = np.concatenate([chosen, front])
        unit = _normalized(objectives[candidates], objectives)
        nearest, distance = _associate(unit, directions)
        used = np.bincount(nearest[: len(chosen)], minlength=len(directions)).astype(float)
        near, far = nearest[len(chosen) :], distance[len(chosen) :]
        open_, taken = np.ones(len(front), dtype=bool), []
        for _ in range(places):
            waiting = np.isin(np.arange(len(directions)), near[open_])
            least = np.flatnonzero(waiting & (used == used[waiting].min()))
            direction = int(least[rng.integers(len(least))])
            members = np.flatnonzero(open_ & (near == direction))
            pick = members[np.argmin(far[members])] if used[direction] == 0 else members[rng.integers(len(members))]
            open_[pick], used[direction] = False, used[direction] + 1
            taken.append(int(pick))
        return np.asarray(taken, dtype=int)

    return _fill(objectives, keep, fill)


def merged_fronts(sortings: list[np.ndarray], keep: int, rng: np.random.Generator) -> np.ndarray:
    """Return the indices of `keep` rows by several sortings at once: CARS's pNSGA-III.

    The k-th fronts of all sortings are united, for k = 0, 1, ...; a union that fits is kept whole, of the first that
    does not a random part. Large networks survive by the sorting in which size is good.

    Args:
        sortings: objectives (R, M) of the same R rows, each its own way.
        keep: how many.
        rng: draws from the last union.
    """
    rank = np.min([ranks(objectives) for objectives in sortings], axis=0)
    chosen = np.zeros(0, dtype=int)
    for front in range(rank.max(initial=-1) + 1):
        union = np.flatnonzero(rank == front)
        places = keep - len(chosen)
        if len(union) > places:
            union = np.sort(rng.permutation(union)[:places])
        chosen = np.concatenate([chosen, union])
    return chosen


def reference_directions(num_objectives: int, divisions: int) -> np.ndarray:
    """Return the points (D, M) of the unit simplex with coordinates in multiples of 1 / divisions (Das and Dennis)."""
    points = [
        np.diff([-1, *bars, divisions + num_objectives - 1]) - 1
        for bars in itertools.combinations(range(divisions + num_objectives - 1), num_objectives - 1)
    ]
    return np.asarray(points, dtype=float) / divisions


def hypervolume(objectives: np.ndarray, reference: np.ndarray) -> float:
    """Return the volume that rows of (R, M) dominate within the point `reference` (M,), M >= 1, exactly, by slicing."""
    inside = objectives[(objectives < reference).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    if objectives.shape[1] == 1:
        return float(reference[0] - inside.min())
    order = np.argsort(inside[:, 0], kind="stable")
    inside = inside[order]
    edges = np.append(inside[:, 0], reference[0])
    if objectives.shape[1] == 2:
        depth = reference[1] - np.minimum.accumulate(inside[:, 1])
        return float((np.diff(edges) * depth).sum())
    return float(
        sum(
            width * hypervolume(inside[: index + 1, 1:], reference[1:])
            for index, width in enumerate(np.diff(edges))
            if width > 0
        )
    )


def _fill(objectives: np.ndarray, keep: int, choose: Callable[[np.ndarray, np.ndarray, int], np.ndarray]) -> np.ndarray:
    """Keep whole fronts while they fit; `choose(kept, front, places)` says which rows of the next one."""
    chosen = np.zeros(0, dtype=int)
    for front in fronts(objectives):
        places = keep - len(chosen)
        if places <= 0:
            break
        chosen = np.concatenate([chosen, front if len(front) <= places else front[choose(chosen, front, places)]])
    return chosen


def _loneliest(front: np.ndarray, places: int) -> np.ndarray:
    return np.argsort(-crowding(front), kind="stable")[:places]


def _normalized(points: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """Move the best front's ideal point to 0 and its extremes to 1, as NSGA-III does, with spans for intercepts."""
    best = everything[ranks(everything) == 0]
    low, high = best.min(axis=0), best.max(axis=0)
    wide = np.where(high > low, high - low, np.maximum(everything.max(axis=0) - low, 1e-12))
    return (points - low) / wide


def _associate(unit: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the direction it is nearest to, and its distance from that line."""
    along = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    length = unit @ along.T
    away = np.sqrt(np.maximum((unit**2).sum(1)[:, None] - length**2, 0.0))
    nearest = away.argmin(axis=1)
    return nearest, away[np.arange(len(unit)), nearest]
