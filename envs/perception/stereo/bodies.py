"""Bodies to scan without a scanner: bumpy ellipsoids and blobs of two lobes, their materials, and a ray caster.

A body is where a function of space is below zero; rays walk along by that function's value (sphere tracing, Hart 1996).
Lights near the camera, attached and cast shadows, noise; no light goes from surface to surface.

Shapes: M views, K lights, H = W = S sides, P points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.stereo.capture import Capture
from envs.perception.stereo.shading import blinn_phong
from rlsuite.errors import require, require_choice

KINDS = ("ellipsoid", "lobes")
MATERIALS = ("lambert", "glossy", "stripes")
FAR, REACH = 10.0, 1.5  # the cameras' distance from the middle; bodies lie within this radius of it


@dataclass(frozen=True, kw_only=True)
class CaptureConfig:
    """How bodies are photographed.

    Attributes:
        size: S.
        views: M, evenly around the body, by turns from 25 degrees above and below.
        rings: lights on rings around the camera, the innermost first.
        tilts: degrees of each ring off the camera's axis, as the body's middle sees it.
        noise: standard deviation, on numbers that reach about 1.
        shadows: cast ones.
    """

    size: int = 64
    views: int = 12
    rings: tuple[int, ...] = (12, 24)
    tilts: tuple[float, ...] = (22.0, 42.0)
    noise: float = 0.003
    shadows: bool = True

    def __post_init__(self) -> None:
        require(self.size >= 8 and self.views >= 2, f"size={self.size}, views={self.views}: use 8, 2 or more")
        require(len(self.rings) == len(self.tilts) >= 1, "rings=, tilts=: name as many of each")


class Body:
    """A random body.

    Args:
        kind: "ellipsoid" or "lobes".
        seed: of its shape.
        bumps: and dents, that many.
    """

    def __init__(self, kind: str, seed: int, bumps: int = 10) -> None:
        require_choice("kind", kind, KINDS)
        stream = torch.Generator().manual_seed(seed)
        self.kind = kind
        self.axes = 0.8 + 0.3 * torch.rand(3, generator=stream)
        self.places = functional.normalize(torch.randn(bumps, 3, generator=stream), dim=1)
        self.heights = -0.1 + 0.25 * torch.rand(bumps, generator=stream)
        self.widths = 0.25 + 0.25 * torch.rand(bumps, generator=stream)

    def __call__(self, points: Tensor) -> Tensor:
        """Return a number (...) for points (..., 3): below zero inside, never larger than the distance outside."""
        scaled = points / self.axes
        radius = scaled.norm(dim=-1).clamp_min(1e-6)
        toward = scaled / radius.unsqueeze(-1)
        apart = 2.0 - 2.0 * (toward @ self.places.T)  # squared distance on the sphere
        bumps = (self.heights * torch.exp(-apart / (2.0 * self.widths**2))).sum(dim=-1)
        if self.kind == "ellipsoid":
            return 0.45 * (radius - 1.0 - bumps)
        at = torch.tensor([[0.45, 0.1, 0.0], [-0.5, -0.1, 0.15]])
        one, other = ((points - place).norm(dim=-1) - size for place, size in zip(at, (0.7, 0.55), strict=True))
        mixed = (0.5 + 0.5 * (other - one) / 0.25).clamp(0.0, 1.0)  # Quilez' polynomial smooth minimum
        union = other + (one - other) * mixed - 0.25 * mixed * (1.0 - mixed)
        return 0.45 * (union - 0.7 * bumps)

    def normals(self, points: Tensor) -> Tensor:
        """Return unit outward normals (P, 3)."""
        with torch.enable_grad():
            at = points.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self(at).sum(), at)
        return functional.normalize(slope, dim=-1)


def trace(body: Body, start: Tensor, along: Tensor, steps: int = 64) -> tuple[Tensor, Tensor]:
    """Return how far along rays (P, 3) a body is met (P,), and whether it is (P,) bool."""
    far = torch.full(start.shape[:1], FAR - REACH)
    for _ in range(steps):
        far = far + body(start + far.unsqueeze(1) * along)
    return far, body(start + far.unsqueeze(1) * along) < 2e-3


def in_shadow(body: Body, points: Tensor, normals: Tensor, along: Tensor, steps: int = 20) -> Tensor:
    """Say whether the way from points (P, 3) to the light along (P, 3) is barred (P,) bool."""
    far, barred = torch.full(points.shape[:1], 0.06), torch.zeros(len(points), dtype=torch.bool)
    start = points + 0.01 * normals
    for _ in range(steps):
        value = body(start + far.unsqueeze(1) * along)
        barred |= value < 0.0
        far = far + (2.0 * value).clamp_min(0.04)
    return barred


def material(name: str, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return diffuse colors (P, 3), specular strengths (P, 1) and exponents (P, 1) of points.

    "lambert" is one dull color, "glossy" has highlights of 0.6 and exponent 50, "stripes" are of both, by height.
    """
    require_choice("material", name, MATERIALS)
    ones = torch.ones(len(points), 1)
    dull, shiny = torch.tensor([0.7, 0.5, 0.3]), torch.tensor([0.25, 0.35, 0.6])
    share = {"lambert": 0.0 * ones, "glossy": ones}.get(name)
    if share is None:
        share = (torch.sin(7.0 * points[:, 2:]) > 0).float()
    return dull + share * (shiny - dull), 0.6 * share, 50.0 * ones


