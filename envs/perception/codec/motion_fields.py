"""Motion as M-LVC (arXiv:2004.10290) keeps it: in units of 20 pixels, and followed back over several frames.

Shapes: B batch, H and W sides; fields (B, 2, H, W), right and down, from each frame to the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from envs.perception.warp import warp

UNIT = 20.0  # pixels
FARTHEST = 512.0  # pixels; what is behind a camera moves without bounds


def to_units(flow: Tensor) -> Tensor:
    """Return a flow in pixels as a field in units."""
    return torch.nan_to_num(flow, nan=0.0).clamp(-FARTHEST, FARTHEST) / UNIT


def moved(pictures: Tensor, field: Tensor) -> Tensor:
    """Return pictures (B, C, H, W) warped by a field."""
    return warp(pictures, UNIT * field)


def accumulated(first: Tensor, earlier: Sequence[Tensor]) -> list[Tensor]:
    """Return the fields from now to one frame back, two frames back, ...

    Args:
        first: from now to the last frame.
        earlier: from the last frame to the one before it, and so on; each is warped to now before it is added.
    """
    found = [first]
    for field in earlier:
        found.append(found[-1] + moved(field, found[-1]))
    return found
