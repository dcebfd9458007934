"""ResNet-20 for small pictures (He et al. 2016, arXiv:1512.03385, section 4.2).

    (B, C, H, W) -> Conv3x3, BatchNorm, ReLU -> 3 stages of 3 basic blocks, widths w, 2w, 4w, strides 1, 2, 2
                 -> mean over what is left -> Linear -> (B, outputs)

Shortcuts are projected where the shape changes (the paper's option B): 272,474 weights with w = 16, 3 channels and 10
outputs. The paper's own shortcuts on CIFAR-10 have no weights (option A, 269,722 in all). Any size will do, since the
last layer sees means.

Shapes: B batch, C channels, H and W sides of a picture, F = 4w features.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from rlsuite.errors import require
from rlsuite.nn.vision.blocks import activation, draw_weights, normalized_convolution, stages
from rlsuite.nn.vision.doors import FromBytes, sides


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """The network's sizes.

    Attributes:
        width: w, channels of the first stage.
        depth: blocks of a stage: 3 for ResNet-20, n for ResNet-(6n + 2).
    """

    width: int = 16
    depth: int = 3

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


class ResNet20(nn.Module):
    """Pictures to numbers, such as the scores of classes.

    Args:
        channels: C.
        size: W of square pictures, or (H, W); any.
        outputs: numbers returned.
        config: see ResNetConfig.
        seed: of the first weights.
    """

    Config = ResNetConfig

    def __init__(
        self, channels: int, size: int | tuple[int, int], outputs: int, config: ResNetConfig, seed: int
    ) -> None:
        super().__init__()
        sides(size)
        wide = config.width
        self.body = nn.Sequential(
            FromBytes(),
            normalized_convolution(channels, wide, 3, 1, batch_norm=True),
            activation(batch_norm=True),
            stages(wide, (wide, 2 * wide, 4 * wide), (1, 2, 2), batch_norm=True, depth=config.depth),
        )
        self.head = nn.Linear(4 * wide, outputs)
        draw_weights(self, seed)

    def features(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W), uint8 or in [0, 1], to what the last layer sees (B, F)."""
        return self.body(pictures).mean(dim=(2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W), uint8 or in [0, 1], to (B, outputs)."""
        return self.head(self.features(pictures))
