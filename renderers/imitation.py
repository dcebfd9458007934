"""Training the neural renderer on strokes drawn by the exact rasterizer (Learning to Paint, arXiv:1903.04411).

Shapes: B strokes a minibatch, W side of the canvas.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from renderers.bezier import draw_exact
from renderers.neural import NeuralRenderer
from renderers.strokes import BRUSHES, SHAPE_SIZE
from rlsuite.errors import require, require_choice
from rlsuite.optim.state import adam


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """How a neural renderer is trained.

    Attributes:
        size: W, 32, 64 or 128.
        brush: whose strokes.
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
        require_choice("brush", self.brush, BRUSHES)
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


def train_renderer(
    config: ImitationConfig, report: Callable[[int, float], None] = lambda step, loss: None, every: int = 500
) -> tuple[NeuralRenderer, float]:
    """Train a neural renderer.

    Args:
        config: how.
        report: called with the step and the mean squared error on the validation strokes, every `every` steps.
        every: steps between reports.

    Returns:
        The renderer and its mean squared error on strokes it has not seen.
    """
    device = torch.device(config.device)
    strokes = torch.Generator().manual_seed(config.seed)
    renderer = NeuralRenderer(
        config.size,
        brush=config.brush,
        initialization=config.initialization,
        generator=torch.Generator().manual_seed(config.seed + 1),
    ).to(device)
    optimizer = adam(list(renderer.parameters()), config.learning_rates[0])

    def draw(number: int) -> tuple[Tensor, Tensor]:
        shape = torch.rand(number, SHAPE_SIZE, generator=strokes).to(device)
        return shape, draw_exact(shape, config.size, brush=config.brush, circles=config.circles)

    validation = draw(config.validation)
    pool = draw(config.pool) if config.pool else None
    for step in range(config.steps):
        if step in config.milestones:
            optimizer.param_groups[0]["lr"] = config.learning_rates[config.milestones.index(step) + 1]
        if pool is None:
            shape, truth = draw(config.batch_size)
        else:
            pick = torch.randint(config.pool, (config.batch_size,), generator=strokes).to(device)
            shape, truth = pool[0][pick], pool[1][pick]
        loss = (renderer(shape) - truth).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (step + 1) % every == 0:
            report(step + 1, validation_error(renderer, *validation))
    return renderer, validation_error(renderer, *validation)


@torch.no_grad()
def validation_error(renderer: NeuralRenderer, shape: Tensor, truth: Tensor) -> float:
    """Return the mean squared error of the renderer's opacity maps."""
    parts = zip(shape.split(250), truth.split(250), strict=True)
    return sum(float((renderer(strokes) - maps).square().sum()) for strokes, maps in parts) / truth.numel()
