"""Paintings as JSON: strokes in tiles (format 1) and strokes that lie anywhere (format 2).

docs/painting.md says what the entries mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from renderers.free_strokes import MIXED, FreeStrokes
from renderers.sparse import BLACK
from renderers.stroke_list import Layer, StrokeList
from renderers.strokes import BRUSHES, RASTERIZED, STROKE_SIZE
from rlsuite.errors import UserError
from rlsuite.records.files import read_text, write_atomically

TILED, FREE = "rlsuite strokes 1", "rlsuite strokes 2"
LARGEST_FILE = 1 << 29  # bytes

Painting = StrokeList | FreeStrokes


def save_strokes(painting: Painting, path: Path) -> None:
    """Write a painting as JSON, numbers to six decimals."""
    whole = {"height": painting.height, "width": painting.width, "brush": painting.brush, "about": painting.about}
    if isinstance(painting, FreeStrokes):
        kinds = {"brushes": [BRUSHES[kind] for kind in painting.kinds.tolist()]} if painting.brush == MIXED else {}
        ground = {} if painting.ground == BLACK else {"ground": [round(part, 6) for part in painting.ground]}
        entries = {"format": FREE, **whole, **ground, **kinds, "strokes": _rounded(painting.strokes)}
    else:
        entries = {"format": TILED, **whole, "layers": [_entries(layer) for layer in painting.layers]}
    write_atomically(path, json.dumps(entries, separators=(",", ":")) + "\n")


def load_strokes(path: Path | str) -> Painting:
    """Read what save_strokes wrote, now or before there was a second format.

    Raises:
        UserError: if the file is missing or no list of strokes.
    """
    try:
        found = json.loads(read_text(Path(path), LARGEST_FILE))
        free = found["format"] == FREE
        if found["format"] not in (TILED, FREE) or found["brush"] not in ((*BRUSHES, MIXED) if free else RASTERIZED):
            raise ValueError("it is of another format")
        height, width = int(found["height"]), int(found["width"])
        if min(height, width) < 1:
            raise ValueError(f"its picture has {height} x {width} pixels")
        about = found.get("about", {})
        if free:
            strokes = (
                _numbers(found["strokes"], single=True) if found["strokes"] != [] else torch.zeros(0, 1, STROKE_SIZE)
            )
            brushes = found["brushes"] if found["brush"] == MIXED else [found["brush"]] * len(strokes)
            kinds = torch.tensor([BRUSHES.index(brush) for brush in brushes], dtype=torch.int64)
            if len(kinds) != len(strokes):
                raise ValueError(f"it has {len(strokes)} strokes and {len(kinds)} brushes")
            red, green, blue = (float(part) for part in found.get("ground", BLACK))
            if not all(0.0 <= part <= 1.0 for part in (red, green, blue)):
                raise ValueError("its ground is no colour")
            return FreeStrokes(height, width, strokes[:, 0], kinds, found["brush"], about, (red, green, blue))
        return StrokeList(height, width, found["brush"], [_layer(layer) for layer in found["layers"]], about)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        text = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: no list of strokes can be read from it ({text})") from None


def _rounded(strokes: Tensor) -> list[list[float]]:
    return [[round(number, 6) for number in stroke] for stroke in strokes.tolist()]


def _entries(layer: Layer) -> dict[str, Any]:
    tiles = zip(layer.places.tolist(), layer.strokes, strict=True)
    return {"side": layer.side, "tiles": [{"corner": corner, "strokes": _rounded(tile)} for corner, tile in tiles]}


def _numbers(found: Any, *, single: bool) -> Tensor:
    """Return strokes (m, n, 13); single: as a list of strokes has them, n = 1."""
    strokes = torch.tensor(found, dtype=torch.float32)
    strokes = strokes.view(len(found), -1, STROKE_SIZE)
    if strokes.numel() == 0 or (single and strokes.shape[1] != 1):
        raise ValueError(f"it has no strokes of {STROKE_SIZE} numbers each")
    if not bool(((strokes >= 0.0) & (strokes <= 1.0)).all()):  # NaN is neither
        raise ValueError("a stroke's numbers lie outside of 0 to 1")
    return strokes


def _layer(found: dict[str, Any]) -> Layer:
    """Return a layer as JSON has it; one of many errors where it is none."""
    side, tiles = int(found["side"]), found["tiles"]
    places = torch.tensor([tile["corner"] for tile in tiles], dtype=torch.int64).view(-1, 2)
    strokes = _numbers([tile["strokes"] for tile in tiles], single=False)
    if side < 1:
        raise ValueError(f"a layer has tiles of side {side}")
    return Layer(side, places, strokes)
