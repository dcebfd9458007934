"""Networks that turn pictures into pictures, and what judges them: pix2pix's and CycleGAN's, in any width.

pix2pix (Isola et al. 2017, arXiv:1611.07004) has a U-Net that goes down to one pixel, CycleGAN (Zhu et al. 2017,
arXiv:1703.10593) residual blocks at a quarter of the side. Both judge patches: each score of a PatchGAN is of a part of
the picture, of 70 x 70 pixels with `layers=3`. Sizes are those of the authors' public code; first weights are DCGAN's.

Shapes: B batch, C channels, H and W sides of a picture. Pictures are in [-1, 1].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require, require_choice
from rlsuite.generative.networks import draw_weights

KINDS = ("u_net", "resnet")
NORMS = ("batch", "instance")
DEEPEST = 8  # times the first layer's width is the most that a layer has


@dataclass(frozen=True, kw_only=True)
class TranslatorConfig:
    """A generator of pictures from pictures.

    Attributes:
        kind: "u_net" (pix2pix's) or "resnet" (CycleGAN's).
        width: channels of the first layer, 64 in both papers.
        levels: of "u_net": how often sides are halved; 8 takes 256 pixels to one.
        blocks: of "resnet"; 9 for pictures of 256 pixels.
        norm: "batch" (pix2pix) or "instance" (CycleGAN).
        dropout: share dropped while learning in up to three of the layers that follow the deepest; pix2pix has 0.5, and
            keeps it and the batch's statistics in use. Here a trained generator draws nothing.
    """

    kind: str = "u_net"
    width: int = 64
    levels: int = 8
    blocks: int = 9
    norm: str = "batch"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, KINDS)
        require_choice("norm", self.norm, NORMS)
        require(self.levels >= 2, f"levels={self.levels}: use 2 or more")
        for name in ("width", "blocks"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(0.0 <= self.dropout < 1.0, f"dropout={self.dropout}: use 0 or more, and less than 1")

    def scaled(self, ratio: float) -> TranslatorConfig:
        """Return the same network at a share of its width, rounded."""
        return dataclasses.replace(self, width=round(ratio * self.width))


class Translator(nn.Module):
    """Pictures (B, inputs, H, W) in [-1, 1] to pictures (B, outputs, H, W) in (-1, 1).

    Sides are padded to what halving asks for by repeating the last row and column, and cut back; of "resnet" they are
    8 or more, for its padding by reflection.

    Args:
        inputs: C of what comes in.
        outputs: C of what goes out.
        config: see TranslatorConfig.
        seed: of the first weights.
    """

    def __init__(self, inputs: int, outputs: int, config: TranslatorConfig, seed: int) -> None:
        super().__init__()
        self.multiple = 2**config.levels if config.kind == "u_net" else 4
        self.layers = _u_net(inputs, outputs, config) if config.kind == "u_net" else _resnet(inputs, outputs, config)
        draw_weights(self, seed)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the translated pictures."""
        height, width = pictures.shape[2:]
        padding = (0, -width % self.multiple, 0, -height % self.multiple)
        if any(padding):
            pictures = functional.pad(pictures, padding, mode="replicate")
        return self.layers(pictures)[:, :, :height, :width]


