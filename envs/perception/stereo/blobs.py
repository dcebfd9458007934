"""Random blobs under random lights: what photometric stereo learns from where there is no data set.

A blob is the cap of an ellipsoid with Gaussian bumps and dents, seen from above by an orthographic camera; its normals
are the exact ones of that height field. Its material is Blinn and Phong's. Any example is a function of a seed and its
number, and a batch is made without a loop.

Shapes: B examples, K lights, S side of a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.stereo.shading import cone, shade
from rlsuite.data.counters import uniform
from rlsuite.errors import require, require_finite

RIM = 0.97  # of the ellipse's radius: beyond it the cap is too steep for a pixel
_SHAPE, _BUMP, _MATERIAL = 4, 4, 5  # random numbers of a cap, of a bump, and of a material


@dataclass(frozen=True, kw_only=True)
class BlobConfig:
    """What blobs are like.

    Attributes:
        lights: K, drawn anew for every blob, uniform over a cone around the camera's axis.
        cone: the cone's half angle in degrees.
        bumps: on each cap.
        specular_low: the least strength of highlights; it is uniform between both.
        specular_high: the most.
        checkers: pixels a side of squares that are five times darker than those between them; 0 for one color.
    """

    lights: int = 24
    cone: float = 75.0
    bumps: int = 6
    specular_low: float = 0.0
    specular_high: float = 0.8
    checkers: int = 0

    def __post_init__(self) -> None:
        require(self.lights >= 1, f"lights={self.lights}: use 1 or more")
        require(0 < self.cone <= 90, f"cone={self.cone}: use more than 0, and 90 degrees at most")
        require(self.bumps >= 0 and self.checkers >= 0, "bumps=, checkers=: use 0 or more")
        require_finite("specular_low", self.specular_low, low=0.0)
        require_finite("specular_high", self.specular_high, low=self.specular_low)


class Blobs:
    """A source of blobs.

    Args:
        count: how many there are.
        size: S.
        config: what they are like.
        seed: of all.
    """

    def __init__(self, count: int, size: int, config: BlobConfig, seed: int) -> None:
        require(count >= 1 and size >= 8, f"{count} blobs of {size} pixels: use 1 or more of 8 or more")
        self.count, self.size, self.config, self.seed = count, size, config, seed

    def __len__(self) -> int:
        return self.count

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return "images" (B, K, 3, S, S), "lights" (B, K, 3), "normals" (B, 3, S, S), "mask" (B, 1, S, S) float.

        Where the mask is 0 normals and images are, too.
        """
        config = self.config
        parts = (_SHAPE, _BUMP * config.bumps, _MATERIAL, 2 * config.lights)
        draws = uniform(self.seed, index, sum(parts)).split(parts, dim=1)
        normals, mask = surface(draws[0], draws[1].unflatten(1, (config.bumps, _BUMP)), self.size)
        lights = cone(draws[3].unflatten(1, (config.lights, 2)), config.cone)
        material = draws[2].float()
        diffuse = (0.2 + 0.8 * material[:, :3]).view(-1, 3, 1, 1)
        if config.checkers:
            squares = torch.arange(self.size) // config.checkers
            diffuse = diffuse * torch.where((squares.view(-1, 1) + squares) % 2 == 0, 1.0, 0.2)
        specular = config.specular_low + (config.specular_high - config.specular_low) * material[:, 3]
        images = shade(normals, lights, diffuse, specular, 10.0 ** (1.0 + material[:, 4]))
        return {"images": images * mask.unsqueeze(1), "lights": lights, "normals": normals, "mask": mask}


def surface(cap: Tensor, bumps: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return unit normals (B, 3, S, S), zero outside, and where the blob is (B, 1, S, S) float.

    Args:
        cap: (B, 4) in [0, 1): both half axes (0.65 to 0.95 of half a picture), the height (0.4 to 1), a turn.
        bumps: (B, n, 4) in [0, 1): distance from the middle and azimuth, height (-0.12 to 0.25), width (0.12 to 0.3).
        size: S.
    """
    at = ((torch.arange(size, dtype=torch.float64) + 0.5) / size * 2.0 - 1.0).to(cap.device)
    x, y = at.view(1, 1, -1), -at.view(1, -1, 1)  # rows run down, y up
    wide, long, high, turn = ((low + (top - low) * part).view(-1, 1, 1) for part, low, top in _ranges(cap))
    along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    radius = (along / wide) ** 2 + (across / long) ** 2
    inside = radius < RIM**2
    steep = -high / (1.0 - radius.clamp_max(RIM**2)).sqrt()  # of the cap's root
    slope_along, slope_across = steep * along / wide**2, steep * across / long**2
    slope_x = slope_along * turn.cos() - slope_across * turn.sin()
    slope_y = slope_along * turn.sin() + slope_across * turn.cos()
    far, azimuth = 0.7 * bumps[..., 0].sqrt(), 2.0 * math.pi * bumps[..., 1]
    height, spread = -0.12 + 0.37 * bumps[..., 2], 0.12 + 0.18 * bumps[..., 3]
    away_x = x.unsqueeze(1) - (far * azimuth.cos())[..., None, None]
    away_y = y.unsqueeze(1) - (far * azimuth.sin())[..., None, None]
    narrow = (1.0 / spread**2)[..., None, None]
    bump = -height[..., None, None] * narrow * torch.exp(-0.5 * narrow * (away_x**2 + away_y**2))
    slope_x, slope_y = slope_x + (bump * away_x).sum(dim=1), slope_y + (bump * away_y).sum(dim=1)
    normals = functional.normalize(torch.stack([-slope_x, -slope_y, torch.ones_like(slope_x)], dim=1), dim=1)
    mask = inside.unsqueeze(1)
    return (normals * mask).float(), mask.float()


def _ranges(cap: Tensor) -> list[tuple[Tensor, float, float]]:
    limits = ((0.65, 0.95), (0.65, 0.95), (0.4, 1.0), (0.0, math.pi))
    return [(part, low, top) for part, (low, top) in zip(cap.unbind(dim=1), limits, strict=True)]
