"""What cameras see when lights around them flash one after the other: pictures for photometric stereo.

They are shaded from the ray tracer's exact normals and the model's materials, as 32-bit linear radiance: a renderer's
own pictures are of 8 bits, cut off, with ambient light in them. Highlights have MuJoCo's exponent, 128 times the
shininess. Lights are distant and turn with the camera; textures, cast shadows and light between surfaces are not
looked at.

Shapes: n environments, H and W sides, K lights, G geoms.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from envs.perception.stereo.shading import blinn_phong

PLAIN = (0.5, 0.5, 0.5)  # color of a geom that leaves it to its material
DIFFUSE = 0.8  # strength of a flash's diffuse light


class Surfaces(NamedTuple):
    """What a model's geoms are made of.

    Attributes:
        diffuse: (G, 3).
        specular: (G,).
        exponent: (G,).
    """

    diffuse: Tensor
    specular: Tensor
    exponent: Tensor


def surfaces(model: Any, device: torch.device) -> Surfaces:
    """Return the materials of a mujoco.MjModel's geoms; without one, MuJoCo's own 0.5 for highlight and shininess."""
    colors = torch.from_numpy(model.geom_rgba[:, :3]).float()
    materials = torch.from_numpy(model.geom_matid).long()
    has = materials >= 0
    specular, shininess = torch.full((len(has),), 0.5), torch.full((len(has),), 0.5)
    if bool(has.any()):
        at = materials.clamp_min(0)
        own = has & (colors == torch.tensor(PLAIN)).all(dim=1)
        colors = torch.where(own.unsqueeze(1), torch.from_numpy(model.mat_rgba[:, :3]).float()[at], colors)
        specular = torch.where(has, torch.from_numpy(model.mat_specular).float()[at], specular)
        shininess = torch.where(has, torch.from_numpy(model.mat_shininess).float()[at], shininess)
    found = Surfaces(DIFFUSE * colors, specular, (128.0 * shininess).clamp_min(1.0))
    return Surfaces(*(part.to(device) for part in found))


def flash(normals: Tensor, ids: Tensor, rays: Tensor, made_of: Surfaces, lights: Tensor) -> Tensor:
    """Return pictures (n, 3 K, H, W), red, green and blue of each light; dark where nothing is.

    Args:
        normals: (n, 3, H, W), in the camera's axes.
        ids: (n, 1, H, W) int64, which geom.
        rays: (H, W, 3), from the eye through the pixels, in the camera's axes.
        made_of: of what.
        lights: (K, 3), in the camera's axes.
    """
    geom = ids[:, 0].clamp_min(0)
    surface = normals.movedim(1, -1).unsqueeze(1)
    diffuse, specular, exponent = (part[geom].unsqueeze(1) for part in made_of)
    light = lights.to(normals).view(1, -1, 1, 1, 3)
    seen = blinn_phong(surface, light, -rays, diffuse, specular.unsqueeze(-1), exponent.unsqueeze(-1))
    return (seen.movedim(-1, 2) * (ids >= 0).unsqueeze(1)).flatten(1, 2).contiguous()
