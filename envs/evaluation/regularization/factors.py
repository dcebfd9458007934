"""Factors of what a camera sees that do not belong to a task: light, tint, texture, where the camera stands.

Each changes a picture as if it had been taken of the same state under another value z of the factor, so that stored
pictures need not be rendered again. That a factor does not belong to the task is the user's word: light that tells the
goal, or masses and friction, which change the best action, are no such factors.

Shapes: B pictures (B, C, H, W) of floats in [0, 1], C the channels of one picture or of several stacked; P numbers of a
value z.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from envs.evaluation.attacks.fields import FieldConfig, Fields, Light
from rlsuite.errors import UserError, near_matches

COLOURS = 3  # channels of one picture of a stack


class Factor(Protocol):
    """What can be changed without changing what is right to do.

    Attributes:
        name: of the factor.
    """

    name: str

    def draw(self, pictures: Tensor, width: float, generator: torch.Generator | None = None) -> Tensor:
        """Return values z (B, P), one for each picture, `width` wide around none; all of P numbers, whatever it is."""
        ...

    def apply(self, pictures: Tensor, z: Tensor) -> Tensor:
        """Return the pictures under values z, of the same shape, in [0, 1]."""
        ...


class Uneven:
    """Uneven light: a harmonic field of amplitude `width` is added (`attacks/fields.py`)."""

    name = "light"

    def draw(self, pictures: Tensor, width: float, generator: torch.Generator | None = None) -> Tensor:
        """Return widths, families and numbers of fields."""
        fields = _fields(tuple(pictures.shape[1:]))
        light = fields.draw(len(pictures), generator)  # type: ignore[arg-type]
        return torch.cat([torch.full((len(pictures), 1), width), light.family.float(), light.numbers], 1)

    def apply(self, pictures: Tensor, z: Tensor) -> Tensor:
        """Add the fields."""
        fields = _fields(tuple(pictures.shape[1:]))
        amplitude, family, numbers = z.split((1, fields.functions, z.shape[1] - 1 - fields.functions), 1)
        field = fields.values(Light(family.long(), numbers))
        return (pictures + amplitude.to(pictures)[:, :, None, None] * field.to(pictures)).clamp(0.0, 1.0)


@functools.lru_cache(maxsize=8)
def _fields(shape: tuple[int, int, int]) -> Fields:
    return Fields(FieldConfig(), shape)


class Tint:
    """Colour of the light: each colour times 1 plus something within `width`, alike in all pictures of a stack."""

    name = "tint"

    def draw(self, pictures: Tensor, width: float, generator: torch.Generator | None = None) -> Tensor:
        """Return what each colour is raised by, in shares."""
        colours = COLOURS if pictures.shape[1] % COLOURS == 0 else 1
        return width * _signed((len(pictures), colours), generator)

    def apply(self, pictures: Tensor, z: Tensor) -> Tensor:
        """Multiply the colours."""
        gains = (1.0 + z).to(pictures).repeat(1, pictures.shape[1] // z.shape[1])
        return (pictures * gains[:, :, None, None]).clamp(0.0, 1.0)


class Texture:
    """Stripes of any direction, one to four across the picture, their amplitude `width`, on all there is."""

    name = "texture"

    def draw(self, pictures: Tensor, width: float, generator: torch.Generator | None = None) -> Tensor:
        """Return amplitudes, waves across and down, phases."""
        share = torch.rand((len(pictures), 3), generator=generator)
        waves, angle, phase = 1.0 + 3.0 * share[:, 0], math.pi * share[:, 1], 2 * math.pi * share[:, 2]
        amplitude = torch.full_like(phase, width)
        return torch.stack([amplitude, waves * angle.cos(), waves * angle.sin(), phase], 1)

    def apply(self, pictures: Tensor, z: Tensor) -> Tensor:
        """Add the stripes."""
        height, width = pictures.shape[-2:]
        amplitude, across, down, phase = z.to(pictures)[:, :, None, None].unbind(1)
        right = torch.arange(width, device=pictures.device) / width
        below = torch.arange(height, device=pictures.device)[:, None] / height
        stripes = amplitude * torch.sin(2 * math.pi * (across * right + down * below) + phase)
        return (pictures + stripes[:, None]).clamp(0.0, 1.0)


class Camera:
    """A camera moved aside: pictures shift by whole pixels, up to `width` of the longer side, edges repeated."""

    name = "camera"

    def draw(self, pictures: Tensor, width: float, generator: torch.Generator | None = None) -> Tensor:
        """Return pixels down and right."""
        longest = width * max(pictures.shape[-2:])
        return (longest * _signed((len(pictures), 2), generator)).round()

    def apply(self, pictures: Tensor, z: Tensor) -> Tensor:
        """Shift the pictures."""
        down, right = z.to(pictures.device).long()[:, :, None].unbind(1)
        height, width = pictures.shape[-2:]
        rows = (torch.arange(height, device=pictures.device) - down).clamp(0, height - 1)
        columns = (torch.arange(width, device=pictures.device) - right).clamp(0, width - 1)
        moved = pictures.gather(2, rows[:, None, :, None].expand_as(pictures))
        return moved.gather(3, columns[:, None, None, :].expand_as(pictures))


FACTORS: dict[str, type[Uneven | Tint | Texture | Camera]] = {
    kind.name: kind for kind in (Uneven, Tint, Texture, Camera)
}


def factors_of(names: Sequence[str]) -> tuple[Factor, ...]:
    """Return factors by name.

    Raises:
        UserError: for an unknown one.
    """
    for name in names:
        if name not in FACTORS:
            close = near_matches(name, FACTORS, only_close=True)
            raise UserError(f"unknown factor '{name}'{close}; there are {', '.join(FACTORS)}")
    return tuple(FACTORS[name]() for name in names)


def as_shares(pictures: Tensor) -> Tensor:
    """Return pictures as floats in [0, 1]."""
    return pictures.float() / 255.0 if pictures.dtype == torch.uint8 else pictures


def _signed(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Return numbers uniform in [-1, 1)."""
    return 2.0 * torch.rand(shape, generator=generator) - 1.0
