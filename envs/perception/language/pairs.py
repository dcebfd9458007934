"""Pairs of sentences in files: one JSON object a line, {"src": ..., "tgt": ..., "lang": ...}."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rlsuite.errors import UserError, printable
from rlsuite.records.files import read_text, write_atomically

LONGEST = 2000  # characters of a sentence


class Pair(NamedTuple):
    """A sentence, its English, and the sentence's language."""

    source: str
    target: str
    language: str


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write pairs, a line each.

    Raises:
        UserError: if the file cannot be written.
    """
    lines = [
        json.dumps({"src": pair.source, "tgt": pair.target, "lang": pair.language}, ensure_ascii=False)
        for pair in pairs
    ]
    try:
        write_atomically(path, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise UserError(f"{path}: pairs cannot be written ({error.strerror}); choose another file") from None


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs; blank lines are skipped.

    Raises:
        UserError: naming the line that is no pair.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise UserError(f"{path}: pairs cannot be read ({error.strerror}); name a .jsonl file") from None
    pairs = [_pair(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not pairs:
        raise UserError(f'{path}: there is no pair; a line is {{"src": ..., "tgt": ..., "lang": ...}}')
    return pairs


def _pair(path: Path, number: int, line: str) -> Pair:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    given = [found.get(name) for name in ("src", "tgt", "lang")] if isinstance(found, dict) else []
    values = [value for value in given if isinstance(value, str) and value.strip()]
    if len(values) != 3:
        shown = printable(line[:40])
        raise UserError(f'{path}:{number}: {shown} is no {{"src": ..., "tgt": ..., "lang": ...}}; mend that line')
    if max(map(len, values)) > LONGEST:
        raise UserError(f"{path}:{number}: a sentence has more than {LONGEST} characters; shorten it")
    return Pair(*values)
