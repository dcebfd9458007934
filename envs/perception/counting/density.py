"""Density maps: what a counting network learns to draw, each object a blob of mass 1 (NAS-Count, arXiv:2003.00217).

    G(p) = sum_i N(p - x_i; sigma_i^2),    every blob made to sum to 1 inside the picture

so the map sums to the count exactly, blobs cut by the border included.

Shapes: N objects, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.errors import require, require_finite


def density_map(centres: Tensor, size: tuple[int, int], sigma: float | Tensor) -> Tensor:
    """Return the map (H, W) of objects.

    Args:
        centres: (N, 2) row and column in pixels, (0, 0) the first pixel's middle; those outside count at the border.
        size: (H, W).
        sigma: of the blobs in pixels, one for all or (N,).

    Raises:
        UserError: for a sigma that is not above 0, or centres that are not finite.
    """
    sigmas = torch.as_tensor(sigma, dtype=torch.float64, device=centres.device).expand(len(centres))
    least = float(sigmas.min()) if len(centres) else 1.0
    require_finite("sigma", least, above=0.0)
    require(bool(torch.isfinite(centres).all()), "centres: there is one that is not finite; leave it out")
    height, width = size
    limits = torch.tensor([height - 1, width - 1], dtype=torch.float64, device=centres.device)
    centres = torch.minimum(centres.double().clamp_min(0.0), limits)
    axes = []
    for axis, side in enumerate(size):
        places = torch.arange(side, dtype=torch.float64, device=centres.device)
        # A blob is a product of one along rows and one along columns, so each is made to sum to 1 by itself.
        axes.append(torch.softmax(-0.5 * ((places - centres[:, axis : axis + 1]) / sigmas[:, None]) ** 2, dim=1))
    return torch.einsum("nh,nw->hw", axes[0], axes[1]).float().view(height, width)


def neighbour_sigmas(centres: Tensor, *, beta: float = 0.3, neighbours: int = 3, alone: float = 15.0) -> Tensor:
    """Return sigmas (N,) for dense scenes: beta times the mean distance to the nearest others.

    Args:
        centres: (N, 2).
        beta: see above.
        neighbours: how many others, fewer where there are fewer.
        alone: sigma of an object without others.
    """
    count = min(neighbours, len(centres) - 1)
    if count < 1:
        return torch.full((len(centres),), alone, dtype=torch.float64, device=centres.device)
    distances = torch.cdist(centres.double(), centres.double())
    nearest = distances.topk(count + 1, largest=False).values[:, 1:]
    return (beta * nearest.mean(1)).clamp_min(1e-3)


def resize_density(density: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (..., H, W) at another size, with the count that they had.

    Interpolation keeps values, so their sum grows with the area; what is off after the area's factor is set right, too.
    """
    leading = density.shape[:-2]
    flat = density.reshape(-1, 1, *density.shape[-2:])
    found = functional.interpolate(flat, size=size, mode="bilinear", align_corners=False, antialias=True)
    before, after = flat.sum((2, 3), keepdim=True), found.sum((2, 3), keepdim=True)
    tiny = torch.finfo(found.dtype).tiny
    return (found * before / after.clamp_min(tiny)).reshape(*leading, *size)
