"""A small network whose every convolution has a shortcut, as networks of 1-bit convolutions want it.

    (B, C, H, W) -> Conv3x3, BatchNorm, Hardtanh -> [Conv3x3, BatchNorm, + shortcut, Hardtanh] x n
                 -> mean over what is left -> BatchNorm -> Linear -> (B, outputs)

One shortcut a convolution (Liu et al. 2018, arXiv:1808.00278, "Bi-Real net"); BatchNorm, shortcut and Hardtanh in the
order of RBNN (arXiv:2009.13055), whose code also starts the blocks' BatchNorm at 1e-8, so that shortcuts carry all at
first. Where the shape changes they have no weights: every second pixel is kept and channels of zeros are added on both
sides (He et al. 2016, arXiv:1512.03385, option A). The first convolution and the last layer are those to stay float.

Shapes: B batch, C channels, H and W sides of a picture, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require
from rlsuite.nn.vision.blocks import draw_weights
from rlsuite.nn.vision.doors import FromBytes, sides

FIRST_GAIN = 1e-8


@dataclass(frozen=True, kw_only=True)
class BiRealConfig:
    """The network's sizes.

    Attributes:
        stem: channels of the first convolution.
        widths: channels of each convolution with a shortcut, never fewer than before it.
        strides: of each of these; () for 1 in all.
    """

    stem: int = 16
    widths: tuple[int, ...] = (16, 16, 16)
    strides: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(self.stem >= 1, f"stem={self.stem}: use 1 or more")
        rising = bool(self.widths) and sorted((self.stem, *self.widths)) == [self.stem, *self.widths]
        require(rising, f"widths={list(self.widths)}: use widths that never fall below stem={self.stem} or each other")
        require(
            not self.strides or (len(self.strides) == len(self.widths) and min(self.strides) >= 1),
            f"strides={list(self.strides)}: use {len(self.widths)} strides of 1 or more, one for each width, or []",
        )


class BiRealBlock(nn.Module):
    """A convolution with a shortcut that has no weights."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, outputs - inputs
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.constant_(self.norm.weight, FIRST_GAIN)
        self.activation = nn.Hardtanh()

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride), rounded up."""
        branch = self.norm(self.convolution(inputs))
        before = self.added // 2
        kept = inputs[..., :: self.stride, :: self.stride]
        return self.activation(branch + functional.pad(kept, (0, 0, 0, 0, before, self.added - before)))


class BiRealNet(nn.Module):
    """Pictures to numbers.

    Args:
        channels: C.
        size: W of square pictures, or (H, W); any.
        outputs: numbers returned.
        config: see BiRealConfig.
        seed: of the first weights.
    """

    Config = BiRealConfig

    def __init__(
        self, channels: int, size: int | tuple[int, int], outputs: int, config: BiRealConfig, seed: int
    ) -> None:
        super().__init__()
        sides(size)
        wide = config.stem
        layers: list[nn.Module] = [FromBytes(), nn.Conv2d(channels, wide, 3, 1, 1, bias=False), nn.BatchNorm2d(wide)]
        layers.append(nn.Hardtanh())
        for width, stride in zip(config.widths, config.strides or (1,) * len(config.widths), strict=True):
            layers.append(BiRealBlock(wide, width, stride))
            wide = width
        self.body = nn.Sequential(*layers)
        self.norm = nn.BatchNorm1d(wide)
        self.head = nn.Linear(wide, outputs)
        draw_weights(self, seed)

    def features(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W), uint8 or in [0, 1], to what the last layer sees (B, F)."""
        return self.norm(self.body(pictures).mean(dim=(2, 3)))

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W), uint8 or in [0, 1], to (B, outputs)."""
        return self.head(self.features(pictures))
