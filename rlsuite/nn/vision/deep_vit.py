"""DeepViT (Zhou et al. 2021, arXiv:2103.11886): a vision transformer that can be deep, by re-attention.

    (B, C, H, W) -> patches as tokens (or a stem of convolutions), a class token, + places
                 -> [block with plain attention] x (depth - mixed) -> [block with re-attention] x mixed
                 -> LayerNorm -> the class token -> Linear -> (B, outputs)

Models made of a transformer alone have re-attention in every block; those with a stem have it in the last only, of
DeepViT-S in 5 of 16 and of DeepViT-L in 12 of 32, with branch_scale=0.5 (and -S scale=true). With mixed=0 it is a
plain ViT (Dosovitskiy et al. 2020, arXiv:2010.11929). Sides that patches do not fill are padded with black. First
weights have the paper's deviation at its width, and larger ones in narrower networks, mixed or not.

Shapes: B batch, C channels, H and W sides of a picture, N tokens, the class token first, F = width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require, require_choice, require_finite
from rlsuite.nn.vision.doors import FromBytes, sides
from rlsuite.nn.vision.re_attention import EPSILON, NORMS, STARTS, Block, HeadMixing

PAPER_WIDTH = 384  # at which first weights have the paper's deviation
DEEP = 16  # blocks, from which on there is re-attention where nobody says otherwise
STEMS = ("patches", "convolutions")
STEM_WIDTH = 64


@dataclass(frozen=True, kw_only=True)
class DeepViTConfig:
    """The network's sizes. The paper's: patch=16, width=384, heads=12, depth=16, 24 or 32.

    Attributes:
        patch: side of a token's pixels.
        width: F, numbers of a token.
        depth: blocks.
        heads: of the attention; they share the width.
        ratio: units between a block's two layers, in widths.
        mixed: blocks with re-attention, the last ones; -1 for all, 0 for a plain ViT; null: all of 16 or more (the
            paper's sizes), and none of fewer, which have few copies to undo.
        deviation: of first weights, the paper's at its width of 384. Linear layers have it times the root of 384 /
            width: a sum over fewer numbers needs larger weights to come out as large, and where scores come out small
            all attention maps begin alike.
        norm: behind the mixing of heads: "batch" (the paper's), "layer" or "none".
        start: the mixing's first weights: "random" (the paper's) or "identity".
        scale: mixed maps are divided by the root of a head's width.
        stem: "patches", or "convolutions": 7x7 in steps of two, 3x3, and one that reaches the patch, which is even.
        branch_scale: what branches see is multiplied by it, and what they add is divided.
        dropout: share of attention left out while learning.
        skipped: share of rows that pass by the last block's branches while learning; falls to 0 at the first.
    """

    patch: int = 8
    width: int = 128
    depth: int = 6
    heads: int = 4
    ratio: float = 3.0
    mixed: int | None = None
    deviation: float = 0.02
    norm: str = "batch"
    start: str = "random"
    scale: bool = False
    stem: str = "patches"
    branch_scale: float = 1.0
    dropout: float = 0.0
    skipped: float = 0.0

    def __post_init__(self) -> None:
        for name in ("patch", "width", "depth", "heads"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(
            self.width % self.heads == 0,
            f"width={self.width}: heads={self.heads} do not share it; use a multiple of {self.heads}",
        )
        require(int(self.ratio * self.width) >= 1, f"ratio={self.ratio}: use more, such as 3")
        require(
            self.mixed is None or -1 <= self.mixed <= self.depth,
            f"mixed={self.mixed}: use 0 to depth={self.depth}, or -1 for all",
        )
        require_finite("deviation", self.deviation, above=0.0)
        require_choice("norm", self.norm, NORMS)
        require_choice("start", self.start, STARTS)
        require_choice("stem", self.stem, STEMS)
        require(
            self.stem == "patches" or self.patch % 2 == 0, f"patch={self.patch}: stem=convolutions needs an even one"
        )
        require_finite("branch_scale", self.branch_scale, above=0.0)
        for name in ("dropout", "skipped"):
            value = getattr(self, name)
            require(0.0 <= value < 1.0, f"{name}={value}: use 0 or more, and less than 1")

    @property
    def mixed_blocks(self) -> int:
        """How many blocks have re-attention."""
        if self.mixed is None:
            return self.depth if self.depth >= DEEP else 0
        return self.depth if self.mixed == -1 else self.mixed


class DeepViT(nn.Module):
    """Pictures to numbers.

    Args:
        channels: C.
        size: W of square pictures, or (H, W).
        outputs: numbers returned.
        config: see DeepViTConfig.
        seed: of the first weights.
    """

    Config = DeepViTConfig

    def __init__(
        self, channels: int, size: int | tuple[int, int], outputs: int, config: DeepViTConfig, seed: int
    ) -> None:
        super().__init__()
        height, width = sides(size)
        down, right = -height % config.patch, -width % config.patch
        tokens = ((height + down) // config.patch) * ((width + right) // config.patch)
        self.padding = (0, right, 0, down)
        self.door = FromBytes()
        self.stem = _stem(channels, config)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.places = nn.Parameter(torch.zeros(1, 1 + tokens, config.width))
        self.blocks = nn.ModuleList(_block(config, place) for place in range(config.depth))
        self.norm = nn.LayerNorm(config.width, EPSILON)
        self.head = nn.Linear(config.width, outputs)
        self._draw(config, torch.Generator().manual_seed(seed))

    def features(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W), uint8 or in [0, 1], to what the last layer sees (B, F)."""
        tokens = self._tokens(pictures)
        for block in self.blocks:
            tokens, _, _ = block(tokens)
        return self.norm(tokens[:, 0])

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, C, H, W), uint8 or in [0, 1], to (B, outputs)."""
        return self.head(self.features(pictures))

    def with_maps(self, pictures: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return the outputs (B, outputs) and, for each block, two tensors (B, heads, N, N).

        The first is the softmax, the second what multiplied the values: the same in a block with plain attention.
        `rlsuite/metrics/attention.py` measures how similar they are; say of which.
        """
        tokens, softmax, used = self._tokens(pictures), [], []
        for block in self.blocks:
            tokens, looked, multiplied = block(tokens)
            softmax.append(looked)
            used.append(multiplied)
        return self.head(self.norm(tokens[:, 0])), softmax, used

    def _tokens(self, pictures: Tensor) -> Tensor:
        tokens = self.stem(functional.pad(self.door(pictures), self.padding)).flatten(2).transpose(1, 2)
        return torch.cat([self.class_token.expand(tokens.shape[0], -1, -1), tokens], dim=1) + self.places

    @torch.no_grad()
    def _draw(self, config: DeepViTConfig, generator: torch.Generator) -> None:
        for weight in (self.class_token, self.places):  # a token's numbers, of a size that no width changes
            nn.init.trunc_normal_(weight, std=config.deviation, generator=generator)
        deviation = config.deviation * (PAPER_WIDTH / config.width) ** 0.5
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=deviation, generator=generator)
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.Conv2d):  # as torch draws them, but from our own stream
                bound = layer.weight[0].numel() ** -0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                if layer.bias is not None:
                    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        for layer in self.modules():
            if isinstance(layer, HeadMixing):
                layer.draw(generator)


def _stem(channels: int, config: DeepViTConfig) -> nn.Module:
    if config.stem == "patches":
        return nn.Conv2d(channels, config.width, config.patch, config.patch)
    half = config.patch // 2
    return nn.Sequential(
        nn.Conv2d(channels, STEM_WIDTH, 7, 2, 3, bias=False),
        nn.BatchNorm2d(STEM_WIDTH),
        nn.ReLU(),
        nn.Conv2d(STEM_WIDTH, STEM_WIDTH, 3, 1, 1, bias=False),
        nn.BatchNorm2d(STEM_WIDTH),
        nn.ReLU(),
        nn.Conv2d(STEM_WIDTH, config.width, half, half),
    )


def _block(config: DeepViTConfig, place: int) -> Block:
    mixing = None
    if place >= config.depth - config.mixed_blocks:
        scale = (config.width // config.heads) ** -0.5 if config.scale else 1.0
        mixing = HeadMixing(config.heads, config.norm, config.start, scale)
    return Block(
        config.width,
        config.heads,
        int(config.ratio * config.width),
        mixing,
        dropout=config.dropout,
        skipped=config.skipped * place / max(1, config.depth - 1),
        branch_scale=config.branch_scale,
    )
