"""Pictures moved by optical flow.

Shapes: B batch, C channels, H and W sides; flow (B, 2, H, W) in pixels, right and down.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional

_ROUNDING = 1e-3  # pixels beyond the border that are on it


def warp(pictures: Tensor, flow: Tensor) -> Tensor:
    """Return at each pixel what `pictures` (B, C, H, W) show at that pixel plus its flow: a backward warp.

    Between pixels bilinear; what lies outside is the nearest pixel of the border. Coordinates are float32 whatever the
    pictures are: in half precision they would be whole pixels beyond 2,048 (users of the official code saw it).
    """
    height, width = flow.shape[2:]
    across, down = _places(height, width, flow.device)
    places = torch.stack(
        [
            (across + flow[:, 0].float()) * (2.0 / max(width - 1, 1)) - 1.0,
            (down + flow[:, 1].float()) * (2.0 / max(height - 1, 1)) - 1.0,
        ],
        dim=-1,
    )
    moved = functional.grid_sample(pictures.float(), places, mode="bilinear", padding_mode="border", align_corners=True)
    return moved.to(pictures.dtype)


def inside(flow: Tensor) -> Tensor:
    """Return whether what a flow (B, 2, H, W) leads to lies in the picture, (B, 1, H, W) bool."""
    height, width = flow.shape[2:]
    across, down = _places(height, width, flow.device)
    x, y = across + flow[:, 0].float(), down + flow[:, 1].float()
    within = (x > -_ROUNDING) & (x < width - 1 + _ROUNDING) & (y > -_ROUNDING) & (y < height - 1 + _ROUNDING)
    return within.unsqueeze(1)


@functools.lru_cache(maxsize=16)
def _places(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the pixels' columns (1, 1, W) and rows (1, H, 1)."""
    across = torch.arange(width, dtype=torch.float32, device=device).view(1, 1, width)
    return across, torch.arange(height, dtype=torch.float32, device=device).view(1, height, 1)


def resized(planes: Tensor, factor: float) -> Tensor:
    """Return (B, C, H, W) enlarged by a factor, or reduced where it is below 1; bilinear, pixels are squares."""
    if factor == 1.0:
        return planes
    return functional.interpolate(
        planes, scale_factor=factor, mode="bilinear", align_corners=False, recompute_scale_factor=False
    )


def resized_flow(flow: Tensor, factor: float) -> Tensor:
    """Return flow (B, C, H, W) of pictures enlarged by a factor, its numbers in their pixels."""
    return resized(flow, factor) * factor


def flow_at(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Return flow (B, 2, H, W) of pictures resized to `size`, its numbers in their pixels."""
    height, width = flow.shape[2:]
    if (height, width) == tuple(size):
        return flow
    scale = flow.new_tensor([size[1] / width, size[0] / height]).view(1, 2, 1, 1)
    return functional.interpolate(flow, size=size, mode="bilinear", align_corners=False) * scale
