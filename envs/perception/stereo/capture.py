"""Photographs of an object from many sides, each under many lights: cameras, lights, and the geometry between them.

A camera's axes are x to the right, y down and z forward (OpenCV's); a point X of the world is ``R X + t`` there. Pixel
coordinates are (column, row), whole numbers in the middle of pixels. Lights stand in the camera's axes: the rig turns
with it. Distances are those to the camera's center along the ray, not along its axis.

Shapes: M views, K lights, H and W sides, P points or pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Capture:
    """What was taken.

    Attributes:
        images: (M, K, H, W, 3) float32, linear.
        masks: (M, H, W) bool, where the object is.
        intrinsics: (3, 3).
        rotations: (M, 3, 3), from the world to the camera.
        translations: (M, 3).
        lights: (M, K, 3), positions, or unit vectors toward them.
        strengths: (M, K); of a near light its irradiance at distance 1.
        near: lights are positions.
        white: full scale; samples near it are not trusted.
    """

    images: Tensor
    masks: Tensor
    intrinsics: Tensor
    rotations: Tensor
    translations: Tensor
    lights: Tensor
    strengths: Tensor
    near: bool = True
    white: float = 1.0

    @property
    def views(self) -> int:
        """M."""
        return len(self.masks)

    def centers(self) -> Tensor:
        """Return where cameras are in the world (M, 3)."""
        return -(self.rotations.mT @ self.translations.unsqueeze(-1)).squeeze(-1)

    def axes(self) -> Tensor:
        """Return where cameras look to in the world, unit vectors (M, 3)."""
        return self.rotations[:, 2]

    def rays(self, pixels: Tensor) -> Tensor:
        """Return unit vectors (P, 3) in the camera's axes through pixels (P, 2)."""
        flat = functional.pad(pixels, (0, 1), value=1.0) @ torch.linalg.inv(self.intrinsics).T
        return functional.normalize(flat, dim=-1)

    def lift(self, view: int, pixels: Tensor, distances: Tensor) -> Tensor:
        """Return points of the world (P, 3) at distances (P,) along the rays through pixels (P, 2)."""
        seen = self.rays(pixels) * distances.unsqueeze(-1)
        return (seen - self.translations[view]) @ self.rotations[view]

    def seen(self, view: int, points: Tensor) -> Tensor:
        """Return points of the world (..., 3) in a camera's axes."""
        return points @ self.rotations[view].T + self.translations[view]

    def project(self, view: int, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return pixels (P, 2) of points (P, 3), and their distances (P,)."""
        here = self.seen(view, points)
        flat = here @ self.intrinsics.T
        return flat[..., :2] / flat[..., 2:].clamp_min(1e-9), here.norm(dim=-1)

    def toward(self, view: int, here: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit vectors to the lights (P, K, 3) from points (P, 3) in the camera's axes, and irradiances (P, K).

        The irradiance is that of a surface which faces the light.
        """
        if not self.near:
            shape = (len(here), *self.strengths[view].shape)
            return self.lights[view].expand(*shape, 3), self.strengths[view].expand(shape)
        away = self.lights[view] - here.unsqueeze(1)
        square = away.square().sum(dim=-1)
        return away / square.sqrt().unsqueeze(-1), self.strengths[view] / square

    def pixels(self, view: int) -> Tensor:
        """Return the pixels (P, 2) of a view's mask, row by row."""
        return self.masks[view].nonzero().flip(1).float()

    def inside(self, view: int, pixels: Tensor) -> Tensor:
        """Say of pixels (P, 2) whether the mask has the nearest one: (P,) bool."""
        found, within = nearest(pixels, self.masks.shape[1:])
        return within & self.masks[view].flatten()[found]

    def size(self) -> float:
        """Return the object's size: the largest extent of all masks, at the cameras' mean distance from it."""
        middle = self.middle()
        extents = [float((part.amax(dim=0) - part.amin(dim=0)).max()) for part in map(self.pixels, range(self.views))]
        distance = float((self.centers() - middle).norm(dim=1).mean())
        return max(extents) * distance / float(self.intrinsics[0, 0])

    def middle(self) -> Tensor:
        """Return the point (3,) nearest to all rays through the masks' middles."""
        total, wanted = torch.zeros(3, 3), torch.zeros(3)
        for view, center in enumerate(self.centers()):
            ray = self.rays(self.pixels(view).mean(dim=0, keepdim=True))[0] @ self.rotations[view]
            across = torch.eye(3) - torch.outer(ray, ray)
            total, wanted = total + across, wanted + across @ center
        return torch.linalg.solve(total, wanted)


def nearest(pixels: Tensor, shape: torch.Size | tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the flat index (P,) of the pixel nearest to each of (P, 2), and whether it lies in the picture (P,)."""
    height, width = shape
    column, row = pixels.round().unbind(dim=-1)
    within = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = (value.nan_to_num().clamp(0, top - 1) for value, top in ((column, width), (row, height)))
    return (row * width + column).long(), within


def sample(picture: Tensor, pixels: Tensor) -> Tensor:
    """Return a picture (H, W, C) between its pixels, (P, C) at (P, 2), bilinearly; beyond its border, the border's."""
    height, width = picture.shape[:2]
    scale = torch.tensor([2.0 / max(width - 1, 1), 2.0 / max(height - 1, 1)])
    grid = (pixels * scale - 1.0).view(1, 1, -1, 2)
    found = functional.grid_sample(
        picture.movedim(-1, 0).unsqueeze(0), grid, mode="bilinear", padding_mode="border", align_corners=True
    )
    return found[0, :, 0].T