def poses(views: int) -> tuple[Tensor, Tensor]:
    """Return rotations (M, 3, 3) and translations (M, 3) of cameras that look at the origin; z is up in the world."""
    rotations = []
    for view in range(views):
        turn, tilt = 2.0 * math.pi * view / views, math.radians(25.0 if view % 2 else -25.0)
        back = torch.tensor(
            [math.cos(turn) * math.cos(tilt), math.sin(turn) * math.cos(tilt), math.sin(tilt)], dtype=torch.float64
        )
        right = torch.tensor([-math.sin(turn), math.cos(turn), 0.0], dtype=torch.float64)
        rotations.append(torch.stack([right, torch.linalg.cross(-back, right), -back]))
    return torch.stack(rotations).float(), torch.tensor([0.0, 0.0, FAR]).expand(views, 3).clone()


def photograph(body: Body, what: str, config: CaptureConfig, seed: int) -> tuple[Capture, Tensor]:
    """Return photographs of a body of one material, and its true distances (M, S, S), NaN beside it.

    Args:
        body: the body.
        what: the material.
        config: how.
        seed: of the noise.
    """
    side, focal = config.size, config.size * FAR / (2.0 * REACH)
    middle = (side - 1) / 2.0
    intrinsics = torch.tensor([[focal, 0.0, middle], [0.0, focal, middle], [0.0, 0.0, 1.0]])
    rotations, translations = poses(config.views)
    lights = torch.cat([_ring(count, tilt) for count, tilt in zip(config.rings, config.tilts, strict=True)])
    count = len(lights)
    capture = Capture(
        images=torch.zeros(config.views, count, side, side, 3),
        masks=torch.ones(config.views, side, side, dtype=torch.bool),
        intrinsics=intrinsics,
        rotations=rotations,
        translations=translations,
        lights=lights.expand(config.views, count, 3),
        strengths=(FAR**2 + lights.square().sum(dim=1)).expand(config.views, count),
        white=2.0,
    )
    distances = torch.full((config.views, side, side), torch.nan)
    stream = torch.Generator().manual_seed(seed)
    for view, center in enumerate(capture.centers()):
        pixels = torch.ones(side, side).nonzero().flip(1).float()
        rays = capture.rays(pixels)
        far, hit = trace(body, center.expand(len(pixels), 3), rays @ rotations[view])
        distances[view].view(-1)[hit] = far[hit]
        capture.masks[view] = hit.view(side, side)
        points = capture.lift(view, pixels[hit], far[hit])
        normals, toward = body.normals(points), -rays[hit]
        facing = normals @ rotations[view].T
        here, irradiance = capture.toward(view, capture.seen(view, points))
        diffuse, specular, exponent = (part.unsqueeze(1) for part in material(what, points))
        seen = blinn_phong(facing.unsqueeze(1), here, toward.unsqueeze(1), diffuse, specular, exponent)
        seen = seen * irradiance.unsqueeze(-1)
        if config.shadows:
            lit = (facing.unsqueeze(1) * here).sum(dim=-1) > 0
            rows, columns = lit.nonzero(as_tuple=True)
            barred = in_shadow(body, points[rows], normals[rows], here[rows, columns] @ rotations[view])
            seen[rows[barred], columns[barred]] = 0.0
        seen = seen + config.noise * torch.randn(seen.shape, generator=stream)
        capture.images[view].view(count, -1, 3)[:, hit] = seen.clamp(0.0, capture.white).transpose(0, 1)
    return capture, distances


def _ring(count: int, tilt: float) -> Tensor:
    turn = 2.0 * math.pi * torch.arange(count, dtype=torch.float64) / count
    radius = FAR * math.tan(math.radians(tilt))
    return torch.stack([radius * turn.cos(), radius * turn.sin(), torch.zeros_like(turn)], dim=1).float()
