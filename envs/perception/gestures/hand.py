"""A planar hand, drawn by tensors: a forearm, a palm, a thumb and three fingers as capsules, with exact key points.

Its joints are four curls in [0, 1] (0 straight, 1 folded onto the palm, seen from the front, so that a curling finger
shortens) and a wrist in [-1, 1]. Coordinates are in [-1, 1], x to the right, y down, as `spatial.py` has them.

Shapes: F frames, J = 5 joints, K = 7 key points, P = 10 capsules, S side of a picture in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

KEYPOINTS = ("elbow", "wrist", "knuckles", "thumb", "index", "middle", "ring")
JOINTS = 5
_WRIST_TURN = 0.7  # radians at a wrist of 1
_FOREARM, _PALM = 0.62, 0.36  # lengths at scale 1
# of thumb, index, middle and ring: base along and across the palm, where it points, and its two segments' length
_BASES = ((0.12, -0.17), (0.36, -0.17), (0.38, 0.0), (0.36, 0.17))
_SPREAD = (-0.9, -0.18, 0.0, 0.18)
_SEGMENT = (0.19, 0.24, 0.26, 0.24)
_FIRST_BEND, _SECOND_BEND = 1.6, 2.8  # radians at a curl of 1, out of the picture's plane
_RADII = (0.11, 0.19, 0.065, 0.06, 0.065, 0.06, 0.065, 0.06, 0.065, 0.06)
_SHADES = (0.75, 0.85, 1.0, 1.1, 1.0, 1.1, 1.0, 1.1, 1.0, 1.1)
_GROUND_CELLS = 5
_LOOK_PARTS = (2, 1, 1, 1, 3, 1, 2, 3 * _GROUND_CELLS**2)
LOOK_DRAWS = sum(_LOOK_PARTS)
_AT_ONCE = 256  # frames drawn together


@dataclass(frozen=True, kw_only=True)
class Look:
    """How frames look, a row each.

    Attributes:
        place: (F, 2) of the elbow.
        angle: (F,) radians by which the forearm leans from upright.
        scale: (F,) of all lengths.
        skin: (F, 3) colour in [0, 1].
        light: (F,) brightness of everything.
        slope: (F, 2) how the light changes from the middle to the border.
        ground: (F, 3, 5, 5) colours in [0, 1], smoothed to the ground's texture.
    """

    place: Tensor
    angle: Tensor
    scale: Tensor
    skin: Tensor
    light: Tensor
    slope: Tensor
    ground: Tensor

    def rows(self, index: Tensor | slice) -> Look:
        """Return some rows, or each as often as it is named."""
        return Look(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def looks(draws: Tensor) -> Look:
    """Return looks (F) of numbers in [0, 1), (F, LOOK_DRAWS): places, sizes, +-10 degrees of the camera, skins, lights.

    The same numbers give the same looks.
    """
    place, angle, scale, tone, tint, light, slope, ground = draws.float().split(_LOOK_PARTS, dim=1)
    colour = (0.55 + 0.4 * tone) * draws.new_tensor([1.0, 0.82, 0.68]).float()
    return Look(
        place=torch.stack([0.6 * place[:, 0] - 0.3, 0.8 + 0.2 * place[:, 1]], 1),
        angle=0.35 * angle[:, 0] - 0.175,
        scale=0.9 + 0.25 * scale[:, 0],
        skin=colour + 0.1 * tint - 0.05,
        light=0.7 + 0.4 * light[:, 0],
        slope=0.4 * slope - 0.2,
        ground=0.4 * ground.unflatten(1, (3, _GROUND_CELLS, _GROUND_CELLS)),
    )


def keypoints_and_capsules(joints: Tensor, look: Look) -> tuple[Tensor, Tensor, Tensor]:
    """Return key points (F, K, 2), and the capsules' ends (F, P, 2) each, of joints (F, J)."""
    curl, wrist_turn = joints[:, :4].unsqueeze(2), joints[:, 4] * _WRIST_TURN
    scale = look.scale.unsqueeze(1)
    elbow = look.place
    wrist = elbow + _FOREARM * scale * _upward(look.angle)
    heading = look.angle + wrist_turn
    along, across = _upward(heading), _upward(heading + torch.pi / 2)
    bases = joints.new_tensor(_BASES)
    base = wrist.unsqueeze(1) + scale.unsqueeze(2) * (
        bases[:, :1] * along.unsqueeze(1) + bases[:, 1:] * across.unsqueeze(1)
    )
    pointing = _upward(heading.unsqueeze(1) + joints.new_tensor(_SPREAD))
    length = joints.new_tensor(_SEGMENT).unsqueeze(1) * scale.unsqueeze(2)
    bend = base + length * (_FIRST_BEND * curl).cos() * pointing
    tip = bend + length * (_SECOND_BEND * curl).cos() * pointing
    knuckles = base[:, 2]
    starts = torch.stack([elbow, wrist + 0.1 * scale * along], 1)
    ends = torch.stack([wrist, wrist + (_PALM - 0.12) * scale * along], 1)
    starts = torch.cat([starts, torch.stack([base, bend], 2).flatten(1, 2)], 1)
    ends = torch.cat([ends, torch.stack([bend, tip], 2).flatten(1, 2)], 1)
    return torch.cat([torch.stack([elbow, wrist, knuckles], 1), tip], 1), starts, ends


def draw(joints: Tensor, look: Look, size: int) -> tuple[Tensor, Tensor]:
    """Return pictures (F, 3, S, S) uint8 and their key points (F, K, 2)."""
    keypoints, starts, ends = keypoints_and_capsules(joints, look)
    parts = torch.arange(len(joints)).split(_AT_ONCE)
    return torch.cat([_paint(starts[at], ends[at], look.rows(at), size) for at in parts]), keypoints


def _paint(starts: Tensor, ends: Tensor, look: Look, size: int) -> Tensor:
    """Return pictures (F, 3, S, S) uint8 of capsules one over the other, their borders a pixel wide."""
    axis = (2.0 * torch.arange(size) + 1.0) / size - 1.0
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), 2).view(1, -1, 2)
    picture = functional.interpolate(look.ground, size=(size, size), mode="bicubic", align_corners=True).flatten(2)
    for place, (radius, shade) in enumerate(zip(_RADII, _SHADES, strict=True)):
        start, run = starts[:, place, None], (ends - starts)[:, place, None]
        share = ((pixels - start) * run).sum(2) / run.square().sum(2).clamp_min(1e-8)
        distance = (pixels - start - share.clamp(0.0, 1.0).unsqueeze(2) * run).square().sum(2).sqrt()
        inside = (radius * look.scale.unsqueeze(1) - distance) * (size / 2.0)
        covered = (inside + 0.5).clamp(0.0, 1.0).unsqueeze(1)
        # Darker toward its border, as what is round is.
        round_shade = shade * (0.75 + 0.25 * (inside / 2.0).clamp(0.0, 1.0)).unsqueeze(1)
        picture = picture + covered * (look.skin.unsqueeze(2) * round_shade - picture)
    light = look.light.unsqueeze(1) + (pixels * look.slope.unsqueeze(1)).sum(2)
    return (255.0 * (picture * light.unsqueeze(1)).clamp(0.0, 1.0)).round().to(torch.uint8).unflatten(2, (size, size))


def _upward(angle: Tensor) -> Tensor:
    """Return unit vectors (..., 2) that lean to the right of upright by an angle (...)."""
    return torch.stack([angle.sin(), -angle.cos()], -1)
