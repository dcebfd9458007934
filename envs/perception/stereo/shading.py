"""Light on surfaces: Lambert's law with Blinn and Phong's highlight, attached shadows, and where lights stand.

Axes are x to the right, y up and z toward the camera; lights are distant, white and of strength one, and pictures are
linear: what is returned is radiance, neither cut off nor gamma-encoded.

Shapes: K lights; anything else broadcasts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

FLASHES = 16  # lights around a camera


def blinn_phong(
    normals: Tensor, lights: Tensor, view: Tensor, diffuse: Tensor, specular: Tensor, exponent: Tensor
) -> Tensor:
    """Return radiance (..., 3): ``diffuse n.l + specular (n.h)^exponent`` where n.l > 0, else 0 (Blinn 1977).

    The highlight is white and not scaled by n.l, as MuJoCo's. A surface turned away from the light is in its own
    (attached) shadow; what other surfaces take away is not looked at here.

    Args:
        normals: (..., 3), unit length.
        lights: (..., 3), unit vectors from the surface to the light.
        view: (..., 3), unit vectors from the surface to the eye.
        diffuse: (..., 3), colors.
        specular: (..., 1).
        exponent: (..., 1).
    """
    facing = (normals * lights).sum(dim=-1, keepdim=True)
    half = functional.normalize(lights + view, dim=-1)
    highlight = (normals * half).sum(dim=-1, keepdim=True).clamp_min(1e-6) ** exponent
    return torch.where(facing > 0, diffuse * facing + specular * highlight, 0.0)


def shade(normals: Tensor, lights: Tensor, diffuse: Tensor, specular: Tensor, exponent: Tensor) -> Tensor:
    """Return pictures (B, K, 3, H, W) as an orthographic camera on the z axis sees them.

    Args:
        normals: (B, 3, H, W), unit length; where they are zero it is dark.
        lights: (B, K, 3).
        diffuse: (B, 3, H, W) or (B, 3, 1, 1).
        specular: (B,).
        exponent: (B,).
    """
    surface = normals.movedim(1, -1).unsqueeze(1)
    light = lights[:, :, None, None]
    color = diffuse.movedim(1, -1).unsqueeze(1)
    eye = torch.tensor([0.0, 0.0, 1.0], device=normals.device)
    seen = blinn_phong(surface, light, eye, color, specular.view(-1, 1, 1, 1, 1), exponent.view(-1, 1, 1, 1, 1))
    return seen.movedim(-1, 2)


def ring(count: int, degrees: float, first: float = 0.0) -> Tensor:
    """Return K unit vectors (K, 3), evenly around the z axis.

    Args:
        count: K.
        degrees: between each and the axis.
        first: azimuth of the first in degrees, counted from x to y.
    """
    azimuth = torch.deg2rad(first + 360.0 / count * torch.arange(count, dtype=torch.float64))
    tilt = math.radians(degrees)
    level = torch.full_like(azimuth, math.cos(tilt))
    return torch.stack([math.sin(tilt) * azimuth.cos(), math.sin(tilt) * azimuth.sin(), level], dim=1).float()


def cone(draws: Tensor, degrees: float) -> Tensor:
    """Return unit vectors (..., 3), uniform over the cone of directions within `degrees` of z; draws (..., 2)."""
    height = 1.0 - draws[..., 0] * (1.0 - math.cos(math.radians(degrees)))
    azimuth = 2.0 * math.pi * draws[..., 1]
    flat = (1.0 - height**2).clamp_min(0.0).sqrt()
    return torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), height], dim=-1).float()


def flash_lights() -> Tensor:
    """Return the lights (16, 3) that flash around a camera: eight 25 degrees off its axis, eight between them at 55."""
    return torch.cat([ring(FLASHES // 2, 25.0), ring(FLASHES // 2, 55.0, first=22.5)])
