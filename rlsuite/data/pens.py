"""What people's pens did when they wrote: Omniglot's text files (Lake, Salakhutdinov and Tenenbaum 2015).

A drawing is a file of lines `x,y,time`, in pixels of its picture counted from 1, y from the top downwards and negative;
a line BREAK ends each stroke, and START begins the first.

Shapes: n points of a stroke.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from rlsuite.data.folders import places_in, read_bytes
from rlsuite.errors import UserError


def pen_files(root: Path | str) -> dict[str, str]:
    """Return where drawings lie in a folder or zip file, by alphabet/character/drawing.

    Raises:
        UserError: if there is no such folder, it cannot be read, or it holds none.
    """
    places = [place for place in places_in(Path(root), (".txt",), "drawing") if "__MACOSX" not in place]
    return {drawing_name(place): place for place in places}


def drawing_name(place: str) -> str:
    """Return alphabet/character/drawing of a file, be it of the picture or of the pen."""
    return "/".join(PurePosixPath(place).with_suffix("").parts[-3:])


def read_pen(root: Path | str, place: str) -> list[np.ndarray]:
    """Return a drawing's strokes, each (n, 2): row and column in pixels of its picture, 0 at the picture's edge.

    Raises:
        UserError: if it cannot be read, or is no drawing.
    """
    try:
        return parse_pen(read_bytes(Path(root), place).decode("ascii"))
    except ValueError as error:
        raise UserError(f"{root}:{place} is no drawing ({error}); fetch it again") from None


def parse_pen(text: str) -> list[np.ndarray]:
    """Return the strokes of a drawing's text; ValueError if it is none."""
    strokes: list[list[tuple[float, float]]] = [[]]
    for number, line in enumerate(text.split(), 1):
        if line == "START":
            continue
        if line == "BREAK":
            strokes.append([])
            continue
        values = line.split(",")
        if len(values) != 3:
            raise ValueError(f"line {number} is no x,y,time")
        column, row = float(values[0]) - 0.5, -float(values[1]) - 0.5  # the first pixel's centre is at 1
        strokes[-1].append((row, column))
    found = [np.array(stroke) for stroke in strokes if stroke]
    if not found:
        raise ValueError("it holds no stroke")
    if not all(np.isfinite(stroke).all() for stroke in found):
        raise ValueError("it holds places that are no numbers")
    return found
