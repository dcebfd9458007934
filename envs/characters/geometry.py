"""Moving pictures: affine maps, perspective, and a glyph between its neighbours (arXiv:1806.08990, synth.py).

What moves a picture moves its glyph as well: noise on top of it does not (envs/characters/noise.py).

Shapes: B pictures, W side; maps (B, 3, 3) take places of the result, in [-1, 1], to those of the source.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Draw = Callable[[int], Tensor]  # k -> (B, k) float32 in [0, 1), new ones at every call
BLANK = 0.75  # width of a blank neighbour: 48 pixels of 64


def resampled(ink: Tensor, maps: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Return pictures (B, C, H, W) seen through maps (B, 3, 3), bilinearly; beyond the edge there is 0, no ink."""
    height, width = size or (ink.shape[2], ink.shape[3])
    rows = (torch.arange(height, device=ink.device) + 0.5) * (2.0 / height) - 1.0
    columns = (torch.arange(width, device=ink.device) + 0.5) * (2.0 / width) - 1.0
    down, right = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([right, down, torch.ones_like(down)], dim=-1).view(1, -1, 3)
    there = places.to(maps) @ maps.transpose(1, 2)
    grid = there[..., :2] / there[..., 2:].clamp_min(0.1)
    return functional.grid_sample(ink, grid.view(len(ink), height, width, 2), align_corners=False)


def affine_maps(scale: Tensor, turn: Tensor, shear: Tensor, shift: Tensor) -> Tensor:
    """Return maps (B, 3, 3) that show pictures scaled (B, 2), then sheared (B,), turned (B,) and shifted (B, 2).

    Args:
        scale: of columns and rows; 0.5 shows the picture half as large.
        turn: radians.
        shear: radians.
        shift: in [-1, 1], of columns and rows; 1 is half of the picture's side.
    """
    cos, sin, lean = turn.cos(), turn.sin(), shear.tan()
    turned = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    one, none = torch.ones_like(lean), torch.zeros_like(lean)
    sheared = torch.stack([torch.stack([one, lean], 1), torch.stack([none, one], 1)], 1)
    inverse = torch.linalg.inv(turned @ sheared @ torch.diag_embed(scale))
    maps = torch.eye(3, dtype=scale.dtype, device=scale.device).repeat(len(scale), 1, 1)
    maps[:, :2, :2] = inverse
    maps[:, :2, 2] = -(inverse @ shift.unsqueeze(2)).squeeze(2)
    return maps


def random_affine(draw: Draw, count: int, *, degrees: float = 15.0, smallest: float = 0.7) -> Tensor:
    """Return random maps (count, 3, 3): the paper's turns and shears of 15 degrees either way, and each axis scaled.

    Scales are from `smallest` to 1.1, where the official code's are from 0.6 to 1; the shift is ours.
    """
    share = draw(6)
    angle = (share[:, :2] * 2 - 1) * math.radians(degrees)
    scale = smallest + (1.1 - smallest) * share[:, 2:4]
    shift = (share[:, 4:] * 2 - 1) * 0.2 * (1.1 - scale).clamp_min(0.1)
    return affine_maps(scale, angle[:, 0], angle[:, 1], shift)


def random_perspective(draw: Draw, count: int, *, most: float = 0.1) -> Tensor:
    """Return random maps (count, 3, 3) that see the picture aslant: its sides differ by up to `most`, uniformly.

    The official code draws a strength of 0.01 to 0.1 first, and with it where the corners go.
    """
    share = draw(2)
    maps = torch.eye(3).repeat(count, 1, 1).to(share)
    maps[:, 2, :2] = (share * 2 - 1) * most
    return maps


def random_padding(draw: Draw, count: int, *, most: float = 0.4) -> Tensor:
    """Return random maps (count, 3, 3) that add blank edges, each up to a share of the picture's side."""
    left, right, above, below = (most * draw(4)).unbind(1)
    maps = torch.eye(3).repeat(count, 1, 1).to(left)
    maps[:, 0, 0], maps[:, 1, 1] = 1.0 + left + right, 1.0 + above + below
    maps[:, 0, 2], maps[:, 1, 2] = right - left, below - above
    return maps


