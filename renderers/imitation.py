"""Training the neural renderer on strokes drawn by the exact rasterizer (Learning to Paint, arXiv:1903.04411).

Shapes: B strokes a minibatch, W side of the canvas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from renderers.bezier import draw_exact
from renderers.neural import DECODERS, NeuralRenderer
from renderers.strokes import GLYPH, RASTERIZED, SHAPE_SIZE
from rlsuite.data.arrays import Arrays
from rlsuite.data.counters import uniform_float32
from rlsuite.data.source import Source
from rlsuite.errors import require, require_choice
from rlsuite.fit import FitConfig, fit
from rlsuite.optim.choice import OptimizerConfig, ScheduleConfig
from rlsuite.running.seeding import derive_seed

THIN = 0.3


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """How a neural renderer is trained.

    Attributes:
        size: W, 32, 64 or 128.
        brush: whose strokes. Half of a glyph's are drawn with radii below 0.3: thin ones are what is written most, and
            seldom what uniform numbers give.
        decoder: "shuffle" (Learning to Paint's) or "nearest" (that of arXiv:1806.08990).
        steps: minibatches.
        batch_size: B.
        learning_rates: Adam's, in turn.
        milestones: the step at which each later rate begins.
        pool: strokes drawn once and drawn from ever after; 0 draws new ones for each minibatch, as the paper does.
        circles: of the exact rasterizer along a curve.
        initialization: "kaiming", or "default" as in the official code.
        seed: of weights and strokes.
        validation: strokes kept for the reported error.
        device: cpu or cuda.
    """

    size: int = 128
    brush: str = "bezier"
    decoder: str = "shuffle"
    steps: int = 500_000
    batch_size: int = 64
    learning_rates: tuple[float, ...] = (1e-4, 1e-5, 1e-6)
    milestones: tuple[int, ...] = (200_000, 400_000)
    pool: int = 0
    circles: int = 100
    initialization: str = "kaiming"
    seed: int = 0
    validation: int = 500
    device: str = "cpu"

    def __post_init__(self) -> None:
        require_choice("brush", self.brush, RASTERIZED)
        require_choice("decoder", self.decoder, DECODERS)
        require_choice("initialization", self.initialization, ("kaiming", "default"))
        for name in ("steps", "batch_size", "validation"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require(1 <= self.circles <= 255, f"circles={self.circles}: use 1 to 255")
        require(self.pool >= 0, f"pool={self.pool}: use 0 (strokes drawn anew) or more")
        require_choice("device", self.device, ("cpu", "cuda"))
        require(
            len(self.learning_rates) == len(self.milestones) + 1,
            f"milestones={list(self.milestones)}: one fewer than learning_rates={list(self.learning_rates)}",
        )


class Strokes:
    """Random strokes and what the exact rasterizer draws of them: a source without end, stroke i always the same.

    Args:
        config: size, brush, circles and device of the drawing.
        seed: of the strokes.
    """

    def __init__(self, config: ImitationConfig, seed: int) -> None:
        self.config, self.seed = config, seed

    def __len__(self) -> int:
        return 1 << 40

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return "shape" (B, 10) and "truth", opacity maps (B, W, W), of the strokes at index (B,)."""
        config = self.config
        shape = uniform_float32(self.seed, index, SHAPE_SIZE).to(config.device)
        if config.brush == GLYPH:  # its tenth number means nothing: here it chooses the thin ones
            shape[:, 6:9] *= torch.where(shape[:, 9:] < 0.5, THIN, 1.0)
        return {"shape": shape, "truth": draw_exact(shape, config.size, brush=config.brush, circles=config.circles)}


def train_renderer(
    config: ImitationConfig,
    report: Callable[[int, float], None] = lambda step, loss: None,
    every: int = 500,
    run_dir: Path | None = None,
) -> tuple[NeuralRenderer, float]:
    """Train a neural renderer.

    Args:
        config: how.
        report: called with the step and the mean squared error on the validation strokes, every `every` steps.
        every: steps between reports.
        run_dir: of log and checkpoints, to go on from where it was interrupted; None for neither.

    Returns:
        The renderer and its mean squared error on strokes it has not seen.
    """
    generator = torch.Generator().manual_seed(config.seed + 1)
    renderer = NeuralRenderer(
        config.size,
        brush=config.brush,
        decoder=config.decoder,
        initialization=config.initialization,
        generator=generator,
    ).to(config.device)
    validation = Strokes(config, derive_seed(config.seed, "validation")).examples(torch.arange(config.validation))
    source: Source = Strokes(config, derive_seed(config.seed, "strokes"))
    if config.pool:
        source = Arrays(source.examples(torch.arange(config.pool)))

    def progress(step: int, share: float) -> None:
        if step and step % every == 0:
            report(step, validation_error(renderer, **validation))

    fit(
        renderer,
        squared_error,
        source,
        fit_config(config, every),
        seed=config.seed,
        hooks=(progress,),
        run_dir=run_dir,
        about={"brush": config.brush, "decoder": config.decoder, "pool": config.pool, "circles": config.circles},
    )
    return renderer, validation_error(renderer, **validation)


def squared_error(renderer: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean squared error of a minibatch's opacity maps, as "loss"."""
    return {"loss": (renderer(batch["shape"]) - batch["truth"]).square().mean()}


def fit_config(config: ImitationConfig, every: int = 500) -> FitConfig:
    """Return how a renderer is fitted: strokes drawn with replacement, Adam, learning rates in turn."""
    first, *later = config.learning_rates
    schedule = ScheduleConfig()
    if later:
        factors = tuple(rate / first for rate in later)
        schedule = ScheduleConfig(kind="step", milestones=config.milestones, factors=factors)
    return FitConfig(
        steps=config.steps,
        batch_size=config.batch_size,
        order="random",
        optimizer=OptimizerConfig(learning_rate=first),
        schedule=schedule,
        check_every=every,
        save_every=10 * every,
    )


@torch.no_grad()
def validation_error(renderer: NeuralRenderer, shape: Tensor, truth: Tensor) -> float:
    """Return the mean squared error of the renderer's opacity maps."""
    parts = zip(shape.split(250), truth.split(250), strict=True)
    return sum(float((renderer(strokes) - maps).square().sum()) for strokes, maps in parts) / truth.numel()
