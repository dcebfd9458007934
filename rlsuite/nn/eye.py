"""What off-policy agents for continuous actions see pictures with: one convolutional encoder, taught by the critics.

    (..., C, H, W) bytes -> [random shift] -> convolutions -> Linear -> LayerNorm -> tanh -> (..., F)

After DrQ-v2 (Yarats et al. 2022, arXiv:2107.09645, section 3.1): the critics' loss alone moves the encoder, actors see
its features without a gradient, next pictures go through the same encoder, and minibatches' pictures are moved by up to
`shift` pixels each way (Yarats et al. 2021, arXiv:2004.13649), without which values of pixels overfit. Here shifts are
of whole pixels, the border repeated; there a bilinear grid makes the same of them.

Shapes: K sets of B rows, C channels, H and W sides, F features.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rlsuite.errors import require
from rlsuite.nn.pictures import PictureNet
from rlsuite.nn.vision.conv_net import ConvNetConfig


@dataclass(frozen=True, kw_only=True)
class EyeConfig:
    """How pictures are seen.

    Attributes:
        network: the convolutions.
        features: F, what actors and critics get to see.
        shift: pixels by which pictures of minibatches are moved at random, at most; 0 leaves them alone.
    """

    network: ConvNetConfig = field(default_factory=lambda: ConvNetConfig(widths=(32, 32, 32), hidden=0))
    features: int = 64
    shift: int = 4

    def __post_init__(self) -> None:
        require(self.features >= 1, f"agent.vision.features={self.features}: use 1 or more")
        require(self.shift >= 0, f"agent.vision.shift={self.shift}: use 0 (none) or more")


class Eye(nn.Module):
    """Pictures to features.

    Args:
        shape: (C, H, W).
        config: see EyeConfig.
        seed: of the first weights.
    """

    def __init__(self, shape: tuple[int, int, int], config: EyeConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        self.network = PictureNet(shape, config.features, config.network, seed)
        self.norm = nn.LayerNorm(config.features)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map bytes (..., C, H, W) to features (..., F) in [-1, 1]."""
        rows = pictures.flatten(0, -4)
        return torch.tanh(self.norm(self.network(rows.unsqueeze(0))[0])).unflatten(0, pictures.shape[:-3])

    def learn(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """Map pictures of a minibatch, moved at random, to features (..., F)."""
        if self.config.shift:
            moved = random_shift(pictures.flatten(0, -4), self.config.shift, generator)
            pictures = moved.view(pictures.shape)
        return self(pictures)


class NoEye(nn.Module):
    """Stands where observations are vectors."""


def random_shift(pictures: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return pictures (B, C, H, W), each moved by -most to most whole pixels down and right, its border repeated."""
    count, channels, height, width = pictures.shape
    device = pictures.device
    moves = torch.randint(-most, most + 1, (2, count, 1), generator=generator, device=device)
    down = (torch.arange(height, device=device) - moves[0]).clamp_(0, height - 1)  # (B, H)
    right = (torch.arange(width, device=device) - moves[1]).clamp_(0, width - 1)
    place = (down.unsqueeze(2) * width + right.unsqueeze(1)).flatten(1)  # (B, H * W), of where each pixel comes from
    # One gather over the flat pixels takes a third of the time of indexing by rows and columns.
    return pictures.flatten(2).gather(2, place.unsqueeze(1).expand(-1, channels, -1)).view_as(pictures)
