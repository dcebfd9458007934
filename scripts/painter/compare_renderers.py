"""Compare differentiable renderers: ``python scripts/painter/compare_renderers.py weights=renderer-32.safetensors``.

The soft rasterizer against a neural renderer (train_renderer.py), at the neural one's size: fidelity (mean squared
error of opacity maps to the exact rasterizer's), painting by gradient (random strokes on self-made pictures,
improved by Adam through each renderer; the error of what they paint, as the renderer sees it and as the exact
rasterizer draws it) and speed (strokes a second, forward, and forward with gradients). The last line printed is JSON.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import rlsuite  # noqa: F401  (before torch: it sets what torch's threads read when they are loaded)
from envs.painting.pictures import picture_pool
from renderers.bezier import draw_exact
from renderers.neural import load_renderer
from renderers.soft import draw_soft
from renderers.strokes import SHAPE_SIZE, STROKE_SIZE, composite
from rlsuite.cli import command
from rlsuite.config.compose import script_config
from rlsuite.errors import require, require_threads
from rlsuite.records.json_text import to_json

Renderer = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What is compared.

    Attributes:
        weights: the neural renderer's file.
        pictures: painted by gradient.
        strokes: on each.
        steps: of Adam.
        learning_rate: of Adam.
        num_threads: of torch; 0 takes all cores.
    """

    weights: str = ""
    pictures: int = 24
    strokes: int = 15
    steps: int = 200
    learning_rate: float = 0.01
    num_threads: int = 0

    def __post_init__(self) -> None:
        require(
            bool(self.weights), "weights= is missing; make a renderer with: python scripts/painter/train_renderer.py"
        )
        require_threads(self.num_threads)
        for name in ("pictures", "strokes", "steps"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")


@command(CompareConfig)
def main(arguments: list[str]) -> int:
    """Measure and print."""
    config: CompareConfig = script_config(CompareConfig, arguments)
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    neural = load_renderer(config.weights)
    size = neural.size
    renderers: dict[str, Renderer] = {
        "soft": functools.partial(draw_soft, size=size, brush=neural.brush),
        "neural": neural,
    }
    exact = functools.partial(draw_exact, size=size, brush=neural.brush)
    pictures = picture_pool("scenes", size, config.pictures, 0.3, "test").float() / 255
    found = {
        name: {
            "fidelity_mse": fidelity(renderer, exact),
            **by_gradient(renderer, exact, pictures, config),
            **speed(renderer),
        }
        for name, renderer in renderers.items()
    }
    for name, figures in found.items():
        print(f"{name:7} " + "  ".join(f"{key} {value:.4g}" for key, value in figures.items()))
    print(to_json(found))
    return 0


@torch.no_grad()
def fidelity(renderer: Renderer, exact: Renderer) -> float:
    """Return the mean squared error of 500 random strokes' opacity maps."""
    shape = torch.rand(500, SHAPE_SIZE, generator=torch.Generator().manual_seed(7))
    return float((renderer(shape) - exact(shape)).square().mean())


def by_gradient(renderer: Renderer, exact: Renderer, pictures: Tensor, config: CompareConfig) -> dict[str, float]:
    """Return the errors of strokes found by gradient, as the renderer sees them and as they are."""
    generator = torch.Generator().manual_seed(0)
    strokes = torch.rand(len(pictures), config.strokes, STROKE_SIZE, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([strokes], lr=config.learning_rate)
    black = torch.zeros_like(pictures)

    def error(draw: Renderer) -> Tensor:
        return (composite(black, draw(strokes[..., :SHAPE_SIZE]), strokes[..., SHAPE_SIZE:]) - pictures).square().mean()

    for _ in range(config.steps):
        optimizer.zero_grad()
        error(renderer).backward()
        optimizer.step()
        with torch.no_grad():
            strokes.clamp_(0.0, 1.0)
    with torch.no_grad():
        return {"painted_mse": float(error(renderer)), "painted_mse_exact": float(error(exact))}


def speed(renderer: Renderer) -> dict[str, float]:
    """Return strokes a second, the best of five."""
    shape = torch.rand(320, SHAPE_SIZE, generator=torch.Generator().manual_seed(1))
    rates: dict[str, float] = {}
    for name, gradients in (("strokes_per_second", False), ("strokes_per_second_with_gradients", True)):
        times = []
        for _ in range(6):
            inputs = shape.clone().requires_grad_(gradients)
            began = time.perf_counter()
            with torch.set_grad_enabled(gradients):
                drawn = renderer(inputs)
            if gradients:
                drawn.sum().backward()
            times.append(time.perf_counter() - began)
        rates[name] = len(shape) / min(times)
    return rates


if __name__ == "__main__":
    sys.exit(main())
