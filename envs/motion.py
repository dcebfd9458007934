"""Exact optical flow: where what a pixel shows was in another picture of the same scene, from geometry.

A pixel's depth and geom say which point of which rigid body it shows; the poses at the other time say where that
point was, and the camera's pose then where it would have been seen. Whether it was seen there, something else may have
decided: `visible` compares depths.

Shapes: n pictures, H and W sides, G geoms; a camera looks along its -z, x is right and y up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Poses(NamedTuple):
    """Where everything is: places (n, ..., 3) and rotation matrices (n, ..., 3, 3) into the world."""

    geom_place: Tensor
    geom_turn: Tensor
    camera_place: Tensor
    camera_turn: Tensor


class Motion(NamedTuple):
    """Where pixels were.

    Attributes:
        flow: (n, 2, H, W), pixels right and down, from here to there.
        depth: (n, 1, H, W), what the depth there would be, metres; 0 of the background, negative behind the camera.
    """

    flow: Tensor
    depth: Tensor


def motion(rays: Tensor, depth: Tensor, ids: Tensor, now: Poses, then: Poses) -> Motion:
    """Return where what is seen now was, or will be, then.

    Args:
        rays: (H, W, 3) directions through the pixels, in the camera's axes; their length does not matter.
        depth: (n, 1, H, W) metres along the forward axis.
        ids: (n, 1, H, W) geoms; -1 for the background, which is endlessly far away.
        now: poses of the picture.
        then: poses at the other time.
    """
    rays = rays / -rays[..., 2:]  # one metre forward
    height, width = rays.shape[:2]
    here = rays.flatten(0, 1).unsqueeze(0) * depth.flatten(1).unsqueeze(-1)  # (n, HW, 3)
    somewhere = (ids >= 0).flatten(1).unsqueeze(-1)
    here = torch.where(somewhere, here, rays.flatten(0, 1))
    turned = here @ now.camera_turn.mT  # (R v) of rows
    world = turned + now.camera_place.unsqueeze(1)
    geom = ids.flatten(1).clamp_min(0)
    row = torch.arange(len(ids), device=ids.device).unsqueeze(1)
    body = (now.geom_turn[row, geom].mT @ (world - now.geom_place[row, geom]).unsqueeze(-1)).squeeze(-1)
    moved = (then.geom_turn[row, geom] @ body.unsqueeze(-1)).squeeze(-1) + then.geom_place[row, geom]
    away = torch.where(somewhere, moved - then.camera_place.unsqueeze(1), turned)
    there = away @ then.camera_turn
    ahead = -there[..., 2]
    slope = there[..., :2] / torch.where(ahead.abs() < 1e-9, 1e-9, ahead).unsqueeze(-1)
    first, last = rays[0, 0], rays[-1, -1]
    # Pixels lie evenly on the plane one metre ahead.
    column = (slope[..., 0] - first[0]) * ((width - 1) / (last[0] - first[0]).clamp_min(1e-9))
    line = (first[1] - slope[..., 1]) * ((height - 1) / (first[1] - last[1]).clamp_min(1e-9))
    grid = torch.stack([column, line], dim=1).unflatten(2, (height, width)) - pixel_grid(height, width, rays)
    ahead = torch.where(somewhere.squeeze(-1), ahead, 0.0)
    return Motion(grid, ahead.view_as(depth))


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Return the column and row of every pixel, (1, 2, H, W)."""
    down = torch.arange(height, device=like.device, dtype=like.dtype).view(-1, 1).expand(height, width)
    right = torch.arange(width, device=like.device, dtype=like.dtype).expand(height, width)
    return torch.stack([right, down]).unsqueeze(0)


def sample(pictures: Tensor, flow: Tensor) -> Tensor:
    """Return pictures (n, C, H, W) read, bilinearly, where a flow (n, 2, H, W) leads; beyond the border, the border."""
    height, width = pictures.shape[-2:]
    place = (pixel_grid(height, width, flow) + flow).movedim(1, -1)
    scale = place.new_tensor([2.0 / max(width - 1, 1), 2.0 / max(height - 1, 1)])
    return functional.grid_sample(pictures, place * scale - 1.0, padding_mode="border", align_corners=True)


def visible(moved: Motion, depth: Tensor, ids: Tensor, other_ids: Tensor, tolerance: float = 0.02) -> Tensor:
    """Return (n, 1, H, W) bool: whether what is seen here was seen there, by all pixels that `sample` reads there.

    Args:
        moved: from here to there.
        depth: (n, 1, H, W), there.
        ids: (n, 1, H, W), here.
        other_ids: there.
        tolerance: share by which depths may differ.
    """
    height, width = depth.shape[-2:]
    place = pixel_grid(height, width, moved.flow) + moved.flow
    limit = place.new_tensor([width - 1, height - 1]).view(1, 2, 1, 1)
    found = ((place >= 0) & (place <= limit)).all(1, keepdim=True) & ((ids < 0) | (moved.depth > 0))
    corner = place.floor()
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        at = (corner + place.new_tensor([right, down]).view(1, 2, 1, 1)).clamp_min(0).minimum(limit).long()
        index = (at[:, 1:] * width + at[:, :1]).flatten(1)
        there = depth.flatten(1).gather(1, index).view_as(depth)
        same = other_ids.flatten(1).gather(1, index).view_as(ids) == ids
        found &= same & ((ids < 0) | ((there - moved.depth).abs() <= tolerance * moved.depth.abs()))
    return found
