"""New strokes where the error is: windows of any place and scale, and what a stroke in one would gain.

A window is a square of the picture, sampled on a small canvas. A painter, or chance, proposes strokes for it; each is
judged alone, in the colour that is best for it, by how much squared error it would take off the picture.

Shapes: m windows, c candidates of each, S side of their canvas, H, W sides of the picture. Places and sides of windows
are shares of the picture's longer side, in which strokes' numbers count too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from agents.painter.refine import Limits
from renderers.geometry import TRIANGLE
from renderers.soft import draw_soft
from renderers.strokes import BRUSHES, SHAPE_SIZE, STROKE_SIZE

Proposal = Callable[[Tensor, Tensor, int], Tensor]  # canvases and targets (m, 3, S, S), c -> strokes (m, c, 13)

_CHUNK = 128  # windows at a time
_WORTHLESS = -1.0


@dataclass(frozen=True)
class Windows:
    """Squares of a picture.

    Attributes:
        corner: (m, 2), row and column of the first corner; it may lie outside of the picture.
        side: (m,).
        canvas: (m, 3, S, S).
        target: (m, 3, S, S).
        inside: (m, 1, S, S), 1 on the picture and 0 beyond its edge.
    """

    corner: Tensor
    side: Tensor
    canvas: Tensor
    target: Tensor
    inside: Tensor


def worst_windows(
    canvas: Tensor,
    target: Tensor,
    number: int,
    sides: tuple[float, float],
    size: int,
    generator: torch.Generator,
    importance: Tensor | None = None,
) -> Windows:
    """Return windows around pixels drawn by their squared error, of sides drawn evenly in their logarithm.

    Args:
        canvas: (3, H, W), what has been painted.
        target: (3, H, W).
        number: m.
        sides: the smallest and the largest.
        size: S.
        generator: of the draws.
        importance: (1, H, W), what a pixel's error counts; None where all count alike.
    """
    height, width = target.shape[1:]
    longer = max(height, width)
    error = (canvas - target).square().sum(dim=0, keepdim=True)
    error = (error if importance is None else error * importance).flatten() + 1e-9
    pixel = torch.multinomial(error, number, replacement=number > len(error), generator=generator)
    place = torch.stack([torch.div(pixel, width, rounding_mode="floor"), pixel % width], dim=1)
    centre = (place + torch.rand(number, 2, generator=generator)) / longer
    span = math.log(sides[1] / sides[0])
    side = sides[0] * torch.exp(span * torch.rand(number, generator=generator))
    return cut_windows(canvas, target, centre - side[:, None] / 2, side, size)


def cut_windows(canvas: Tensor, target: Tensor, corner: Tensor, side: Tensor, size: int) -> Windows:
    """Return what the windows with given corners (m, 2) and sides (m,) hold, sampled at size x size places."""
    height, width = target.shape[1:]
    longer, number = max(height, width), len(side)
    steps = (torch.arange(size) + 0.5) / size * side[:, None]
    rows, columns = corner[:, :1] + steps, corner[:, 1:] + steps
    inside = ((rows >= 0) & (rows < height / longer))[:, :, None] & ((columns >= 0) & (columns < width / longer))[
        :, None
    ]
    across = (columns * (2 * longer / width) - 1)[:, None, :].expand(-1, size, -1)
    down = (rows * (2 * longer / height) - 1)[:, :, None].expand(-1, -1, size)
    where = torch.stack([across, down], dim=-1).reshape(1, number * size, size, 2)
    both = torch.cat([canvas, target]).unsqueeze(0)
    seen = grid_sample(both, where, mode="bilinear", padding_mode="border", align_corners=False)
    seen = seen.view(6, number, size, size).transpose(0, 1)
    return Windows(corner, side, seen[:, :3].contiguous(), seen[:, 3:].contiguous(), inside.unsqueeze(1).float())


def lifted(strokes: Tensor, corner: Tensor, side: Tensor, kinds: Tensor) -> Tensor:
    """Return strokes (m, 13) of windows as strokes of the picture; what would lie outside is moved to its edge."""
    strokes, triangle = strokes.clone(), kinds == TRIANGLE
    for axis in (0, 1):
        for entry in (0, 4):
            strokes[:, entry + axis] = strokes[:, entry + axis] * side + corner[:, axis]
        place = strokes[:, 2 + axis] * side + corner[:, axis]
        strokes[:, 2 + axis] = torch.where(triangle, place, strokes[:, 2 + axis])
    strokes[:, 6:8] *= side[:, None]
    return strokes.clamp_(0.0, 1.0)


def gains(windows: Windows, shape: Tensor, brush: str) -> tuple[Tensor, Tensor]:
    """Return what single strokes would gain, and the colours with which they do.

    The best colour has the smallest squared error, channel by channel: the sum over pixels of A (T - C (1 - A)) divided
    by that of A^2, clipped to [0, 1].

    Args:
        windows: m.
        shape: (m, c, 10).
        brush: whose.

    Returns:
        How far the sum of squared errors falls (m, c), as a share of a picture of the longer side squared; colours
        (m, c, 3).
    """
    size = windows.canvas.shape[-1]
    alpha = (draw_soft(shape, size, brush=brush) * windows.inside).flatten(2)
    under, missing = (part.flatten(2).transpose(1, 2) for part in (windows.canvas, windows.target - windows.canvas))
    # With T - C = D, what is left of a pixel is D + A C - A colour; sums over pixels as products of matrices.
    once = alpha @ torch.cat([missing, missing * under], dim=2)
    square = alpha.square()
    twice = square @ torch.cat([under, under.square()], dim=2)
    wanted, weight = once[..., :3] + twice[..., :3], square.sum(dim=2, keepdim=True)
    colour = (wanted / weight.clamp_min(1e-4)).clamp_(0.0, 1.0)
    gain = colour * (2 * wanted - colour * weight) - 2 * once[..., 3:] - twice[..., 3:]
    return gain.sum(dim=2) * (windows.side / size).square()[:, None], colour


def best_strokes(
    windows: Windows, propose: Proposal, candidates: int, number: int, brushes: list[str], limits: Limits
) -> tuple[Tensor, Tensor]:
    """Return the best strokes (n, 13), at most one of each window and `number` in all, and their brushes' numbers (n,).

    Args:
        windows: m.
        propose: strokes for them.
        candidates: c of each window.
        number: n at most; strokes that gain nothing are left out.
        brushes: windows take them in turn.
        limits: of the strokes.
    """
    kinds = torch.tensor([BRUSHES.index(brush) for brush in brushes])[torch.arange(len(windows.side)) % len(brushes)]
    found, gained = torch.zeros(len(kinds), STROKE_SIZE), torch.full((len(kinds),), _WORTHLESS)
    for brush in dict.fromkeys(brushes):
        for part in (kinds == BRUSHES.index(brush)).nonzero().squeeze(1).split(_CHUNK):
            if len(part) == 0:
                continue
            some = Windows(*(getattr(windows, name)[part] for name in ("corner", "side", "canvas", "target", "inside")))
            strokes = limits(propose(some.canvas, some.target, candidates))
            gain, colour = gains(some, strokes[..., :SHAPE_SIZE], brush)
            best = gain.argmax(dim=1)
            window = torch.arange(len(part))
            chosen = torch.cat([strokes[window, best, :SHAPE_SIZE], colour[window, best]], dim=1)
            found[part], gained[part] = chosen, gain[window, best]
    order = gained.argsort(descending=True, stable=True)[:number]
    order = order[gained[order] > 0.0].sort().values
    lifts = lifted(found[order], windows.corner[order], windows.side[order], kinds[order])
    return limits(lifts), kinds[order]


def random_shapes(generator: torch.Generator) -> Proposal:
    """Return a proposal of random strokes, rather opaque: the control of what a trained painter proposes."""

    def propose(canvas: Tensor, target: Tensor, strokes: int) -> Tensor:
        drawn = torch.rand(len(canvas), strokes, STROKE_SIZE, generator=generator)
        drawn[..., 8:10] = 0.5 + 0.5 * drawn[..., 8:10]
        return drawn

    return propose


def guessed_and_random(guess: Proposal, seed: int, guessed: int = 5) -> Proposal:
    """Return a proposal whose first strokes are a trained painter's, and the rest random."""
    random = random_shapes(torch.Generator().manual_seed(seed))

    def propose(canvas: Tensor, target: Tensor, strokes: int) -> Tensor:
        few = min(guessed, strokes)
        return torch.cat([guess(canvas, target, few), random(canvas, target, strokes - few)], dim=1)

    return propose
