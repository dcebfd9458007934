"""Which points of a stroke's curve count for a pixel: the one whose circle reaches furthest over it, and the last one.

renderers/soft.py finds both for strokes on small canvases. Strokes of whole pictures are often cones, wider at one end
than they are long, whose last circle over a pixel is where the radius, not the way, has run out; so here that point is
the quadratic's own root, whichever way it opens.

Shapes: B strokes, P pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

SAMPLES = 7
END = 0.99  # the exact rasterizer's last circle


def curve_at(coordinate: Tensor, time: Tensor) -> Tensor:
    """Return one coordinate (B, m) of curves with control coordinates (B, 3) at times (B, m)."""
    first, middle, last = (coordinate[:, index : index + 1] for index in range(3))
    return (time * (last - 2 * middle + first)).add_(2 * (middle - first)).mul_(time).add_(first)


def nearest_and_last(
    rows: Tensor, columns: Tensor, radii: Tensor, row: Tensor, column: Tensor
) -> tuple[Tensor, Tensor]:
    """Return times of the curves for every pixel.

    Args:
        rows: (B, 3), of the control points.
        columns: (B, 3).
        radii: (B, 2), at the start and at the end.
        row: (1, P), of the pixels.
        column: (1, P).

    Returns:
        (B, P), of the point whose circle's edge lies furthest beyond the pixel, and of the last point whose circle
        covers it (where none does, the same point).
    """
    radius, growth = radii[:, :1], radii[:, 1:] - radii[:, :1]
    nearest, covering = _sampled(rows, columns, radius, growth, row, column)
    start = [2 * (points[:, 1:2] - points[:, :1]) for points in (rows, columns)]
    bend = [2 * (points[:, 2:] - 2 * points[:, 1:2] + points[:, :1]) for points in (rows, columns)]

    def local(time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        away = row - curve_at(rows, time), column - curve_at(columns, time)
        return *away, (time * bend[0]).add_(start[0]), (time * bend[1]).add_(start[1])

    # From the nearest sample to the foot of the perpendicular on the tangent, and towards the thicker end as far as the
    # edge leans: h tan(theta), sin(theta) = R' / |B'|.
    away_row, away_column, speed_row, speed_column = local(nearest)
    speed = (speed_row * speed_row).addcmul_(speed_column, speed_column).add_(1e-6)
    along = (away_row * speed_row).addcmul_(away_column, speed_column)
    aside = (away_row * speed_column).addcmul_(away_column, speed_row, value=-1.0).abs_()
    lean = (speed - growth * growth).clamp_min_(1e-3).rsqrt_().mul_(growth).clamp_(-2.0, 2.0)
    step = END / (SAMPLES - 1)
    nearest = along.add_(aside.mul_(lean)).div_(speed).clamp_(-step, step).add_(nearest).clamp_(0.0, END)
    # s later, circles cover the pixel while (R + R' s)^2 - |away - B' s|^2 = a s^2 + 2 b s + c >= 0.
    last = torch.maximum(nearest, covering)
    away_row, away_column, speed_row, speed_column = local(last)
    here = (last * growth).add_(radius)
    room = (here * here).addcmul_(away_row, away_row, value=-1.0).addcmul_(away_column, away_column, value=-1.0)
    opens = (speed_row * speed_row).addcmul_(speed_column, speed_column).neg_().add_(growth * growth)
    half = here.mul_(growth).addcmul_(away_row, speed_row).addcmul_(away_column, speed_column)
    inner = (half * half).addcmul_(opens, room, value=-1.0)
    root = inner.clamp_min(0.0).sqrt_()
    shrinking = room / (root - half).clamp_min_(1e-6)
    growing = (root + half) / (-opens).clamp_min_(1e-6)
    later = torch.where(half <= 0, shrinking, torch.where(opens < 0, growing, 1.0))
    later = torch.where(inner < 0, (opens > 0).to(later.dtype), later)
    last = later.clamp_(-step, 1.0).add_(last).clamp_(0.0, END)
    return nearest, torch.maximum(last, nearest)


def _sampled(
    rows: Tensor, columns: Tensor, radius: Tensor, growth: Tensor, row: Tensor, column: Tensor
) -> tuple[Tensor, Tensor]:
    """Return of some samples of the curve the nearest one (B, P) and the last one that covers the pixel, or 0."""
    times = torch.linspace(0.0, END, SAMPLES, dtype=rows.dtype).tolist()
    nearest = covering = torch.zeros_like(row).expand(len(rows), -1)
    square, best = row * row + column * column, None
    for time in times:
        at = radius.new_full((1, 1), time)
        sample_row, sample_column = curve_at(rows, at), curve_at(columns, at)
        power = (radius + growth * time) ** 2 - sample_row**2 - sample_column**2
        inside = (row * (2 * sample_row)).add_(column * (2 * sample_column)).add_(power).sub_(square)
        covering = torch.where(inside >= 0, time, covering)
        if best is None:
            best = inside
            continue
        nearest = torch.where(inside > best, time, nearest)
        best = torch.maximum(best, inside)
    return nearest, covering
