"""Symbols to bytes and back, at the cost of their entropy: an asymmetric numeral system (Duda 2013, arXiv:1311.2540).

The variant with ranges ("rANS"), a state of 32 bits, words of 16 and frequencies of 16 bits: whole numbers alone, so
what one machine writes any other reads. It is a stack, last in, first out; `Encoder` keeps what it is given and codes
it backwards when it is finished, so that `Decoder` reads in the order of writing. A decoder may be asked for symbols
whose frequencies depend on symbols that it has read before.

Values beyond a table's range are an escape symbol, and then bytes of seven bits each.

Shapes: K tables, n values.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

BITS = 16
TOTAL = 1 << BITS  # of a table's frequencies
_LOWEST = 1 << 16  # of the state, between symbols
_LONGEST_ESCAPE = 10  # bytes: 64 bits of seven


class DamagedError(ValueError):
    """The bytes are not what an encoder wrote with these tables."""


class Tables:
    """How frequent values are.

    Args:
        shares: K arrays of probabilities: of values first, first + 1, ... and, at the end, of all others together.
        first: the lowest value of each.

    Attributes:
        ends: K lists of cumulative frequencies, from 0 to TOTAL; the last symbol is the escape.
        first: see there.
    """

    def __init__(self, shares: Sequence[np.ndarray], first: Sequence[int]) -> None:
        self.ends = [[0, *np.cumsum(frequencies(share)).tolist()] for share in shares]
        self.first = [int(value) for value in first]


def frequencies(shares: np.ndarray) -> np.ndarray:
    """Return whole frequencies (n,) of 1 or more, TOTAL together, for probabilities (n,).

    Raises:
        ValueError: if they are negative, no numbers, or too many.
    """
    shares = np.asarray(shares, dtype=np.float64)
    if not (np.isfinite(shares).all() and (shares >= 0).all() and 1 <= len(shares) <= TOTAL // 2 and shares.sum() > 0):
        raise ValueError("a table needs probabilities, at most half as many as its frequencies' total")
    spare = TOTAL - len(shares)  # every symbol has one; what is left is shared out
    exact = shares / shares.sum() * spare
    found = np.floor(exact).astype(np.int64)
    rest = spare - int(found.sum())
    found[np.argsort(found - exact, kind="stable")[:rest]] += 1
    return found + 1


class Encoder:
    """Takes symbols, and gives bytes once."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._widths: list[int] = []

    def put(self, values: np.ndarray, rows: np.ndarray, tables: Tables) -> None:
        """Take whole values (n,), each by the table (n,) int that it names."""
        for value, row in zip(values.tolist(), rows.tolist(), strict=True):
            ends = tables.ends[row]
            place, last = value - tables.first[row], len(ends) - 2
            inside = 0 <= place < last
            self._take(ends, place if inside else last)
            if not inside:
                self._escape(place if place < 0 else place - last)

    def finish(self) -> bytes:
        """Return the bytes."""
        state, words = _LOWEST, []
        for start, width in zip(reversed(self._starts), reversed(self._widths), strict=True):
            if state >= width << BITS:
                words.append(state & 0xFFFF)
                state >>= 16
            state = ((state // width) << BITS) + state % width + start
        words += [state & 0xFFFF, state >> 16]
        return np.asarray(words[::-1], dtype="<u2").tobytes()

    def _take(self, ends: list[int], symbol: int) -> None:
        self._starts.append(ends[symbol])
        self._widths.append(ends[symbol + 1] - ends[symbol])

    def _escape(self, beyond: int) -> None:
        """Take a number, evens for 0, 1, ... above the range and odds for -1, -2, ... below it, seven bits a byte."""
        number = 2 * beyond if beyond >= 0 else -2 * beyond - 1
        while True:
            number, low = number >> 7, number & 0x7F
            self._starts.append((low | (0x80 if number else 0)) << 8)
            self._widths.append(1 << 8)
            if not number:
                return


class Decoder:
    """Reads the symbols of an encoder's bytes, in the order in which they were put.

    Raises:
        DamagedError: if these are no encoder's bytes.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) < 4 or len(data) % 2:
            raise DamagedError("a frame's bytes are cut off")
        self._words = np.frombuffer(data, dtype="<u2").tolist()
        self._state = (self._words[0] << 16) + self._words[1]
        self._place = 2

    def get(self, rows: np.ndarray, tables: Tables) -> np.ndarray:
        """Return values (n,) int64, each by the table (n,) that it names.

        Raises:
            DamagedError: if the bytes end before the symbols.
        """
        found = []
        for row in rows.tolist():
            ends = tables.ends[row]
            last, symbol = len(ends) - 2, bisect_right(ends, self._state & 0xFFFF) - 1
            self._drop(ends[symbol], ends[symbol + 1] - ends[symbol])
            if symbol == last:
                beyond = self._escaped()
                symbol = beyond if beyond < 0 else beyond + last
            found.append(symbol + tables.first[row])
        return np.asarray(found, dtype=np.int64)

    def finish(self) -> None:
        """Raise DamagedError unless all has been read, and nothing else was there."""
        if self._state != _LOWEST or self._place != len(self._words):
            raise DamagedError("a frame's bytes are damaged")

    def _drop(self, start: int, width: int) -> None:
        state = width * (self._state >> BITS) + (self._state & 0xFFFF) - start
        if state < _LOWEST:
            if self._place >= len(self._words):
                raise DamagedError("a frame's bytes end too early")
            state = (state << 16) | self._words[self._place]
            self._place += 1
        self._state = state

    def _escaped(self) -> int:
        number = 0
        for place in range(_LONGEST_ESCAPE):
            byte = (self._state & 0xFFFF) >> 8
            self._drop(byte << 8, 1 << 8)
            number |= (byte & 0x7F) << (7 * place)
            if not byte & 0x80:
                beyond = number // 2 if number % 2 == 0 else -(number + 1) // 2
                if abs(beyond) >= 1 << 40:
                    break
                return beyond
        raise DamagedError("a frame's bytes are damaged")
