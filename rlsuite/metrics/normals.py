"""How good maps of surface normals are.

Shapes: B batch, H and W sides; normals (B, 3, H, W), of any length above zero where they count.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.metrics.masks import mean_where


def angles(first: Tensor, second: Tensor, dim: int = 1) -> Tensor:
    """Return the angles in degrees between vectors along `dim`, which is dropped; exact for small angles, too.

    An angle is twice the arc tangent of |a - b| / |a + b| of unit vectors (Kahan 2006): the arc cosine of float32 loses
    everything below 0.03 degrees. Next to a vector of length zero it is 90 degrees.
    """
    one, other = functional.normalize(first, dim=dim), functional.normalize(second, dim=dim)
    return torch.rad2deg(2.0 * torch.atan2((one - other).norm(dim=dim), (one + other).norm(dim=dim)))


def angular_error(predicted: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean angle (B,) between normals (B, 3, H, W), in degrees.

    Args:
        predicted: the normals judged.
        truth: the true ones.
        valid: (B, H, W) bool, where they count; None for everywhere.

    Returns:
        The mean over valid pixels; NaN for a picture that has none.
    """
    return mean_where(angles(predicted, truth), valid)