class _Level(nn.Module):
    """One halving with all that is below it; what comes in goes on beside what came back."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat((inputs, self.layers(inputs)), dim=1)


def _norm(config: TranslatorConfig, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if config.norm == "batch" else nn.InstanceNorm2d(channels)


def _u_net(inputs: int, outputs: int, config: TranslatorConfig) -> nn.Sequential:
    """The deepest level has no norm on its way down: there is one pixel in a picture of 2^levels."""
    widths = [config.width * min(2**level, DEEPEST) for level in range(config.levels)]
    bias = config.norm == "instance"
    below: list[nn.Module] = []
    for level in reversed(range(1, config.levels)):
        above, here, deepest = widths[level - 1], widths[level], level == config.levels - 1
        drops = config.dropout > 0 and not deepest and above == here and level >= config.levels - 4
        below = [
            _Level(
                nn.LeakyReLU(0.2),
                nn.Conv2d(above, here, 4, 2, 1, bias=bias),
                *([] if deepest else [_norm(config, here)]),
                *below,
                nn.ReLU(),
                nn.ConvTranspose2d(here if deepest else 2 * here, above, 4, 2, 1, bias=bias),
                _norm(config, above),
                *[nn.Dropout(config.dropout)] * drops,
            )
        ]
    first, last = nn.Conv2d(inputs, widths[0], 4, 2, 1, bias=bias), nn.ConvTranspose2d(2 * widths[0], outputs, 4, 2, 1)
    return nn.Sequential(first, *below, nn.ReLU(), last, nn.Tanh())


class _Block(nn.Module):
    """Two convolutions, added to what came in; nothing after the sum."""

    def __init__(self, width: int, config: TranslatorConfig, bias: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for place in range(2):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3, bias=bias), _norm(config, width)]
            if place == 0:
                layers += [nn.ReLU(), *[nn.Dropout(config.dropout)] * (config.dropout > 0)]
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.layers(inputs)


def _resnet(inputs: int, outputs: int, config: TranslatorConfig) -> nn.Sequential:
    bias, wide = config.norm == "instance", config.width
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(inputs, wide, 7, bias=bias), _norm(config, wide)]
    layers.append(nn.ReLU())
    for _ in range(2):
        layers += [nn.Conv2d(wide, 2 * wide, 3, 2, 1, bias=bias), _norm(config, 2 * wide), nn.ReLU()]
        wide *= 2
    layers += [_Block(wide, config, bias) for _ in range(config.blocks)]
    for _ in range(2):
        layers.append(nn.ConvTranspose2d(wide, wide // 2, 3, 2, 1, output_padding=1, bias=bias))
        layers += [_norm(config, wide // 2), nn.ReLU()]
        wide //= 2
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(wide, outputs, 7), nn.Tanh())


@dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """A discriminator of patches.

    Attributes:
        width: channels of the first block, 64 in both papers.
        layers: blocks of stride 2, before one of stride 1: 3 judge patches of 70 pixels, 2 of 34, 1 of 16.
        norm: "batch" or "instance".
    """

    width: int = 64
    layers: int = 3
    norm: str = "batch"

    def __post_init__(self) -> None:
        require_choice("norm", self.norm, NORMS)
        for name in ("width", "layers"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


class PatchDiscriminator(nn.Module):
    """Scores of a picture's patches, (B, 1, h, w), no sigmoid.

    Args:
        channels: C, of the picture and, beside it, of what it was made from where that is to be judged too.
        config: see PatchConfig.
        seed: of the first weights.

    Attributes:
        blocks: convolution, norm (not in the first) and activation; `layers` + 1 of them, the last of stride 1.
        head: from the last block's features to scores.
    """

    def __init__(self, channels: int, config: PatchConfig, seed: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        for place in range(config.layers + 1):
            wide = config.width * min(2**place, DEEPEST)
            stride, bias = 2 if place < config.layers else 1, place == 0 or config.norm == "instance"
            norm = nn.BatchNorm2d(wide) if config.norm == "batch" else nn.InstanceNorm2d(wide)
            convolution = nn.Conv2d(channels, wide, 4, stride, 1, bias=bias)
            self.blocks.append(nn.Sequential(convolution, *[norm] * (place > 0), nn.LeakyReLU(0.2)))
            channels = wide
        self.head = nn.Conv2d(channels, 1, 4, 1, 1)
        draw_weights(self, seed)

    def features(self, pictures: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """Return what blocks `taps` make of pictures; 0 is the first block, -1 the last. None after them is run."""
        wanted = [range(len(self.blocks))[tap] for tap in taps]
        found: dict[int, Tensor] = {}
        for place in range(max(wanted) + 1):
            found[place] = pictures = self.blocks[place](pictures)
        return [found[place] for place in wanted]

    def judge(self, pictures: Tensor, taps: Sequence[int] = ()) -> tuple[Tensor, list[Tensor]]:
        """Return scores and the features of `taps`, by one pass."""
        found = self.features(pictures, range(len(self.blocks)))
        return self.head(found[-1]), [found[tap] for tap in taps]

    def forward(self, pictures: Tensor) -> Tensor:
        """Return scores (B, 1, h, w) of pictures (B, C, H, W)."""
        return self.judge(pictures)[0]
