"""Azimuths of normals from the symmetry of how brightness changes with the light (arXiv:2001.06659).

For any isotropic material the radiance depends on n.l, n.v and v.l alone. It stays what it is when the light is
mirrored at the plane that n and the view direction v span: that is the plane at which the observations mirror best.
Lights need not stand on a circle: what a mirrored light would show is interpolated over the directions of those there
are (a Gaussian kernel; the mean of a Gaussian process), and pairs whose partner is far from every light do not count.
The first harmonic over a full ring would do for many materials; the search also works where lights are missing.

Constants that the paper's abstract does not give are ours: 180 planes, one a degree, and a parabola through the best;
a kernel of 20 degrees; tiles of 8 x 8 pixels that share light and view directions; what is below 5 % of the median, or
at 99 % of full scale, does not count; a plane needs 30 % of the pairs of that with the most.

Shapes: K lights, H and W sides, P pixels, A = 180 planes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.stereo.capture import Capture

PLANES, TILE, KERNEL, RIDGE = 180, 8, 20.0, 1e-3
DARK, BRIGHT, LEAST_SHARE, LEAST_PAIRS = 0.05, 0.99, 0.3, 4
FARTHEST, DOUBTED = 0.3, 0.2  # of a mirrored light: variance left by the lights there are; weight on those left out


def azimuths(capture: Capture, view: int, distances: Tensor, lights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return where normals lean to, and how sure that is.

    Args:
        capture: the photographs.
        view: which camera.
        distances: (H, W), roughly, where masks are true: what near lights are corrected by.
        lights: (k,) int64, which lights are used; None for all.

    Returns:
        Unit vectors (H, W, 3) in the camera's axes, orthogonal to the view direction, zero outside of the mask; and
        confidences (H, W) in [0, 1]: 1 minus the least cost over the median cost.
    """
    used = torch.arange(capture.lights.shape[1]) if lights is None else lights
    pixels = capture.pixels(view)
    flat = (pixels[:, 1] * capture.masks.shape[2] + pixels[:, 0]).long()
    rays = capture.rays(pixels)
    here = rays * distances.flatten()[flat].unsqueeze(1)
    toward, irradiance = (part[:, used] for part in capture.toward(view, here))
    raw = capture.images[view, used].flatten(1, 2)[:, flat].transpose(0, 1)
    grey = raw.mean(dim=2) / irradiance
    trusted = trusted_samples(raw, grey, capture.white)
    leaning, confidence = torch.zeros(*capture.masks.shape[1:], 3), torch.zeros(capture.masks.shape[1:])
    tile = torch.div(pixels, TILE, rounding_mode="floor") @ torch.tensor([1.0, 4096.0])
    for number in tile.unique():
        part = (tile == number).nonzero().flatten()
        eye = functional.normalize(-rays[part].mean(dim=0), dim=0)
        lamp = functional.normalize(toward[part].mean(dim=0), dim=1)
        found, sure = mirror_search(grey[part], trusted[part], lamp, eye)
        across = found - (found * rays[part]).sum(dim=1, keepdim=True) * rays[part]  # orthogonal to each one's own ray
        leaning.view(-1, 3)[flat[part]] = functional.normalize(across, dim=1)
        confidence.view(-1)[flat[part]] = sure
    return leaning, confidence


def trusted_samples(raw: Tensor, grey: Tensor, white: float) -> Tensor:
    """Say which samples (P, K) are neither in shadow nor saturated; raw (P, K, 3), grey (P, K)."""
    median = torch.where(grey > 0, grey, torch.nan).nanmedian(dim=1, keepdim=True).values.nan_to_num()
    return (grey > DARK * median) & (raw.amax(dim=2) < BRIGHT * white)


def mirror_search(grey: Tensor, trusted: Tensor, lights: Tensor, eye: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit vectors (P, 3) orthogonal to the view direction, toward where the normal leans, and confidences (P,).

    Args:
        grey: (P, K), brightness under a light of strength one.
        trusted: (P, K) bool.
        lights: (K, 3), unit vectors toward them.
        eye: (3,), unit vector toward the camera.
    """
    first, second = plane_axes(eye)
    angle = math.pi / PLANES * torch.arange(PLANES)
    leaning = angle.cos().unsqueeze(1) * first + angle.sin().unsqueeze(1) * second  # (A, 3)
    across = torch.linalg.cross(eye.expand_as(leaning), leaning)
    mirrored = lights - 2.0 * (across @ lights.T).unsqueeze(2) * across.unsqueeze(1)  # (A, K, 3)
    weights, left = _interpolation(mirrored, lights)
    count = trusted.sum(dim=1, keepdim=True).clamp_min(1)
    level = (grey * trusted).sum(dim=1, keepdim=True) / count
    centered = torch.where(trusted, grey - level, 0.0)
    apart = centered.unsqueeze(1) - torch.einsum("akj,pj->pak", weights, centered)
    share = weights.abs() / weights.abs().sum(dim=2, keepdim=True)
    doubted = torch.einsum("akj,pj->pak", share, (~trusted).float())
    pairs = (trusted.unsqueeze(1) & (left < FARTHEST) & (doubted < DOUBTED)).float()
    number = pairs.sum(dim=2)
    cost = (pairs * apart.square()).sum(dim=2) / number.clamp_min(1.0)
    enough = (number >= LEAST_SHARE * number.amax(dim=1, keepdim=True)) & (number >= LEAST_PAIRS)
    cost = torch.where(enough, cost, torch.inf)
    least, best = cost.min(dim=1)
    middle = torch.where(enough, cost, torch.nan).nanmedian(dim=1).values
    sure = torch.where(least.isfinite() & (middle > 0), 1.0 - least / middle, 0.0).nan_to_num().clamp(0.0, 1.0)
    before, after = (cost.gather(1, ((best + step) % PLANES).unsqueeze(1)).squeeze(1) for step in (-1, 1))
    bend = before + after - 2.0 * least
    shift = torch.where((bend > 0) & bend.isfinite(), 0.5 * (before - after) / bend.clamp_min(1e-20), 0.0)
    turn = math.pi / PLANES * (best + shift.nan_to_num().clamp(-0.5, 0.5))
    found = turn.cos().unsqueeze(1) * first + turn.sin().unsqueeze(1) * second
    brighter = (centered * (found @ lights.T)).sum(dim=1)  # of its two sides, the one toward the light
    return torch.where((brighter < 0).unsqueeze(1), -found, found), sure


def plane_axes(eye: Tensor) -> tuple[Tensor, Tensor]:
    """Return two unit vectors (3,) that span the plane orthogonal to `eye` (3,)."""
    right = torch.tensor([1.0, 0.0, 0.0])
    first = functional.normalize(right - (right @ eye) * eye, dim=0)
    return first, torch.linalg.cross(eye, first)


def _interpolation(wanted: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (A, K, K) of values at known directions (K, 3) for those at (A, K, 3), and variances left."""

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return torch.exp((one @ other.T - 1.0) / math.radians(KERNEL) ** 2)

    between = kernel(wanted, known)
    inverse = torch.linalg.inv(kernel(known, known).double() + RIDGE * torch.eye(len(known))).float()
    weights = between @ inverse
    return weights, 1.0 - (weights * between).sum(dim=2)
