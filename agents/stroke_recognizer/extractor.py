"""From a picture to the strokes of the character in it, in one pass (arXiv:1806.08990, version 3).

The official vggnet.py and resnet.py, and a network for two cores.

Shapes: B pictures, C channels (1 or 3), W side, k strokes of nine numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.characters.pixels import luma
from renderers.strokes import GLYPH_SIZE
from rlsuite.errors import require, require_choice
from rlsuite.nn.vision.blocks import draw_weights, normalized_convolution, stages
from rlsuite.nn.vision.doors import FromBytes
from rlsuite.running.seeding import derive_seed

NETWORKS = ("vgg16", "resnet", "small")
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


@dataclass(frozen=True, kw_only=True)
class ExtractorConfig:
    """Which network.

    Attributes:
        size: W; vgg16 wants a multiple of 32, resnet of 16, small of 8.
        strokes: k; the paper has 4 for digits.
        network: "vgg16" with BatchNorm (the paper's), "resnet" (its small one: blocks of widths 8, 8, 16, 32), or
            "small" (three convolutions of stride 2, of widths 32, 64, 128: for two cores).
        equalize: spread the luma's histogram evenly first, as the official code does.
    """

    size: int = 32
    strokes: int = 4
    network: str = "small"
    equalize: bool = True

    def __post_init__(self) -> None:
        require_choice("network", self.network, NETWORKS)
        least = {"vgg16": 32, "resnet": 16, "small": 8}[self.network]
        require(
            self.size >= least and self.size % least == 0,
            f"size={self.size}: network={self.network} needs a multiple of {least}",
        )
        require(1 <= self.strokes <= 64, f"strokes={self.strokes}: use 1 to 64")


class Extractor(nn.Module):
    """Pictures to strokes. What comes in is resized to W and equalized inside.

    Args:
        config: see ExtractorConfig.
        seed: of the first weights.
    """

    def __init__(self, config: ExtractorConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        numbers = GLYPH_SIZE * config.strokes
        layers: list[nn.Module] = []
        channels, side = 3, config.size
        if config.network == "vgg16":
            for widths in VGG16:
                for wide in widths:
                    layers += [normalized_convolution(channels, wide, 3, 1, batch_norm=True), nn.ReLU()]
                    channels = wide
                layers.append(nn.MaxPool2d(2))
            features = 512 * (side // 32) ** 2
            head = [nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, numbers)]
        elif config.network == "resnet":
            layers += [normalized_convolution(3, 8, 3, 1, batch_norm=True), nn.ReLU()]
            layers.append(stages(8, (8, 8, 16, 32), (2, 2, 2, 2), batch_norm=True))
            head = [nn.Linear(32 * (side // 16) ** 2, numbers)]
        else:
            for wide in (32, 64, 128):
                layers += [normalized_convolution(channels, wide, 3, 2, batch_norm=True), nn.ReLU()]
                channels = wide
            head = [nn.Linear(128 * (side // 8) ** 2, numbers)]
        self.door = FromBytes()
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(*head)
        draw_weights(self, seed)
        _spread(self.head[-1], config.strokes, seed)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W), uint8 or in [0, 1], to strokes (B, 9 k) in [0, 1]; see renderers/glyph.py."""
        seen = prepared(self.door(pictures), self.config.size)
        if self.config.equalize:
            seen = equalized(seen)
        return torch.sigmoid(self.head(self.body(seen)))


@torch.no_grad()
def _spread(last: nn.Module, strokes: int, seed: int) -> None:
    """Let strokes begin thin and all over the paper: two that begin as one get the same gradients and stay one."""
    assert isinstance(last, nn.Linear)
    last.weight.mul_(0.1)
    generator = torch.Generator().manual_seed(derive_seed(seed, "strokes"))
    places = 3.0 * torch.rand((strokes, 6), generator=generator) - 1.5
    last.bias.copy_(torch.cat([places, torch.full((strokes, 3), -1.0)], dim=1).flatten())


def prepared(pictures: Tensor, size: int) -> Tensor:
    """Return pictures (B, 1 or 3, H, W) in [0, 1] as (B, 3, W, W)."""
    if pictures.shape[2:] != (size, size):
        larger = max(pictures.shape[2:]) > size
        pictures = functional.interpolate(
            pictures, (size, size), mode="bilinear", align_corners=False, antialias=larger
        ).clamp(0.0, 1.0)
    return pictures.expand(-1, 3, -1, -1)


def equalized(pictures: Tensor) -> Tensor:
    """Spread the histogram of the luma of pictures (B, 3, H, W) in [0, 1] evenly, as OpenCV's equalizeHist does.

    Colour differences (U and V) stay as they are, so every channel moves by as much as the luma does, and ends at 0 or
    1 where that leads beyond. The histogram's 256 steps have no gradient, so it passes as if nothing had been done
    (BPDA, see docs/characters.md).
    """
    with torch.no_grad():
        grey = luma(pictures)
        level = (grey * 255.0).round().clamp(0, 255).long().flatten(1)
        count = torch.zeros(len(level), 256, device=level.device).scatter_add_(1, level, torch.ones_like(level).float())
        below = count.cumsum(1)
        first = count.gather(1, level.amin(1, keepdim=True))  # of the darkest level there is
        share = (below - first) / (level.shape[1] - first).clamp_min(1.0)
        flat = first == level.shape[1]  # one grey: left alone
        spread = torch.where(flat, grey.flatten(1), share.gather(1, level)).view_as(grey)
        found = (pictures + (spread - grey)).clamp(0.0, 1.0)
    return found + (pictures - pictures.detach())
