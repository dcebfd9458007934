"""Lambertian least squares (Woodham 1980): the normal whose brightness under all lights fits best, pixel by pixel.

Shapes: B batch, K lights, H and W sides.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.perceiver import Perceiver, Seen, State
from envs.perception.stereo.shading import FLASHES, flash_lights
from rlsuite.metrics.normals import angular_error


def least_squares(images: Tensor, lights: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit normals (B, 3, H, W) and albedos (B, 1, H, W); (0, 0, 1) and 0 where it is dark under every light.

    Args:
        images: (B, K, 3, H, W), linear; the mean of the channels counts.
        lights: (B, K, 3), unit vectors, not all in one plane.
    """
    grey = images.mean(dim=2).flatten(2)  # (B, K, HW)
    scaled = (torch.linalg.pinv(lights.double()) @ grey.double()).float().unflatten(2, images.shape[-2:])
    albedo = scaled.norm(dim=1, keepdim=True)
    toward = torch.tensor([0.0, 0.0, 1.0], device=images.device).view(1, 3, 1, 1)
    return torch.where(albedo > 1e-8, functional.normalize(scaled, dim=1), toward), albedo


@dataclass(frozen=True, kw_only=True)
class LeastSquaresConfig:
    """It has no numbers."""


class LeastSquares(Perceiver):
    """Normals from a camera's flashes, by least squares: what learned ones have to beat."""

    Config = LeastSquaresConfig
    inputs = ("flashes", "ids")
    outputs = ("normals",)
    rig: Tensor

    def __init__(self, *, config: LeastSquaresConfig) -> None:
        super().__init__(config=config)
        self.register_buffer("rig", flash_lights(), persistent=False)

    def forward(self, seen: Seen, state: State) -> tuple[Seen, State]:
        """Return "normals", zero where nothing is."""
        images, mask = lit(seen)
        lights = self.rig.unsqueeze(0).expand(len(images), -1, -1)
        return {"normals": least_squares(images, lights)[0] * mask}, state

    def metrics(self, predicted: Seen, truth: Seen) -> dict[str, Tensor]:
        """Return "degrees" (B,), the mean angle to the true normals where they are not zero."""
        return {"degrees": degrees(predicted, truth)}


def lit(seen: Seen) -> tuple[Tensor, Tensor]:
    """Return flashes as images (B, 16, 3, H, W), dark where nothing is, and where something is (B, 1, H, W) float."""
    mask = (seen["ids"] >= 0).float()
    return seen["flashes"].unflatten(1, (FLASHES, 3)) * mask.unsqueeze(1), mask


def degrees(predicted: Seen, truth: Seen) -> Tensor:
    """Return the mean angle (B,) between "normals", in degrees, where the true ones are not zero."""
    return angular_error(predicted["normals"], truth["normals"], truth["normals"].abs().sum(dim=1) > 0)
