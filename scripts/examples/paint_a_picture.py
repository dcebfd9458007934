"""Paint a picture from Python: ``python paint_a_picture.py PICTURE STROKES.svg [NUMBER OF STROKES] [SECONDS]``."""

import sys
from pathlib import Path

import torch

from agents.painter.whole import WholeConfig, paint_whole
from agents.painter.windows import random_shapes
from renderers.photo import read_photo
from renderers.svg import save_svg

if len(sys.argv) < 3:
    sys.exit(__doc__)
strokes, seconds = (int(word) for word in (*sys.argv[3:5], "300", "20")[:2])
picture = read_photo(sys.argv[1], long_side=256)
config = WholeConfig(strokes=strokes, seconds=seconds)
painting = paint_whole(picture, random_shapes(torch.Generator().manual_seed(0)), config)
save_svg(painting, Path(sys.argv[2]))
error = (painting.draw() - picture).square().mean()
print(f"{len(painting)} strokes, {-10 * error.log10():.1f} dB")
