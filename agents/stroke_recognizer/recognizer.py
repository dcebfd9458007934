"""Which character is it: three readers of what was redrawn, and the plain one beside them (arXiv:1806.08990).

- "redraw": an ordinary classifier of clean glyphs, shown the redrawn one. The plain reader is the same network, shown
  the picture itself.
- "params": Linear 256 on the stroke numbers.
- "both": a classifier of two channels, the picture and the redrawn glyph.

Shapes: B pictures, W side, k strokes, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.stroke_recognizer.extraction import StrokeHead
from agents.stroke_recognizer.extractor import prepared
from envs.characters.attacked import NETWORK
from envs.characters.pixels import luma
from rlsuite.data.arrays import Arrays
from rlsuite.data.source import Source
from rlsuite.errors import require, require_choice
from rlsuite.fit import FitConfig, fit
from rlsuite.nn.vision.conv_net import ConvNet, ConvNetConfig
from rlsuite.nn.vision.doors import FromBytes
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.running.seeding import derive_seed

WAYS = ("redraw", "params", "both")


@dataclass(frozen=True, kw_only=True)
class RecognizerConfig:
    """Which reader.

    Attributes:
        size: W.
        classes: C.
        way: one of WAYS.
        strokes: k.
        network: of the two that look at pictures.
        fit: how it learns.
    """

    size: int = 32
    classes: int = 10
    way: str = "redraw"
    strokes: int = 4
    network: ConvNetConfig = field(default_factory=lambda: NETWORK)
    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=600, optimizer=OptimizerConfig(learning_rate=1e-3)))

    def __post_init__(self) -> None:
        require_choice("way", self.way, WAYS)
        for name in ("size", "classes", "strokes"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


class Recognizer(nn.Module):
    """From a picture, the strokes found in it and what they draw, to scores of classes.

    Args:
        config: see RecognizerConfig.
        seed: of the first weights.
    """

    def __init__(self, config: RecognizerConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        if config.way == "params":
            self.network: nn.Module = StrokeHead(config.strokes, config.classes, seed)
        else:
            channels = 2 if config.way == "both" else 1
            self.network = ConvNet(channels, config.size, config.classes, config.network, seed)

    def forward(self, grey: Tensor, numbers: Tensor, glyph: Tensor) -> Tensor:
        """Return scores (B, C).

        Args:
            grey: (B, 1, W, W) in [0, 1], the picture.
            numbers: (B, 9 k), its strokes.
            glyph: (B, 1, W, W), what they draw.
        """
        if self.config.way == "params":
            return self.network(numbers)
        return self.network(torch.cat([grey, glyph], dim=1) if self.config.way == "both" else glyph)


class PlainReader(nn.Module):
    """The reader of clean glyphs shown pictures as they are: what a defence is put before.

    Args:
        recognizer: of the way "redraw".
    """

    def __init__(self, recognizer: Recognizer) -> None:
        super().__init__()
        self.door, self.recognizer = FromBytes(), recognizer

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures (B, 1 or 3, H, W), uint8 or in [0, 1], to scores (B, C)."""
        size = self.recognizer.config.size
        return self.recognizer.network(luma(prepared(self.door(pictures), size)))


def teach_recognizer(recognizer: Recognizer, examples: Source, seed: int) -> None:
    """Teach a reader, in place.

    Args:
        recognizer: which.
        examples: with "grey", "numbers", "glyph" and "label"; of clean glyphs, where it is to read ordinary ones.
        seed: of minibatches.
    """

    def loss(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        scores = module(batch["grey"], batch["numbers"], batch["glyph"])
        return {"loss": functional.cross_entropy(scores, batch["label"])}

    fit(recognizer, loss, examples, recognizer.config.fit, seed=derive_seed(seed, recognizer.config.way))
    recognizer.eval()


def clean_examples(picture: Tensor, label: Tensor, strokes: int) -> Arrays:
    """Return clean glyphs (M, 1, W, W) uint8 as examples for a reader of the way "redraw"."""
    glyph = picture.float() / 255.0
    return Arrays({"grey": glyph, "glyph": glyph, "numbers": glyph.new_zeros(len(glyph), 9 * strokes), "label": label})
