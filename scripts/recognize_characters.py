"""Read characters by redrawing them: ``python scripts/recognize_characters.py picture.png other.png``.

Each picture shows one character, dark on light or light on dark. It is redrawn in a few strokes, and what was redrawn
is read (docs/characters.md). Writes a folder for each picture (output=, default read/<name>): reading.json,
strokes.json and strokes.svg, and picture.png, what was seen beside what was redrawn. Weights come with the suite:
digits of 32 pixels; others go in as weights=FILE (scripts/train_extractor.py). The last line printed is JSON: a list of
picture, character, confidence, and what each way of reading says.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import rlsuite  # noqa: F401  (before torch: it sets what torch's threads read when they are loaded)
from agents.stroke_recognizer.recognizer import WAYS
from agents.stroke_recognizer.single import single_character
from agents.stroke_recognizer.weights import SHIPPED, Readers, load_readers
from renderers.glyph import as_shapes
from renderers.stroke_files import save_strokes
from renderers.stroke_list import Layer, StrokeList
from renderers.strokes import GLYPH
from renderers.svg import save_svg
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.data.pictures import read_picture
from rlsuite.errors import UserError, require, require_choice, require_threads
from rlsuite.records.files import require_writable, write_atomically
from rlsuite.records.json_text import to_json

ENLARGED = 8  # of picture.png
FILES = ("reading.json", "strokes.json", "strokes.svg", "picture.png")


@dataclass(frozen=True, kw_only=True)
class ReadConfig:
    """How pictures are read.

    Attributes:
        output: folder in which each picture has a folder of its own.
        way: whose word counts: params (the stroke numbers), redraw (the redrawn glyph), both (picture and glyph).
        weights: a reader's file; default the suite's own.
        num_threads: of torch; 0 takes all cores.
    """

    output: str = "read"
    way: str = "params"  # by which the suite's own weights read best (agents/stroke_recognizer/shipped/README.md)
    weights: str = ""
    num_threads: int = 0

    def __post_init__(self) -> None:
        require_choice("way", self.way, WAYS)
        require_threads(self.num_threads)


@command(ReadConfig)
def main(arguments: list[str]) -> int:
    """Read pictures."""
    keys = tuple(f"{name}=" for name in ReadConfig.__dataclass_fields__)
    options = [argument for argument in arguments if argument.startswith(keys)]
    named = [Path(argument) for argument in arguments if argument not in options]
    require(bool(named), "no picture is named; write: python scripts/recognize_characters.py picture.png")
    config: ReadConfig = script_config(ReadConfig, options)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    readers = load_readers(config.weights or SHIPPED)
    size = int(readers.about["size"])
    # All pictures are looked at before anything is written.
    seen = torch.stack([single_character(read_picture(path), str(path), size) for path in named])
    folders = [Path(config.output) / name for name in names_of(named)]
    for folder in folders:
        for name in FILES:
            require_writable(folder / name)
    found, numbers, glyph = read(readers, seen, config.way)
    for index, (path, folder) in enumerate(zip(named, folders, strict=True)):
        found[index] = {"picture": str(path), **found[index]}
        try:
            write(folder, seen[index], numbers[index], glyph[index], found[index])
        except OSError as error:
            raise UserError(f"output={folder}: cannot be written ({error.strerror}); choose another folder") from None
        print(f"{path}: {found[index]['character']} ({found[index]['confidence']:.2f}); {folder}: {', '.join(FILES)}")
    print(to_json(found))
    return 0


def names_of(pictures: list[Path]) -> list[str]:
    """Return a folder's name for each picture, with a number where two would have the same."""
    count: Counter[str] = Counter()
    found = []
    for picture in pictures:
        count[picture.stem] += 1
        found.append(picture.stem if count[picture.stem] == 1 else f"{picture.stem}-{count[picture.stem]}")
    return found


@torch.no_grad()
def read(readers: Readers, seen: Tensor, way: str) -> tuple[list[dict[str, Any]], Tensor, Tensor]:
    """Return what was read in pictures (B, 3, W, W), their strokes (B, 9 k) and what these draw (B, 1, W, W)."""
    reading = {name: readers.reader(name).read(seen) for name in WAYS}
    chosen = reading[way]
    shares = {name: one.scores.softmax(dim=1) for name, one in reading.items()}
    found = []
    for index in range(len(seen)):
        best = shares[way][index].argmax()
        found.append(
            {
                "character": readers.names[int(best)],
                "confidence": round(float(shares[way][index, best]), 4),
                "by": {name: readers.names[int(share[index].argmax())] for name, share in shares.items()},
            }
        )
    return found, chosen.numbers, chosen.glyph


def write(folder: Path, seen: Tensor, numbers: Tensor, glyph: Tensor, found: dict[str, Any]) -> None:
    """Write a picture's folder."""
    size = seen.shape[-1]
    shapes = as_shapes(numbers)
    strokes = torch.cat([shapes, torch.zeros(len(shapes), 3)], dim=1).unsqueeze(0)
    layer = Layer(size, torch.zeros(1, 2, dtype=torch.int64), strokes)
    written = StrokeList(size, size, GLYPH, [layer], {"character": found["character"]})
    write_atomically(folder / "reading.json", to_json(found) + "\n")
    save_strokes(written, folder / "strokes.json")
    save_svg(written, folder / "strokes.svg")
    pair = torch.cat([seen, glyph.expand(3, -1, -1)], dim=2).permute(1, 2, 0)
    image = Image.fromarray((pair.numpy() * 255).round().astype(np.uint8))
    image.resize((2 * ENLARGED * size, ENLARGED * size), Image.Resampling.NEAREST).save(folder / "picture.png")


if __name__ == "__main__":
    sys.exit(main())
