"""What is missing in a hole, by the smoothest surface that meets its border: for flow at run time, and for colors.

In a hole nobody sees how anything moves. The paper completes flow by another paper's learned network (FGVC); here the
Laplace equation is solved in the hole, from coarse to fine.

Shapes: B batch, C channels, H and W sides.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SWEEPS = 50  # at each size; each is half the one before
SMALLEST = 2  # of the sides


def completed(values: Tensor, hole: Tensor, sweeps: int = SWEEPS) -> Tensor:
    """Return values (B, C, H, W), in holes the mean of their four neighbours; 0 where all is hole.

    Args:
        values: what they are in holes does not matter, as long as it is finite.
        hole: (B, 1, H, W) bool.
        sweeps: of Jacobi's iteration at each size; beyond the border the picture repeats.
    """
    height, width = values.shape[2:]
    if min(height, width) >= 2 * SMALLEST:
        known = functional.pad((~hole).to(values.dtype), (0, width % 2, 0, height % 2))
        kept = functional.pad(torch.where(hole, 0.0, values), (0, width % 2, 0, height % 2))
        share = functional.avg_pool2d(known, 2)
        coarse = functional.avg_pool2d(kept, 2) / share.clamp_min(0.25)
        start = functional.interpolate(completed(coarse, share == 0, sweeps), scale_factor=2.0, mode="nearest")
        start = start[:, :, :height, :width]
    else:
        known = (~hole).to(values.dtype)
        count = known.sum(dim=(2, 3), keepdim=True)
        start = (torch.where(hole, 0.0, values).sum(dim=(2, 3), keepdim=True) / count.clamp_min(1.0)).expand_as(values)
    found = torch.where(hole, start, values)
    for _ in range(sweeps):
        around = functional.pad(found, (1, 1, 1, 1), mode="replicate")
        mean = 0.25 * (
            around[:, :, :-2, 1:-1] + around[:, :, 2:, 1:-1] + around[:, :, 1:-1, :-2] + around[..., 1:-1, 2:]
        )
        found = torch.where(hole, mean, found)
    return found
