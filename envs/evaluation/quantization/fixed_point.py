"""A multiplication and an addition of reals under a floor, as whole numbers with one shift, exactly (arXiv:2008.13128).

    T(x) = clip(floor(a x + b), low, high) = clip((A x + B) >> L, low, high)    for every whole x of a domain

T is a staircase, so for a given A the whole numbers B that serve are an interval, which the integers on both sides of
each jump, and the domain's ends, decide:

    B >= 2^L T(x) - A x             where T(x) > low
    B <= 2^L (T(x) + 1) - 1 - A x   where T(x) < high

The smallest L for which an A next to a 2^L has such a B is taken. The paper chooses A and B together to share one scale
and have few bits; its theorems could not be read, and this is a derivation of the problem it states. a and b are the
float64 numbers that are stored, taken as exact fractions: sqrt(var + eps) itself is irrational.

Shapes: P points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, isfinite
from typing import NamedTuple

import numpy as np

from rlsuite.errors import UserError, require

LARGEST_SHIFT = 40
LARGEST_DIVISOR = 2**12  # of `smallest_divisor`


@dataclass(frozen=True)
class Stairs:
    """T of one channel.

    Attributes:
        a: slope, exact.
        b: offset, exact; 1/2 in it makes the floor round to nearest.
        first: the smallest x.
        last: the largest.
        low: where T is clipped.
        high: likewise.
    """

    a: Fraction
    b: Fraction
    first: int
    last: int
    low: int
    high: int

    @staticmethod
    def of(a: float, b: float, first: int, last: int, low: int, high: int) -> Stairs:
        """Return the stairs of float64 numbers.

        Raises:
            UserError: if one is not finite, or the domain is empty.
        """
        require(
            isfinite(a) and isfinite(b), f"a={a}, b={b}: they are not finite; look for NaN in weights and BatchNorm"
        )
        require(first <= last and low < high, f"[{first}, {last}], [{low}, {high}]: a domain is empty")
        return Stairs(Fraction(a), Fraction(b), first, last, low, high)

    def at(self, x: int) -> int:
        """Return T(x)."""
        return min(max(floor(self.a * x + self.b), self.low), self.high)

    def jumps(self) -> list[int]:
        """Return the x at which T is first another than at x - 1, of each level within the domain, in order.

        A level that is jumped over has its place twice.
        """
        if self.a == 0:
            return []
        start, end = self.at(self.first), self.at(self.last)
        if self.a > 0:
            return [ceil((level - self.b) / self.a) for level in range(start + 1, end + 1)]
        return [floor((level - self.b) / self.a) + 1 for level in range(start, end, -1)]

    def changing(self) -> tuple[int, int]:
        """Return the x between which T changes: clipped to them, every x gives the same."""
        jumps = self.jumps()
        return (jumps[0] - 1, jumps[-1]) if jumps else (self.first, self.first)

    def table(self) -> np.ndarray:
        """Return T at every x of the domain, int64, from its jumps."""
        edges = np.array([self.first, *self.jumps(), self.last + 1], np.int64)
        levels = self.at(self.first) + np.arange(len(edges) - 1) * (1 if self.a >= 0 else -1)
        return np.repeat(levels, np.diff(edges))


class Points(NamedTuple):
    """Where the condition has to be checked: x (P,) and T(x) (P,), int64."""

    x: np.ndarray
    level: np.ndarray


class Integers(NamedTuple):
    """(A x + B) >> L."""

    multiplier: int
    offset: int
    shift: int


def points_of(stairs: Stairs) -> Points:
    """Return the integers on both sides of every jump, and the domain's ends."""
    jumps = np.array(stairs.jumps(), np.int64)
    x = np.unique(np.concatenate([[stairs.first, stairs.last], jumps, jumps - 1]))
    passed = np.searchsorted(jumps, x, side="right")
    return Points(x, stairs.at(stairs.first) + passed * (1 if stairs.a >= 0 else -1))


def offsets(stairs: Stairs, points: Points, multiplier: int, scale: int) -> tuple[int, int] | None:
    """Return the smallest and the largest B that serve with A and 2^L (or any scale); None where none does."""
    require(
        max(
            scale * (abs(stairs.high) + abs(stairs.low) + 1), abs(multiplier) * max(abs(stairs.first), abs(stairs.last))
        )
        < 2**62,
        f"multiplier={multiplier}: products leave 64 bits",
    )
    level, product = points.level, multiplier * points.x
    below, above = level > stairs.low, level < stairs.high
    least = int((scale * level - product)[below].max()) if below.any() else None
    most = int((scale * (level + 1) - 1 - product)[above].min()) if above.any() else None
    if least is None and most is None:
        raise AssertionError("a level is neither above the lowest nor below the highest")
    least = most - scale if least is None and most is not None else least
    most = least + scale if most is None and least is not None else most
    assert least is not None
    assert most is not None
    return (least, most) if least <= most else None


