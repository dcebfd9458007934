"""Which renderer: soft, neural or exact, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from renderers.bezier import draw_exact
from renderers.neural import load_renderer
from renderers.soft import draw_soft
from rlsuite.errors import require, require_choice

RENDERERS = ("soft", "neural", "exact")


def make_renderer(
    kind: str, size: int, *, brush: str = "bezier", weights: str = "", device: torch.device | str = "cpu"
) -> Callable[[Tensor], Tensor]:
    """Return a function from shapes (..., 10) to opacity maps (..., W, W).

    Args:
        kind: one of RENDERERS; "exact" has no gradients.
        size: W.
        brush: one of renderers.strokes.RASTERIZED.
        weights: of the neural renderer, its file.
        device: where a neural renderer lies.

    Raises:
        UserError: if there is no such renderer, or its weights are missing or made for another size or brush.
    """
    require_choice("env.renderer", kind, RENDERERS)
    if kind == "soft":
        return functools.partial(draw_soft, size=size, brush=brush)
    if kind == "exact":
        return functools.partial(draw_exact, size=size, brush=brush)
    require(
        bool(weights),
        "env.renderer=neural needs env.renderer_weights=FILE; make one: python scripts/painter/train_renderer.py",
    )
    renderer = load_renderer(weights, device=device)
    require(
        (renderer.size, renderer.brush) == (size, brush),
        f"env.renderer_weights={weights} is for env.size={renderer.size} env.brush={renderer.brush}; use those",
    )
    return renderer
