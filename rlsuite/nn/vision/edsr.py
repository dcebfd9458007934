"""EDSR, super-resolution (Lim et al. 2017, arXiv:1707.02921, section 3), as a correction of bicubic enlargement.

    (B, C, H, W) -> Conv3x3, w -> [x + s * (Conv3x3, ReLU, Conv3x3)(x)] x blocks -> Conv3x3 -> + the first's output
                 -> [Conv3x3 to 4w or 9w, PixelShuffle] until `scale` -> Conv3x3 -> + bicubic enlargement

No normalization anywhere. The paper's network draws the whole picture; here the last convolution starts at zero and the
bicubic picture is added, so that an untrained network is bicubic enlargement, bit for bit.

Shapes: B batch, C channels, H and W sides of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require, require_finite
from rlsuite.nn.vision.blocks import draw_weights
from rlsuite.nn.vision.doors import FromBytes, Site, sides

SCALES = (1, 2, 3, 4)
GAIN = (
    6**-0.5
)  # torch's own deviation, as the paper's code has: with He's, sums of blocks without normalization explode


@dataclass(frozen=True, kw_only=True)
class EDSRConfig:
    """The network's sizes; the paper's baseline has 64 channels and 16 blocks.

    Attributes:
        width: w, channels.
        blocks: residual blocks.
        scale: how many times larger the picture becomes: 1 (a restored picture), 2, 3 or 4.
        residual_scale: s; 0.1 where w is 256 (section 3.3).
    """

    width: int = 32
    blocks: int = 4
    scale: int = 2
    residual_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("width", "blocks"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(self.scale in SCALES, f"scale={self.scale}: use {', '.join(map(str, SCALES))}")
        require_finite("residual_scale", self.residual_scale, above=0.0)


class ResidualBlock(nn.Module):
    """x + s * (Conv3x3, ReLU, Conv3x3)(x), with sites at its input, at the branch, at the shortcut and at the sum."""

    def __init__(self, width: int, residual_scale: float) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.input, self.branch, self.skip, self.sum = (Site(kind, width) for kind in Site.KINDS)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, w, H, W) to the same shape."""
        inputs = self.input(inputs)
        branch = self.branch(self.second(self.relu(self.first(inputs))))
        return self.sum(self.skip(inputs) + self.residual_scale * branch)


class EDSR(nn.Module):
    """Pictures to larger pictures in about [0, 1] (not clipped, so that gradients pass).

    Args:
        channels: C.
        size: W of square pictures, or (H, W); any, also other ones later.
        outputs: channels of the result: C, since it corrects the enlarged picture.
        config: see EDSRConfig.
        seed: of the first weights.

    Raises:
        UserError: where outputs differ from channels.
    """

    Config = EDSRConfig

    def __init__(self, channels: int, size: int | tuple[int, int], outputs: int, config: EDSRConfig, seed: int) -> None:
        super().__init__()
        sides(size)
        require(outputs == channels, f"outputs={outputs}: edsr returns the {channels} channels it is given")
        self.door, self.scale = FromBytes(), config.scale
        wide = config.width
        self.head = nn.Conv2d(channels, wide, 3, padding=1)
        blocks = [ResidualBlock(wide, config.residual_scale) for _ in range(config.blocks)]
        self.body = nn.Sequential(*blocks, nn.Conv2d(wide, wide, 3, padding=1))
        enlarge: list[nn.Module] = []
        for factor in {1: (), 2: (2,), 3: (3,), 4: (2, 2)}[config.scale]:
            enlarge += [nn.Conv2d(wide, factor * factor * wide, 3, padding=1), nn.PixelShuffle(factor)]
        self.tail = nn.Sequential(*enlarge, nn.Conv2d(wide, channels, 3, padding=1))
        draw_weights(self, seed, GAIN)
        with torch.no_grad():
            self.tail[-1].weight.zero_()  # type: ignore[operator]

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W), uint8 or in [0, 1], to (B, C, scale H, scale W)."""
        pictures = self.door(pictures)
        first = self.head(pictures)
        correction = self.tail(self.body(first) + first)
        if self.scale == 1:
            return pictures + correction
        return correction + functional.interpolate(
            pictures, scale_factor=float(self.scale), mode="bicubic", align_corners=False
        )
