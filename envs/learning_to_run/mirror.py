"""The runner in a mirror: which of its numbers change places when left becomes right.

It is planar, so that nothing changes its sign.
"""

from __future__ import annotations

from collections.abc import Iterable

from envs.learning_to_run.path_points import MUSCLES
from envs.learning_to_run.skeleton import SIZE


def swapped(size: int, pairs: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    """Return the permutation of `size` places that swaps some pairs."""
    places = list(range(size))
    for one, other in pairs:
        places[one], places[other] = other, one
    return tuple(places)


# Joint angles and velocities, places of toes and tali, strengths of the psoas muscles.
RAW_PAIRS = (
    *((6 + joint, 9 + joint) for joint in range(3)),
    *((12 + joint, 15 + joint) for joint in range(3)),
    *((28, 30), (29, 31), (32, 34), (33, 35), (36, 37)),
)
RAW = swapped(SIZE, RAW_PAIRS)
ACTION = swapped(2 * len(MUSCLES), ((muscle, len(MUSCLES) + muscle) for muscle in range(len(MUSCLES))))
