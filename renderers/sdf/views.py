"""Shapes from several pictures, by color alone: what one view shows must look the same in the next (DIST, section 3.4).

No texture or light is modelled. A pixel's point, found with a differentiable depth, is projected into the other view
and read there; points that the other view's own depth hides do not count.

Shapes: V views, B pairs of views, H and W sides, Z numbers of a code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from renderers.sdf.camera import Pinhole
from renderers.sdf.losses import mean_where
from renderers.sdf.renderer import Rendering, SDFRenderer
from rlsuite.errors import require, require_finite

_HIDDEN = 1e-3  # square of how far behind the other view's depth a point may lie


@dataclass(frozen=True, kw_only=True)
class ViewsFitConfig:
    """How a code is fitted to pictures of one object; the paper's numbers for synthetic ones.

    Attributes:
        epochs: passes over all pairs of views (i, i + 1).
        pairs: of each step of Adam.
        learning_rate: of Adam.
        color: weight of the mean difference of colors.
        prior: weight of the code's mean square.
        similarity: also fit where the object is, how it is turned and how large it is.
    """

    epochs: int = 20
    pairs: int = 8
    learning_rate: float = 1e-2
    color: float = 5.0
    prior: float = 1.0
    similarity: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "pairs"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        require_finite("learning_rate", self.learning_rate, above=0.0)
        for name in ("color", "prior"):
            require_finite(name, getattr(self, name), low=0.0)


def color_loss(
    camera: Pinhole,
    first: tuple[Rendering, Tensor, Tensor, Tensor],
    second: tuple[Rendering, Tensor, Tensor, Tensor],
) -> Tensor:
    """Return the mean difference of colors (B,) between what first views show and the same points in second views.

    Args:
        camera: of all views.
        first: rendering, picture (B, C, H, W), R (B, 3, 3) and T (B, 3).
        second: the same; no gradients pass through its depth.
    """
    (rendering, picture, rotation, shift), (other, there, turn, move) = first, second
    seen = torch.where(rendering.mask, rendering.depth, 1.0)
    points = camera.points(seen).flatten(1, 2) - shift.unsqueeze(1)
    points = points @ rotation @ turn.mT + move.unsqueeze(1)  # (B, P, 3), in the second camera's axes
    ahead = points[..., 2] > 1e-6
    slopes = points[..., :2] / torch.where(ahead, points[..., 2], 1.0).unsqueeze(-1)
    place = slopes * slopes.new_tensor(camera.focal) + slopes.new_tensor(camera.center)
    size = place.new_tensor([camera.width, camera.height])
    grid = ((2.0 * place + 1.0) / size - 1.0).unflatten(1, (camera.height, camera.width))
    warped = functional.grid_sample(there, grid, padding_mode="border", align_corners=False)
    depth = torch.where(other.mask, other.depth, 0.0).detach().unsqueeze(1)
    depth = functional.grid_sample(depth, grid.detach(), mode="nearest", align_corners=False).flatten(1)
    visible = ahead & (grid.abs() <= 1.0).all(-1).flatten(1) & ((points[..., 2] - depth).square() < _HIDDEN)
    difference = (picture - warped).abs().mean(1)
    return mean_where(difference, rendering.mask & visible.detach().view_as(rendering.mask))


def fit_views(
    renderer: SDFRenderer, pictures: Tensor, rotation: Tensor, shift: Tensor, code: Tensor, config: ViewsFitConfig
) -> tuple[Tensor, Tensor]:
    """Fit one code to pictures of one object by color.

    Args:
        renderer: k = 1 is the paper's.
        pictures: (V, C, H, W), from cameras that go around the object in order.
        rotation: (V, 3, 3), R of each.
        shift: (V, 3), T of each.
        code: (Z,), where to start.
        config: how.

    Returns:
        The code (Z,), and the similarity (7,): rotation vector, shift and logarithm of the scale that take the object's
        own coordinates to those of the cameras' poses; zeros unless it is fitted.
    """
    code, similarity = code.detach().clone().requires_grad_(), torch.zeros(7, device=code.device, requires_grad=True)
    values = [code, similarity] if config.similarity else [code]
    optimizer = torch.optim.Adam(values, lr=config.learning_rate)
    with torch.enable_grad():
        for _ in range(config.epochs):
            for start in range(0, len(pictures) - 1, config.pairs):
                here = torch.arange(start, min(start + config.pairs, len(pictures) - 1))
                turn, move = seen_through(similarity, rotation, shift)
                codes = code.expand(len(here), -1)
                one = renderer.render(codes, turn[here], move[here])
                with torch.no_grad():
                    two = renderer.render(codes, turn[here + 1], move[here + 1])
                first = (one, pictures[here], turn[here], move[here])
                losses = color_loss(renderer.camera, first, (two, pictures[here + 1], turn[here + 1], move[here + 1]))
                loss = config.color * losses.mean() + config.prior * code.square().mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward(inputs=values)
                optimizer.step()
    return code.detach(), similarity.detach()


def seen_through(similarity: Tensor, rotation: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return poses (R, T) of an object that a similarity (7,) moves, in units of its own bounding sphere.

    x = s Q y + t in the poses' coordinates is R Q y + (R t + T) / s for a camera whose lengths are divided by s: no
    scale enters a rotation, whose transpose is then its inverse.
    """
    x, y, z = similarity[:3].unbind()
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
    return rotation @ torch.linalg.matrix_exp(cross), (shift + rotation @ similarity[3:6]) / similarity[6].exp()
