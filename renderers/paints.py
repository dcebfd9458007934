"""What a painting is made with, as people write it: colours, palettes, masks of what matters, sizes of paper."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageColor
from torch import Tensor

from renderers.sparse import Colour
from rlsuite.data.pictures import load_picture
from rlsuite.errors import UserError, require
from rlsuite.records.files import read_text

LEAST = 0.02  # what errors count where a mask is black, of what they count where it is white
MOST_COLOURS = 256
_PAPERS = {"A0": 1189, "A1": 841, "A2": 594, "A3": 420, "A4": 297, "A5": 210, "A6": 148, "letter": 279}  # long side, mm


def read_colour(text: str) -> Colour:
    """Return what a colour's name or #rrggbb means.

    Raises:
        UserError: if it is neither.
    """
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise UserError(f"canvas={text}: use a colour's name, such as ivory, or #rrggbb") from None
    return red / 255, green / 255, blue / 255


def read_palette(text: str, picture: Tensor) -> Tensor:
    """Return the colours (k, 3) of a palette: the picture's own k main colours, or those that a file lists.

    Args:
        text: a whole number, or a text file with one colour a line, a name or #rrggbb.
        picture: (3, H, W) in [0, 1].

    Raises:
        UserError: if there are none, or too many, or the file holds something else.
    """
    if re.fullmatch(r"\d+", text):
        number = int(text)
        require(2 <= number <= MOST_COLOURS, f"palette={number}: use 2 to {MOST_COLOURS} colours, or a file of them")
        return main_colours(picture, number)
    try:
        lines = [line.strip() for line in read_text(Path(text)).splitlines()]
        colours = [[part / 255 for part in ImageColor.getrgb(line)[:3]] for line in lines if line]
    except OSError as error:
        raise UserError(
            f"palette={text}: it cannot be read ({error.strerror or error}); use a number or a file"
        ) from None
    except ValueError:
        raise UserError(f"palette={text}: write one colour a line, a name or #rrggbb") from None
    require(
        1 <= len(colours) <= MOST_COLOURS, f"palette={text}: it lists {len(colours)} colours; use 1 to {MOST_COLOURS}"
    )
    return torch.tensor(colours, dtype=torch.float32)


def main_colours(picture: Tensor, number: int) -> Tensor:
    """Return the main colours (at most `number`, 3) of a picture (3, H, W): median cut, then k-means, by Pillow."""
    pixels = (picture.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    reduced = Image.fromarray(pixels).quantize(number, method=Image.Quantize.MEDIANCUT, kmeans=3)
    used = np.unique(np.asarray(reduced))
    palette = np.array(reduced.getpalette(), dtype=np.float32).reshape(-1, 3)
    return torch.from_numpy(palette[used] / 255)


def read_mask(path: str, height: int, width: int) -> Tensor:
    """Return what errors count (1, H, W): 1 where a picture is white, LEAST where it is black.

    Raises:
        UserError: if it is no picture, or black everywhere.
    """
    found = load_picture(path, max(height, width)).convert("L").resize((width, height), Image.Resampling.BILINEAR)
    grey = torch.from_numpy(np.asarray(found, np.float32) / 255.0)
    require(bool(grey.max() > 0.1), f"mask={path}: it is black everywhere; paint white where detail matters")
    return (LEAST + (1.0 - LEAST) * grey).unsqueeze(0)


def print_pixels(text: str) -> int:
    """Return the pixels of the longer side of a print, such as A3@300: the paper's longer side at dots an inch.

    Raises:
        UserError: for another paper or another form.
    """
    found = re.fullmatch(r"(\w+)@(\d+)", text)
    papers = {name.lower(): size for name, size in _PAPERS.items()}
    require(
        found is not None and found[1].lower() in papers and 30 <= int(found[2]) <= 1200,
        f"print={text}: write a paper and dots an inch, such as A3@300; papers: {', '.join(_PAPERS)}",
    )
    assert found is not None
    return round(papers[found[1].lower()] / 25.4 * int(found[2]))
