"""Paint a picture with ever more strokes: ``python scripts/painter/make_gallery.py photo.jpg output=gallery.jpg``.

The photo and its paintings stand side by side. Pictures are painted as paint_image.py paints by default. The gallery of
docs/painting.md and README is

    python scripts/painter/make_gallery.py image=ASTRONAUT output=docs/pictures/astronaut.jpg refine_steps=150

where ASTRONAUT is astronaut.png of scikit-image's data. The last line printed is JSON: path, and psnr by strokes.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from renderers.photo import read_photo
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import require
from rlsuite.metrics.pictures import decibels
from rlsuite.records.files import require_writable
from rlsuite.records.json_text import to_json
from scripts.paint_image import PaintConfig, paint
from scripts.painter.writing import as_bytes


@dataclass(frozen=True, kw_only=True)
class GalleryConfig:
    """What is shown.

    Attributes:
        image: the picture, also as the first argument without image=.
        output: the file; its suffix says of which kind.
        strokes: of each painting.
        refine_steps: as paint_image.py has them; 0 for its own.
        long_side: pixels of the picture's longer side while it is painted.
        panel: pixels of it in the gallery.
    """

    image: str = ""
    output: str = ""
    strokes: tuple[int, ...] = (100, 500, 5000)
    refine_steps: int = 0
    long_side: int = 512
    panel: int = 320

    def __post_init__(self) -> None:
        require(bool(self.image), "no picture is named; write: make_gallery.py photo.jpg output=gallery.jpg")
        require(bool(self.output), "output= is missing; name a file, such as output=gallery.jpg")
        require(bool(self.strokes), "strokes=[] shows no painting; use such as strokes=[500,2000]")
        require(16 <= self.panel <= 4096, f"panel={self.panel}: use 16 to 4096")


@command(GalleryConfig)
def main(arguments: list[str]) -> int:
    """Paint, put side by side, and write."""
    named = arguments[:1] if arguments and Path(arguments[0]).is_file() else []
    options = arguments[len(named) :]
    config: GalleryConfig = script_config(GalleryConfig, [*options, *(["image='named'"] if named else [])])
    path = Path(named[0] if named else config.image)
    picture, output = read_photo(path, config.long_side), Path(config.output)
    require(output.suffix.lower() in (".jpg", ".png"), f"output={output}: use a name that ends with .jpg or .png")
    require_writable(output)
    torch.set_flush_denormal(True)
    panels, psnr = [Image.fromarray(as_bytes(picture))], {}
    for strokes in config.strokes:
        how = PaintConfig(
            image=str(path), strokes=strokes, refine_steps=config.refine_steps, long_side=config.long_side
        )
        drawn = as_bytes(paint(picture, how, time.perf_counter()).draw())
        panels.append(Image.fromarray(drawn))
        error = np.square(drawn / 255.0 - picture.permute(1, 2, 0).numpy()).mean()
        psnr[strokes] = round(decibels(float(error)), 2)
    side_by_side(panels, config.panel).save(output, quality=88)
    print(to_json({"path": str(output), "psnr": psnr}))
    return 0


def side_by_side(panels: list[Image.Image], longer: int) -> Image.Image:
    """Return pictures of one size, reduced to a longer side, in a row."""
    factor = longer / max(panels[0].size)
    width, height = (max(1, round(side * factor)) for side in panels[0].size)
    row = Image.new("RGB", (width * len(panels), height))
    for place, panel in enumerate(panels):
        row.paste(panel.resize((width, height), Image.Resampling.LANCZOS), (place * width, 0))
    return row


if __name__ == "__main__":
    sys.exit(main())