def bent(ink: Tensor, draw: Draw, *, least: float = 0.01, most: float = 0.05) -> Tensor:
    """Move the points of a 4 x 4 grid by shares of the side, and pictures (B, C, W, W) with them.

    The standard deviation is drawn between the two. Between points places are interpolated bilinearly; the official
    code's piecewise affine maps cut each square into two triangles.
    """
    count, size = len(ink), ink.shape[-1]
    share = draw(1).view(-1, 1, 1, 1)
    push = normal(draw, 32).view(count, 2, 4, 4) * (2.0 * (least + (most - least) * share))
    push = functional.interpolate(push.to(ink), (size, size), mode="bilinear", align_corners=True)
    line = (torch.arange(size, device=ink.device) + 0.5) * (2.0 / size) - 1.0
    down, right = torch.meshgrid(line, line, indexing="ij")
    grid = torch.stack([right, down], dim=-1) + push.permute(0, 2, 3, 1)
    return functional.grid_sample(ink, grid, align_corners=False)


def normal(draw: Draw, count: int) -> Tensor:
    """Return standard normal numbers (B, count) (Box and Muller 1958)."""
    half = (count + 1) // 2
    share = draw(2 * half)
    radius = (-2.0 * torch.log(1.0 - share[:, :half])).sqrt()
    angle = share[:, half:] * (2.0 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :count]


def moved(ink: Tensor, draw: Draw, chance: float) -> Tensor:
    """Return pictures (B, 1, W, W) moved in the official code's two steps, each with a chance.

    First an affine map or blank edges, then a perspective or a bent one, of each the one as often as the other. How far
    they go is not in all of them the official code's: see each.
    """
    still = torch.eye(3, device=ink.device).expand(len(ink), -1, -1)
    share = draw(4)
    maps = torch.where(
        (share[:, 0] < 0.5).view(-1, 1, 1), random_affine(draw, len(ink)), random_padding(draw, len(ink))
    ).to(ink)
    ink = resampled(ink, torch.where((share[:, 1] < chance).view(-1, 1, 1), maps, still))
    seen_aslant = resampled(ink, random_perspective(draw, len(ink)).to(ink))
    changed = torch.where((share[:, 2] < 0.5).view(-1, 1, 1, 1), seen_aslant, bent(ink, draw))
    return torch.where((share[:, 3] < chance).view(-1, 1, 1, 1), changed, ink)


def between_neighbours(middle: Tensor, left: Tensor, right: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Put a glyph between two others, and cut out a piece of random width around it (synth.py).

    Each neighbour is left out with probability 0.2, which leaves a blank of BLANK. The piece is as high as the glyph
    and from W to all three glyphs wide; it is squeezed to a square, and the glyph with it.

    Args:
        middle: (B, 1, W, W) ink, 1 where there is some.
        left: likewise.
        right: likewise.
        draw: random numbers.

    Returns:
        What is seen, and of it the middle glyph alone, both (B, 1, W, W).
    """
    size = middle.shape[-1]
    share = draw(3)
    there = (share[:, :2] >= 0.2).to(middle)
    row = torch.cat([left * there[:, 0].view(-1, 1, 1, 1), middle, right * there[:, 1].view(-1, 1, 1, 1)], dim=3)
    alone = functional.pad(middle, (size, size))
    total = 1.0 + (there + (1 - there) * BLANK).sum(1)
    width = 1.0 + share[:, 2] * (total - 1.0)  # in glyphs, of three at most
    maps = torch.eye(3).repeat(len(middle), 1, 1).to(middle)
    maps[:, 0, 0] = width / 3.0
    seen = [resampled(picture, maps, (size, size)) for picture in (row, alone)]
    return seen[0], seen[1]
