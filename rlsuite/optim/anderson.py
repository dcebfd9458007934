"""The weights of Anderson's mixing (Anderson 1965, "Iterative procedures for nonlinear integral equations").

Of points x_0, x_1, ... and their images under a map, the mixture whose residual, as far as it is linear, is least.

Shapes: n points.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST = 1e-300  # keeps a vanished trace from dividing by zero


def anderson_weights(products: Tensor, ridge: float) -> Tensor:
    """Return the weights (..., n) that sum to one and make the mixture of residuals f_i = image_i - x_i smallest.

        w = argmin |sum_i w_i f_i|^2 + ridge s |w|^2 = (R / s + ridge I)^-1 1, scaled to sum to one

    with s the trace of R: the scale of residuals shrinks by orders as an iteration converges, and a ridge means the
    same all along only where it is measured against them. Weights may be negative, and larger than one.

    Args:
        products: R (..., n, n) float64, R_ij = f_i . f_j.
        ridge: above 0; towards infinity all weights become 1 / n.
    """
    scale = products.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(_LEAST)
    count = products.shape[-1]
    identity = torch.eye(count, dtype=products.dtype, device=products.device)
    ones = products.new_ones(*products.shape[:-1])
    # solve_ex does not ask the device whether the matrix was singular, which the ridge rules out.
    solved, _ = torch.linalg.solve_ex(products / scale[..., None, None] + ridge * identity, ones)
    return solved / solved.sum(-1, keepdim=True)
