"""Superpixels: pictures in flat patches of a colour (arXiv:1806.08990, synth.py).

The patches are those of SLIC (Achanta et al. 2012): k-means over colour and place, its seeds on a grid, each pixel
looking at the nine nearest alone. Two rounds instead of ten, and patches are not made connected.

Shapes: B pictures, C channels, W side, P = W W pixels, S seeds, GRID by GRID.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

GRID = 12  # 144 patches: the official code has 100 to 200
COMPACTNESS = 0.1  # colour differences that weigh as much as one step of the grid
ROUNDS = 2


def patches(picture: Tensor) -> Tensor:
    """Return which patch each pixel of pictures (B, C, W, W) belongs to, (B, P) int64 in [0, S)."""
    size = picture.shape[-1]
    nearby, places = _nearby(size)
    nearby, places = nearby.to(picture.device), places.to(picture)
    seen = torch.cat([picture.flatten(2), places.expand(len(picture), -1, -1)], dim=1).transpose(1, 2)  # (B, P, C + 2)
    belongs = nearby[:, 4].expand(len(picture), -1)  # the seed in whose cell it lies
    for _ in range(ROUNDS):
        seeds = means(seen, belongs)
        away = (seeds[:, nearby] - seen.unsqueeze(2)).square().sum(-1)  # (B, P, 9)
        belongs = nearby.expand(len(picture), -1, -1).gather(2, away.argmin(2, keepdim=True)).squeeze(2)
    return belongs


def means(value: Tensor, belongs: Tensor) -> Tensor:
    """Return the mean values (B, S, F) of what belongs to each patch, of values (B, P, F); 9 where nothing does."""
    index = belongs.unsqueeze(2).expand_as(value)
    total = value.new_zeros(len(value), GRID**2, value.shape[2]).scatter_add_(1, index, value)
    count = value.new_zeros(len(value), GRID**2).scatter_add_(1, belongs, torch.ones_like(belongs).to(value))
    empty = (count == 0).unsqueeze(2)
    return torch.where(empty, 9.0, total / count.clamp_min(1).unsqueeze(2))  # too far off for anybody to join


def flattened(picture: Tensor, chosen: Tensor) -> Tensor:
    """Return pictures (B, C, W, W) in which chosen patches (B, S) bool have their mean colour."""
    belongs = patches(picture)
    flat = picture.flatten(2).transpose(1, 2)
    colour = means(flat, belongs).gather(1, belongs.unsqueeze(2).expand_as(flat))
    changed = torch.where(chosen.gather(1, belongs).unsqueeze(2), colour, flat)
    return changed.transpose(1, 2).reshape(picture.shape)


@functools.lru_cache(maxsize=4)
def _nearby(size: int) -> tuple[Tensor, Tensor]:
    """Return the nine seeds near each pixel (P, 9), its own in the middle, and places (2, P) as k-means weighs them."""
    cell = (torch.arange(size) * GRID) // size
    beside = (cell.unsqueeze(1) + torch.arange(-1, 2)).clamp(0, GRID - 1)  # (W, 3)
    nearby = beside[:, None, :, None] * GRID + beside[None, :, None, :]
    line = (torch.arange(size) + 0.5) * (GRID / size) * COMPACTNESS
    places = torch.stack(torch.meshgrid(line, line, indexing="ij")).flatten(1)
    return nearby.reshape(size * size, 9), places
