"""What is compared between a rendering and what a camera saw (DIST, section 3.4).

Each is one number a view, a mean over the pixels it is about, and zero, with a gradient of zero, where there are none.

Shapes: B views, H and W sides, Z numbers of a code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from renderers.sdf.renderer import Rendering
from rlsuite.errors import require_finite

_LARGEST_DEPTH = 1e5


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What losses count.

    Attributes:
        depth: of differences in depth.
        normal: of minus the cosines between normals.
        missing: of silhouettes, where the object is not rendered but should be.
        surplus: where it is and should not be.
        prior: of the code's mean square.
    """

    depth: float = 10.0
    normal: float = 5.0
    missing: float = 1.0
    surplus: float = 1.0
    prior: float = 1.0

    def __post_init__(self) -> None:
        for name in ("depth", "normal", "missing", "surplus", "prior"):
            require_finite(name, getattr(self, name), low=0.0)


@dataclass(frozen=True)
class Target:
    """What a camera saw.

    Attributes:
        depth: (B, H, W), along the axis; 0, or FAR, where it is not known.
        mask: (B, H, W) bool, where the object is; None if nobody says.
        normal: (B, 3, H, W) unit vectors in the camera's axes; None if nobody says.
    """

    depth: Tensor
    mask: Tensor | None = None
    normal: Tensor | None = None

    def strided(self, stride: int) -> Target:
        """Return what `Pinhole.strided` sees."""

        def part(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[..., stride // 2 :: stride, stride // 2 :: stride]

        return Target(self.depth[..., stride // 2 :: stride, stride // 2 :: stride], part(self.mask), part(self.normal))


def known_depth(depth: Tensor) -> Tensor:
    """Return where a depth is one."""
    return (depth > 0.0) & (depth < _LARGEST_DEPTH)


def depth_loss(rendering: Rendering, target: Target) -> Tensor:
    """Return mean differences of depth (B,) where both are known."""
    both = rendering.mask & known_depth(target.depth)
    if target.mask is not None:
        both &= target.mask
    return mean_where((rendering.depth - target.depth).abs(), both)


def normal_loss(rendering: Rendering, target: Target) -> Tensor:
    """Return minus the mean cosines between normals (B,) where both are known; 0 without normals."""
    if target.normal is None:
        return rendering.min_sdf.flatten(1).sum(1) * 0.0
    both = rendering.mask & (target.normal.square().sum(1) > 0.0)
    return mean_where(-functional.cosine_similarity(rendering.normal, target.normal, dim=1), both)


def mask_losses(rendering: Rendering, mask: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Return what pulls rays to the object that should hit it, and pushes those away that should not; (B,) each."""
    missing = mean_where((rendering.min_sdf - tolerance).clamp_min(0.0), mask & ~rendering.mask)
    surplus = mean_where((tolerance - rendering.min_sdf).clamp_min(0.0), rendering.mask & ~mask)
    return missing, surplus


def total_loss(
    rendering: Rendering, target: Target, code: Tensor, weights: LossWeights, tolerance: float = 5e-5
) -> Tensor:
    """Return the weighted sum of all losses (B,)."""
    found = weights.depth * depth_loss(rendering, target)
    if weights.normal:
        found = found + weights.normal * normal_loss(rendering, target)
    if target.mask is not None:
        missing, surplus = mask_losses(rendering, target.mask, tolerance)
        found = found + weights.missing * missing + weights.surplus * surplus
    if code.shape[1]:
        found = found + weights.prior * code.square().mean(1)
    return found


def mean_where(values: Tensor, where: Tensor) -> Tensor:
    """Return means (B,) over the pixels `where` (B, H, W); 0 of none."""
    kept = torch.where(where, values, 0.0).flatten(1).sum(1)
    return kept / where.flatten(1).sum(1).clamp_min(1)
