"""A small convolutional network from pictures to numbers: a policy's eye, or a classifier of digits.

    (B, C, H, W) -> [Conv3x3, BatchNorm if asked for, ReLU] x len(widths)
        -> flatten, or the mean over pixels -> Linear, ReLU -> Linear -> (B, outputs)

With batch_norm=True every convolution is followed by BatchNorm and has no bias: the painter's actor
(agents/painter/networks.py, kind "small") is such a network with hidden=0 and squash=sigmoid.

Shapes: B batch, C channels, H and W sides of a picture, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from rlsuite.errors import require, require_choice
from rlsuite.nn.plain import SQUASHES
from rlsuite.nn.vision.blocks import draw_weights, normalized_convolution
from rlsuite.nn.vision.doors import FromBytes, sides


@dataclass(frozen=True, kw_only=True)
class ConvNetConfig:
    """The network's sizes.

    Attributes:
        widths: channels of each convolution.
        strides: of each convolution; () for 2, which halves the sides, in all.
        hidden: F, units of the layer before the last; 0 for none.
        batch_norm: BatchNorm behind every convolution.
        squash: of what comes out: "tanh", "sigmoid" or "none".
        pool: the mean over pixels instead of all of them.
    """

    widths: tuple[int, ...] = (32, 64, 64)
    strides: tuple[int, ...] = ()
    hidden: int = 128
    batch_norm: bool = False
    squash: str = "none"
    pool: bool = False

    def __post_init__(self) -> None:
        require(
            bool(self.widths) and min(self.widths) >= 1,
            f"widths={list(self.widths)}: use widths of 1 or more, such as [32,64,64]",
        )
        require(
            not self.strides or (len(self.strides) == len(self.widths) and min(self.strides) >= 1),
            f"strides={list(self.strides)}: use {len(self.widths)} strides of 1 or more, one for each width, or []",
        )
        require(self.hidden >= 0, f"hidden={self.hidden}: use 0 (none) or more")
        require_choice("squash", self.squash, SQUASHES)


class ConvNet(nn.Module):
    """Pictures to numbers.

    Args:
        channels: C.
        size: W of square pictures, or (H, W).
        outputs: numbers returned.
        config: see ConvNetConfig.
        seed: of the first weights.
    """

    Config = ConvNetConfig

    def __init__(
        self, channels: int, size: int | tuple[int, int], outputs: int, config: ConvNetConfig, seed: int
    ) -> None:
        super().__init__()
        height, width = sides(size)
        layers: list[nn.Module] = [FromBytes()]
        strides = config.strides or (2,) * len(config.widths)
        for wide, stride in zip(config.widths, strides, strict=True):
            if config.batch_norm:
                layers.append(normalized_convolution(channels, wide, 3, stride, batch_norm=True))
            else:
                layers.append(nn.Conv2d(channels, wide, 3, stride=stride, padding=1))
            layers.append(nn.ReLU())
            channels, height, width = wide, -(-height // stride), -(-width // stride)
        layers += [*[nn.AdaptiveAvgPool2d(1)] * config.pool, nn.Flatten()]
        features = channels * (1 if config.pool else height * width)
        if config.hidden:
            layers += [nn.Linear(features, config.hidden), nn.ReLU()]
            features = config.hidden
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(features, outputs)
        self.squash = SQUASHES[config.squash]()
        draw_weights(self, seed)

    def features(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W), uint8 or in [0, 1], to what the last layer sees (B, F)."""
        return self.body(pictures)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W), uint8 or in [0, 1], to (B, outputs)."""
        return self.squash(self.head(self.body(pictures)))
