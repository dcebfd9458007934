"""Byte strings in one byte string: each with its length before it, seven bits a byte."""

from __future__ import annotations

from rlsuite.errors import UserError

_LONGEST = 5  # bytes of a number


def pack(parts: list[bytes]) -> bytes:
    """Return the parts, one after another."""
    return b"".join(packed_number(len(part)) + part for part in parts)


def unpack(data: bytes) -> list[bytes]:
    """Return the parts.

    Raises:
        UserError: if the last one is cut off.
    """
    parts, place = [], 0
    while place < len(data):
        length, place = number_at(data, place)
        if place + length > len(data):
            raise UserError("the stream ends within a frame; fetch it again")
        parts.append(data[place : place + length])
        place += length
    return parts


def packed_number(number: int) -> bytes:
    """Return a number of 0 or more as bytes, the lowest seven bits first."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def number_at(data: bytes, place: int) -> tuple[int, int]:
    """Return the number that begins at a place, and the place after it.

    Raises:
        UserError: if it is cut off, or too long.
    """
    number = 0
    for count, byte in enumerate(data[place : place + _LONGEST]):
        number |= (byte & 0x7F) << (7 * count)
        if not byte & 0x80:
            return number, place + count + 1
    raise UserError("the stream is cut off or damaged; fetch it again")
