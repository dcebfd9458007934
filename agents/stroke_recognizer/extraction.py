"""Teaching an extractor: what its strokes draw shall be the clean glyph (arXiv:1806.08990, version 3, train.py).

The loss is the mean squared error of the glyph plus 0.01 times the cross-entropy of a head that sees the stroke numbers
alone. The renderer is the soft rasterizer, by formula; the paper's is a network that imitates the exact one. Where a
stroke lies beside the ink it has no gradient, and a minimum hears one stroke a pixel: so pen edges are wide and the
minimum is soft at first, and both harden over the first part of the training.

Shapes: B pictures, k strokes, W side.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.stroke_recognizer.extractor import Extractor, ExtractorConfig
from renderers.glyph import blank, write
from renderers.soft import EDGE, draw_soft
from renderers.strokes import GLYPH, GLYPH_SIZE
from rlsuite.data.source import Source
from rlsuite.errors import require, require_finite
from rlsuite.fit import FitConfig, Hook, fit
from rlsuite.fit_run import History
from rlsuite.optim.choice import OptimizerConfig
from rlsuite.running.seeding import derive_seed


@dataclass(frozen=True, kw_only=True)
class ExtractionConfig:
    """How an extractor is taught.

    Attributes:
        extractor: which network.
        classes: of the characters.
        auxiliary: weight of the head's cross-entropy.
        edge: width of pen edges at the beginning; at the end it is the soft rasterizer's own.
        temperature: of the minimum at the beginning; at the end it is the minimum itself.
        soft_share: of the training, after which both are what they are at the end.
        fit: the loop: minibatches of 64, Adam with 3e-4 in the paper; two cores learn faster with 1e-3.
    """

    extractor: ExtractorConfig = field(default_factory=ExtractorConfig)
    classes: int = 10
    auxiliary: float = 0.01
    edge: float = 4.0
    temperature: float = 0.1
    soft_share: float = 0.5
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(steps=1000, order="random", optimizer=OptimizerConfig(learning_rate=1e-3))
    )

    def __post_init__(self) -> None:
        require(self.classes >= 2, f"classes={self.classes}: use 2 or more")
        for name in ("auxiliary", "temperature"):
            require_finite(name, getattr(self, name), low=0.0)
        require_finite("edge", self.edge, low=EDGE)
        require(0.0 < self.soft_share <= 1.0, f"soft_share={self.soft_share}: use a share above 0, at most 1")


class StrokeHead(nn.Module):
    """Classes from stroke numbers (B, 9 k) alone: Linear 256, ReLU, Linear.

    Args:
        strokes: k.
        classes: C.
        seed: of the first weights.
    """

    def __init__(self, strokes: int, classes: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Linear(GLYPH_SIZE * strokes, 256), nn.ReLU(), nn.Linear(256, classes))

    def forward(self, numbers: Tensor) -> Tensor:
        """Return scores (B, C)."""
        return self.layers(numbers)


class Extraction(nn.Module):
    """An extractor while it learns, with the head and the state of the schedule.

    Args:
        config: see ExtractionConfig.
        seed: of the first weights.
    """

    def __init__(self, config: ExtractionConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        self.extractor = Extractor(config.extractor, derive_seed(seed, "extractor"))
        self.head = StrokeHead(config.extractor.strokes, config.classes, derive_seed(seed, "head"))
        self.edge, self.temperature = config.edge, config.temperature

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return strokes (B, 9 k), glyphs (B, 1, W, W) and scores of classes (B, C) of pictures (B, C, H, W)."""
        size = self.config.extractor.size
        numbers = self.extractor(pictures)
        renderer = functools.partial(draw_soft, size=size, brush=GLYPH, edge=self.edge)
        glyph = write(blank(len(numbers), size, numbers), numbers, renderer, temperature=self.temperature)
        return numbers, glyph, self.head(numbers)

    def harden(self, step: int, share: float) -> None:
        """Set the pen's edge and the minimum's temperature for a share of the training; a hook of `fit`."""
        config = self.config
        left = max(0.0, 1.0 - share / config.soft_share)
        self.edge = EDGE * (config.edge / EDGE) ** left
        self.temperature = config.temperature * left if left > 1e-3 else 0.0


def extraction_loss(module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return "loss", and of it "error" (the glyphs' mean squared error) and "cross_entropy"."""
    assert isinstance(module, Extraction)
    _, glyph, scores = module(batch["input"])
    error = functional.mse_loss(glyph, batch["clean"])
    cross_entropy = functional.cross_entropy(scores, batch["label"])
    return {"loss": error + module.config.auxiliary * cross_entropy, "error": error, "cross_entropy": cross_entropy}


def teach_extractor(
    config: ExtractionConfig,
    source: Source,
    *,
    seed: int,
    run_dir: Path | None = None,
    about: dict[str, object] | None = None,
    hooks: tuple[Hook, ...] = (),
    device: torch.device | str = "cpu",
) -> tuple[Extraction, History]:
    """Teach an extractor from noisy pictures beside their clean glyphs.

    Args:
        config: how.
        source: examples with "input" (B, C, H, W), "clean" (B, 1, W, W) and "label" (B,).
        seed: of weights and minibatches.
        run_dir: of log and checkpoints; what was interrupted goes on there, to the same bits. None for neither.
        about: what the examples are, which a run that goes on has to agree with.
        hooks: as `fit` takes them.
        device: cpu or cuda.
    """
    module = Extraction(config, seed).to(device)
    kept = {
        "strokes": config.extractor.strokes,
        "network": config.extractor.network,
        "size": config.extractor.size,
        "soft": [config.edge, config.temperature, config.soft_share, config.auxiliary],
        **(about or {}),
    }
    history = fit(
        module,
        extraction_loss,
        source,
        config.fit,
        seed=derive_seed(seed, "fit"),
        hooks=(module.harden, *hooks),
        run_dir=run_dir,
        about=kept,
    )
    return module.eval(), history
