"""Glyphs: strokes of ink on white paper, of which the darkest counts (arXiv:1806.08990; the official bezier.py).

A glyph is 1 where the paper is blank and 0 where there is ink, the pixelwise minimum over its strokes, so their order
does not matter. The minimum gives each pixel's gradient to one stroke alone; a soft one gives others a share.

Shapes: B glyphs, k strokes of each, W side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from renderers.strokes import GLYPH_SIZE, SHAPE_SIZE


def as_shapes(numbers: Tensor) -> Tensor:
    """Return shapes (..., k, 10), as renderers read them, of strokes' numbers (..., 9 k) in [0, 1]."""
    return torch.nn.functional.pad(numbers.unflatten(-1, (-1, GLYPH_SIZE)), (0, SHAPE_SIZE - GLYPH_SIZE))


def ink(paper: Tensor, cover: Tensor, *, temperature: float = 0.0) -> Tensor:
    """Write strokes on paper.

    Args:
        paper: (B, 1, W, W), 1 where it is blank.
        cover: (B, k, W, W), how much of each pixel every stroke inks.
        temperature: of the soft minimum, -T log mean exp(-x / T), which lies between minimum and mean; 0 for the
            minimum itself.

    Returns:
        The paper (B, 1, W, W) afterwards.
    """
    if temperature == 0.0:
        return torch.minimum(paper, 1.0 - cover.amax(dim=1, keepdim=True))
    layers = torch.cat([paper, 1.0 - cover], dim=1)
    total = torch.logsumexp(layers * (-1.0 / temperature), dim=1, keepdim=True)
    return (math.log(layers.shape[1]) - total) * temperature


def write(paper: Tensor, numbers: Tensor, renderer: Callable[[Tensor], Tensor], *, temperature: float = 0.0) -> Tensor:
    """Write strokes, by their numbers (B, 9 k) in [0, 1], on paper (B, 1, W, W); differentiable where the renderer is.

    Args:
        paper: see ink.
        numbers: see renderers/strokes.py, brush glyph.
        renderer: maps shapes (..., 10) to what they cover (..., W, W).
        temperature: see ink.
    """
    return ink(paper, renderer(as_shapes(numbers)), temperature=temperature)


def blank(count: int, size: int, like: Tensor) -> Tensor:
    """Return blank paper (count, 1, W, W), of a tensor's kind and device."""
    return torch.ones(count, 1, size, size, dtype=like.dtype, device=like.device)
