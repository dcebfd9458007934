"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597), for pictures of any size: a number for each pixel and output.

    (B, C, H, W) -> two convolutions, w ------------------------------------- joined -> two convolutions, w -> Conv1x1
                      +-> halved, two convolutions, 2w --------- joined -> two, 2w -> doubled -+
                            +-> halved, two convolutions, 4w -> doubled -+               levels = 2

Convolutions are 3x3 with padding and ReLU, halving is the largest of 2x2, doubling repeats pixels and convolves. Sides
are padded to multiples of 2^levels by repeating the last row and column, and the outputs are cut back.

Shapes: B batch, C channels, H and W sides of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require
from rlsuite.nn.vision.blocks import draw_weights
from rlsuite.nn.vision.doors import FromBytes, sides


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The network's sizes.

    Attributes:
        width: w, channels at full resolution; each level doubles them.
        levels: how many times the sides are halved.
    """

    width: int = 16
    levels: int = 3

    def __post_init__(self) -> None:
        for name in ("width", "levels"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


class UNet(nn.Module):
    """Pictures to pictures of numbers, their range free.

    Args:
        channels: C.
        size: W of square pictures, or (H, W); any, also other ones later.
        outputs: numbers returned for each pixel.
        config: see UNetConfig.
        seed: of the first weights.
    """

    Config = UNetConfig

    def __init__(self, channels: int, size: int | tuple[int, int], outputs: int, config: UNetConfig, seed: int) -> None:
        super().__init__()
        sides(size)
        self.door, self.multiple = FromBytes(), 2**config.levels
        widths = [config.width * 2**level for level in range(config.levels + 1)]
        self.down = nn.ModuleList(
            _two(inputs, wide) for inputs, wide in zip([channels, *widths[:-1]], widths, strict=True)
        )
        pairs = list(zip(widths[:-1], widths[1:], strict=True))[::-1]
        self.doubled = nn.ModuleList(nn.Conv2d(deep, wide, 3, padding=1) for wide, deep in pairs)
        self.up = nn.ModuleList(_two(2 * wide, wide) for wide, _ in pairs)
        self.head = nn.Conv2d(config.width, outputs, 1)
        draw_weights(self, seed)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W), uint8 or in [0, 1], to (B, outputs, H, W)."""
        hidden = self.door(pictures)
        height, width = hidden.shape[2:]
        hidden = functional.pad(hidden, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        kept: list[Tensor] = []
        for place, block in enumerate(self.down):
            hidden = block(functional.max_pool2d(hidden, 2) if place else hidden)
            kept.append(hidden)
        kept.pop()
        for doubled, block in zip(self.doubled, self.up, strict=True):
            hidden = doubled(functional.interpolate(hidden, scale_factor=2.0, mode="nearest"))
            hidden = block(torch.cat([hidden, kept.pop()], dim=1))
        return self.head(hidden)[:, :, :height, :width]


def _two(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(),
    )