def multipliers(stairs: Stairs, scale: int) -> Iterator[int]:
    """Give the whole numbers next to a 2^L; 0 where T is the same everywhere, of one threshold the sign of a."""
    if stairs.at(stairs.first) == stairs.at(stairs.last):
        yield 0  # always serves, as does the sign of a below
        return
    near = floor(stairs.a * scale)
    yield from (near, near + 1, near - 1, near + 2)
    if stairs.high - stairs.low == 1:
        yield 1 if stairs.a > 0 else -1


def at_shift(stairs: Stairs, points: Points, shift: int) -> Integers | None:
    """Return exact whole numbers with a given shift, B in the middle of its interval; None where there are none."""
    for multiplier in multipliers(stairs, 2**shift):
        if (found := offsets(stairs, points, multiplier, 2**shift)) is not None:
            return Integers(multiplier, sum(found) // 2, shift)
    return None


def search(stairs: Stairs) -> Integers:
    """Return exact whole numbers with the smallest shift.

    Raises:
        UserError: if no shift up to LARGEST_SHIFT has any.
    """
    points = points_of(stairs)
    for shift in range(LARGEST_SHIFT + 1):
        if (found := at_shift(stairs, points, shift)) is not None:
            return found
    raise UserError(f"a={float(stairs.a):.3g}: no shift up to {LARGEST_SHIFT} is exact; use a narrower layer")


def search_together(channels: list[Stairs]) -> list[Integers]:
    """Return exact whole numbers of a layer's channels, all with one shift, the smallest.

    A channel that can do with a shift may not do with a larger one, so all are checked at the layer's.

    Raises:
        UserError: as `search`.
    """
    points = [points_of(stairs) for stairs in channels]
    first = max(search(stairs).shift for stairs in channels)
    for shift in range(first, LARGEST_SHIFT + 1):
        found = [at_shift(stairs, own, shift) for stairs, own in zip(channels, points, strict=True)]
        if all(one is not None for one in found):
            return [one for one in found if one is not None]
    raise UserError(f"no shift up to {LARGEST_SHIFT} is exact for all channels; use a narrower layer")


def rounded_alone(stairs: Stairs) -> int:
    """Return the smallest shift with which A = round(a 2^L) and B = round(b 2^L) are exact: what `search` saves."""
    points = points_of(stairs)
    for shift in range(63):
        multiplier, offset = round(stairs.a * 2**shift), round(stairs.b * 2**shift)
        largest = abs(multiplier) * max(abs(stairs.first), abs(stairs.last)) + abs(offset)
        if largest >= 2**62:
            break
        made = np.clip((multiplier * points.x + offset) >> shift, stairs.low, stairs.high)
        if np.array_equal(made, points.level):
            return shift
    return 63


def search_nearly(stairs: Stairs, x: np.ndarray, counts: np.ndarray, share: float) -> Integers:
    """Return whole numbers with the smallest shift that differ at no more than a share of what comes by, by one level.

    Args:
        stairs: T.
        x: (P,) whole numbers that were seen.
        counts: (P,) how often.
        share: of them that may differ.
    """
    x = x.astype(np.int64)
    passed = np.searchsorted(np.array(stairs.jumps(), np.int64), x, side="right")
    wanted = stairs.at(stairs.first) + passed * (1 if stairs.a >= 0 else -1)
    for shift in range(LARGEST_SHIFT + 1):
        for multiplier in multipliers(stairs, 2**shift):
            middle = (2 * wanted + 1) * 2**shift // 2 - multiplier * x  # what puts each x in the middle of its level
            for offset in {round(stairs.b * 2**shift), int(np.median(middle))}:
                apart = np.abs(np.clip((multiplier * x + offset) >> shift, stairs.low, stairs.high) - wanted)
                if apart.max() <= 1 and counts[apart > 0].sum() <= share * counts.sum():
                    return Integers(multiplier, offset, shift)
    return search(stairs)


def smallest_divisor(stairs: Stairs, largest: int = LARGEST_DIVISOR) -> int | None:
    """Return the smallest S, of whatever kind, with which (A x + B) // S is exact; None above `largest`.

    For analysis: a division by what is no power of two is no shift.
    """
    points = points_of(stairs)
    for scale in range(1, largest + 1):
        if any(offsets(stairs, points, multiplier, scale) for multiplier in multipliers(stairs, scale)):
            return scale
    return None


def mismatches(stairs: Stairs, made: Integers) -> int:
    """Return at how many x of the whole domain whole numbers give another level than the exact fractions do."""
    x = np.arange(stairs.first, stairs.last + 1)
    levels = np.clip((made.multiplier * x + made.offset) >> made.shift, stairs.low, stairs.high)
    return int((levels != stairs.table()).sum())


def accumulator_bits(ends: tuple[int, int], made: Integers) -> int:
    """Return the bits, sign included, that A x + B needs from one end to the other."""
    largest = max(abs(made.multiplier * x + made.offset) for x in ends)
    return max(largest, 1).bit_length() + 1
