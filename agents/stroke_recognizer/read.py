"""Reading through strokes: picture -> strokes -> clean glyph -> class, as one module that gradients go through.

`Redraw` alone is a defence: put before any classifier of glyphs, as nn.Sequential(Redraw(...), classifier). It takes
pictures of any size in [0, 1] or bytes, so that whoever attacks it sees one box of inputs. Its gradients are true but
for two steps, which they pass as if nothing had been done there: the equalization of the histogram, and the exact
rasterizer's floors. An attack through it is adaptive; one made on the classifier alone is oblivious of it.

Shapes: B pictures, W side, k strokes, C classes.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from agents.stroke_recognizer.extractor import Extractor, prepared
from agents.stroke_recognizer.recognizer import Recognizer
from envs.characters.pixels import luma
from renderers.glyph import blank, write
from renderers.soft import draw_soft
from renderers.strokes import GLYPH
from rlsuite.data.arrays import Arrays
from rlsuite.data.source import Source
from rlsuite.nn.vision.doors import FromBytes


class Reading(NamedTuple):
    """What was read.

    Attributes:
        numbers: (B, 9 k), the strokes.
        glyph: (B, 1, W, W), what they draw, 0 where there is ink.
        scores: (B, C).
    """

    numbers: Tensor
    glyph: Tensor
    scores: Tensor


class Redraw(nn.Module):
    """Pictures to clean glyphs.

    Args:
        strokes: from pictures (B, 3, W, W) to strokes (B, 9 k): an Extractor, or an agent's policy
            (agents/stroke_recognizer/policy.py).
        size: W.
    """

    def __init__(self, strokes: nn.Module, size: int) -> None:
        super().__init__()
        self.door, self.strokes, self.size = FromBytes(), strokes, size

    def seen(self, pictures: Tensor) -> Tensor:
        """Return pictures (B, 1 or 3, H, W), uint8 or in [0, 1], as the strokes' network has them, (B, 3, W, W)."""
        return prepared(self.door(pictures), self.size)

    def draw(self, numbers: Tensor) -> Tensor:
        """Return what strokes (B, 9 k) draw, (B, 1, W, W)."""
        renderer = functools.partial(draw_soft, size=self.size, brush=GLYPH)
        return write(blank(len(numbers), self.size, numbers), numbers, renderer)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, 1 or 3, H, W), uint8 or in [0, 1], to clean glyphs (B, 1, W, W)."""
        return self.draw(self.strokes(self.seen(pictures)))


class Reader(nn.Module):
    """Pictures to classes, by way of strokes.

    Args:
        redraw: see Redraw.
        recognizer: see Recognizer.
    """

    def __init__(self, redraw: Redraw, recognizer: Recognizer) -> None:
        super().__init__()
        self.redraw, self.recognizer = redraw, recognizer

    def read(self, pictures: Tensor) -> Reading:
        """Return strokes, glyphs and scores of pictures (B, 1 or 3, H, W), uint8 or in [0, 1]."""
        seen = self.redraw.seen(pictures)
        numbers = self.redraw.strokes(seen)
        glyph = self.redraw.draw(numbers)
        return Reading(numbers, glyph, self.recognizer(luma(seen), numbers, glyph))

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, 1 or 3, H, W), uint8 or in [0, 1], to scores (B, C)."""
        return self.read(pictures).scores


@torch.no_grad()
def redrawn_examples(redraw: Redraw, source: Source, *, at_once: int = 256) -> Arrays:
    """Return noisy examples redrawn once, as a reader learns from them: "grey", "numbers", "glyph" and "label"."""
    redraw.eval()
    found: dict[str, list[Tensor]] = {"grey": [], "numbers": [], "glyph": [], "label": []}
    for index in torch.arange(len(source)).split(at_once):
        batch = source.examples(index)
        seen = redraw.seen(batch["input"])
        numbers = redraw.strokes(seen)
        for name, value in zip(found, (luma(seen), numbers, redraw.draw(numbers), batch["label"]), strict=True):
            found[name].append(value)
    return Arrays({name: torch.cat(parts) for name, parts in found.items()})


def extractor_redraw(extractor: Extractor) -> Redraw:
    """Return the defence of an extractor, in evaluation mode and with frozen weights."""
    return Redraw(extractor, extractor.config.size).eval().requires_grad_(False)
