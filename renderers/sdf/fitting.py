"""Shapes and poses from what a camera saw, by Adam through the renderer (DIST, section 4).

All views are fitted at once and independently: losses are summed over them, and Adam treats each number by itself.

Shapes: B views, Z numbers of a code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from renderers.sdf.camera import turn_of
from renderers.sdf.losses import LossWeights, Target, total_loss
from renderers.sdf.renderer import SDFRenderer
from rlsuite.errors import require, require_finite

Level = tuple[SDFRenderer, Target]


@dataclass(frozen=True, kw_only=True)
class ShapeFitConfig:
    """How codes are fitted; the paper's numbers.

    Attributes:
        steps: of Adam.
        learning_rate: of Adam.
        weights: of the losses.
    """

    steps: int = 200
    learning_rate: float = 1e-3
    weights: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        require(self.steps >= 1, f"steps={self.steps}: use 1 or more")
        require_finite("learning_rate", self.learning_rate, above=0.0)


@dataclass(frozen=True, kw_only=True)
class PoseFitConfig(ShapeFitConfig):
    """How poses are fitted; the paper's numbers.

    Attributes:
        steps: of Adam.
        learning_rate: of Adam.
        weights: of the losses.
    """

    steps: int = 400
    learning_rate: float = 5e-3
    weights: LossWeights = field(default_factory=lambda: LossWeights(normal=10.0))


def pyramid(
    renderer: SDFRenderer, target: Target, strides: Sequence[int] = (1, 2, 4), keeps: Sequence[int] = (1, 3, 5)
) -> list[Level]:
    """Return the same pictures at several resolutions, with k points kept of each ray; losses are summed over them."""
    levels = []
    for stride, keep in zip(strides, keeps, strict=True):
        one = SDFRenderer(
            renderer.sdf,
            renderer.camera.strided(stride) if stride > 1 else renderer.camera,
            replace(renderer.config, keep=keep),
            gradient=renderer.gradient,
            escape=renderer.escape,
            normals=renderer.normals,
        )
        levels.append((one, target.strided(stride) if stride > 1 else target))
    return levels


def fit_shape(
    levels: Sequence[Level], code: Tensor, rotation: Tensor, shift: Tensor, config: ShapeFitConfig
) -> tuple[Tensor, Tensor]:
    """Fit codes to what was seen of objects at known poses.

    Args:
        levels: a renderer and what was seen, at one resolution or several.
        code: (B, Z), where to start.
        rotation: (B, 3, 3), R.
        shift: (B, 3), T.
        config: how.

    Returns:
        Codes (B, Z), and the losses (B,) before the last step.
    """
    code = code.detach().clone().requires_grad_()
    loss = _descend([code], lambda: _losses(levels, code, rotation, shift, config.weights), config)
    return code.detach(), loss


def fit_pose(
    levels: Sequence[Level], code: Tensor, quaternion: Tensor, shift: Tensor, config: PoseFitConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Fit poses to what was seen of known shapes.

    Quaternions are normalized where they are used, and when they are returned (the official code does neither).

    Args:
        levels: a renderer and what was seen, at one resolution or several.
        code: (B, Z), Z may be 0.
        quaternion: (B, 4), w first, where to start.
        shift: (B, 3), T, where to start.
        config: how.

    Returns:
        Quaternions (B, 4), T (B, 3), and the losses (B,) before the last step.
    """
    quaternion, shift = (value.detach().clone().requires_grad_() for value in (quaternion, shift))
    weights = replace(config.weights, prior=0.0)
    loss = _descend([quaternion, shift], lambda: _losses(levels, code, turn_of(quaternion), shift, weights), config)
    return torch.nn.functional.normalize(quaternion.detach(), dim=-1), shift.detach(), loss


def _losses(levels: Sequence[Level], code: Tensor, rotation: Tensor, shift: Tensor, weights: LossWeights) -> Tensor:
    found = [
        total_loss(renderer.render(code, rotation, shift), target, code, weights, renderer.config.tolerance)
        for renderer, target in levels
    ]
    return torch.stack(found).sum(0)


def _descend(values: list[Tensor], losses: Callable[[], Tensor], config: ShapeFitConfig) -> Tensor:
    """Move values to where the losses (B,) are small; return the losses before the last step."""
    optimizer = torch.optim.Adam(values, lr=config.learning_rate)
    found = torch.zeros(0)
    with torch.enable_grad():
        for _ in range(config.steps):
            found = losses()
            optimizer.zero_grad(set_to_none=True)
            found.sum().backward(inputs=values)
            optimizer.step()
    return found.detach()
