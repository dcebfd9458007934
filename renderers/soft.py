"""The soft rasterizer: strokes by formula, with gradients for every number of a stroke and no training.

A pixel's opacity is how much of it the stroke covers, a smooth step over the signed distance to the stroke's edge,
times the opacity of the last point of the curve that covers it (as in the exact rasterizer later circles overwrite
earlier ones). Which point of the curve is nearest, and which is the last, is found without gradients on samples of
the curve; the distance and the opacity are then worked out again, with gradients, at that one point of each pixel.
For the nearest point that is the true gradient (the envelope theorem: at an optimum the choice itself has none), and
a backward pass costs one evaluation a pixel instead of one for each sample.

Shapes: B strokes, n samples of a curve, W side, P = W * W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from renderers.strokes import GLYPH, control_points, glyph_radii, shape_for_brush

SAMPLES = 6
EDGE = 0.5  # width of the smooth step in pixels
STEEPNESS = 1.7
_END = 0.99  # the exact rasterizer's last circle
# Truncation moves the exact rasterizer's circles by half a pixel of its raster and makes them half a pixel smaller, and
# OpenCV's circles reach half a pixel further than their radius; on average, as fits best: (places, radii). Where all
# circles are one, nothing is truncated.
CURVE_BIAS = (-0.4, -0.1)
CIRCLE_BIAS = (0.0, 0.35)
GLYPH_BIAS = (-0.45, -0.2)
GLYPH_SAMPLES = 8  # at least, of curves that may bend sharply
_CHUNK_BYTES = 2**22  # samples that stay in the cache are several times faster


def draw_soft(shape: Tensor, size: int, *, brush: str = "bezier", edge: float = EDGE, samples: int = SAMPLES) -> Tensor:
    """Draw each stroke on an empty canvas of its own, differentiably.

    Args:
        shape: (..., 10), see renderers/strokes.py.
        size: W.
        brush: one of RASTERIZED.
        edge: width of the smooth step in pixels of the canvas (of glyphs, in halves of them: their exact rasterizer
            looks at the middle of a pixel alone); the wider, the further gradients reach.
        samples: n.

    Returns:
        Opacity maps (..., W, W) in [0, 1].
    """
    flat = shape_for_brush(shape, brush).reshape(-1, shape.shape[-1])
    if brush == "triangle":
        alpha = _triangles(flat, size, edge)
    elif brush == GLYPH:
        alpha = _glyphs(flat, size, edge, max(samples, GLYPH_SAMPLES))
    else:
        alpha = _curves(flat, size, edge, samples, CIRCLE_BIAS if brush == "circle" else CURVE_BIAS)
    return alpha.view(*shape.shape[:-1], size, size)


def _curves(shape: Tensor, size: int, edge: float, samples: int, bias: tuple[float, float]) -> Tensor:
    # Pixels of the raster of twice the size, in which the exact rasterizer counts; its floors are kept, and gradients
    # pass straight through them.
    points = _floor(torch.stack(control_points(shape), dim=1) * (2 * size - 1) + 0.5)  # (B, 3, 2)
    radii = _floor(1.0 + shape[:, 6:8] * (size / 2))
    row, column = _pixel_centres(size, shape)
    nearest, last = _chosen(points, radii, row, column, samples)
    radius = torch.lerp(radii[:, :1], radii[:, 1:], nearest) + bias[1]
    place_row, place_column = (_curve_at(points[..., axis], nearest) + bias[0] for axis in (0, 1))
    distance = torch.sqrt((row - place_row) ** 2 + (column - place_column) ** 2 + 1e-6)
    cover = torch.sigmoid((radius - distance) * (STEEPNESS / (2 * edge)))
    return cover * torch.lerp(shape[:, 8:9], shape[:, 9:10], last)


def _glyphs(shape: Tensor, size: int, edge: float, samples: int) -> Tensor:
    """Return how much of each pixel strokes (B, 10) of glyphs ink, (B, P): as _curves, with radii at three points."""
    # The bias is part of the curve here, so that the nearest point is that of the distance which has the gradient.
    points = _floor(torch.stack(control_points(shape, GLYPH), dim=1) * (4 * size - 1) + 0.5) + GLYPH_BIAS[0]
    radii = _floor(glyph_radii(shape, size))  # (B, 3)
    row, column = _pixel_centres(size, shape, 4)
    nearest, _ = _chosen(points, radii, row, column, samples)
    radius = _radius_at(radii, nearest) + GLYPH_BIAS[1]
    place_row, place_column = (_curve_at(points[..., axis], nearest) for axis in (0, 1))
    distance = torch.sqrt((row - place_row) ** 2 + (column - place_column) ** 2 + 1e-6)
    return torch.sigmoid((radius - distance) * (STEEPNESS / (2 * edge)))


def _floor(value: Tensor) -> Tensor:
    return value + (value.detach().floor() - value.detach())


def _pixel_centres(size: int, like: Tensor, finer: int = 2) -> tuple[Tensor, Tensor]:
    """Return rows and columns (1, P) of the canvas's pixels' centres on a raster so many times finer."""
    centre = float(finer) * torch.arange(size, device=like.device, dtype=like.dtype) + 0.5 * (finer - 1)
    row, column = torch.meshgrid(centre, centre, indexing="ij")
    return row.reshape(1, -1), column.reshape(1, -1)


def _chosen(points: Tensor, radii: Tensor, row: Tensor, column: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Return what _choose does, some strokes at a time."""
    step = max(1, _CHUNK_BYTES // (4 * samples * row.shape[1]))
    chosen = [
        _choose(points[begin : begin + step].detach(), radii[begin : begin + step].detach(), row, column, samples)
        for begin in range(0, len(points), step)
    ]
    nearest, last = (torch.cat(part) for part in zip(*chosen, strict=True))
    return nearest, last


@torch.no_grad()
def _choose(points: Tensor, radii: Tensor, row: Tensor, column: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Return the curve's times (B, P) of the point nearest to each pixel, and of the last point that covers it."""
    step = _END / (samples - 1)
    time = torch.linspace(0.0, _END, samples, device=points.device, dtype=points.dtype).expand(len(points), -1)
    sample_row, sample_column = (_curve_at(points[..., axis], time) for axis in (0, 1))
    radius = _radius_at(radii, time)
    # R^2 - |p - b|^2 of every pixel p and sample b, but for |p|^2: one matrix product.
    power = radius**2 - sample_row**2 - sample_column**2
    sample = torch.stack([2 * sample_row, 2 * sample_column, power], dim=-1)  # (B, n, 3)
    inside = sample @ torch.cat([row, column, torch.ones_like(row)])  # (B, n, P)
    best = inside.amax(dim=1, keepdim=True)
    number = torch.arange(samples, device=points.device, dtype=torch.uint8).view(1, -1, 1)
    nearest = ((inside == best) * number).amax(dim=1).to(points.dtype) * step  # argmax, several times faster
    # Between samples: the foot of the perpendicular on the curve's tangent.
    start, bend = 2 * (points[:, 1] - points[:, 0]), 2 * (points[:, 2] - 2 * points[:, 1] + points[:, 0])
    growth = radii[:, 1:] - radii[:, :1]
    for _ in range(2):
        if radii.shape[1] == 3:
            growth = 2 * torch.lerp(radii[:, 1:2] - radii[:, :1], radii[:, 2:] - radii[:, 1:2], nearest)
        away_row, away_column = row - _curve_at(points[..., 0], nearest), column - _curve_at(points[..., 1], nearest)
        speed_row, speed_column = (torch.addcmul(start[:, axis, None], bend[:, axis, None], nearest) for axis in (0, 1))
        along, speed = away_row * speed_row + away_column * speed_column, speed_row**2 + speed_column**2 + 1e-6
        # ... and from there towards the thicker end, as far as the edge leans: h tan(theta), sin(theta) = R' / |B'|.
        aside = (away_row * speed_column - away_column * speed_row).abs()
        lean = (growth * (speed - growth**2).clamp_min(1e-3).rsqrt()).clamp_(-2.0, 2.0)
        nearest = (nearest + ((along + aside * lean) / speed).clamp_(-step, step)).clamp_(0.0, _END)
    # The last point that covers the pixel is s later, where s^2 |B'|^2 + d^2 = (R + R' s)^2 on the tangent.
    away_row, away_column = row - _curve_at(points[..., 0], nearest), column - _curve_at(points[..., 1], nearest)
    radius = _radius_at(radii, nearest)
    room = radius**2 - away_row**2 - away_column**2
    quadratic = (speed - growth**2).clamp_min(1e-3)
    later = (radius * growth + ((radius * growth) ** 2 + quadratic * room).clamp_min(0.0).sqrt()) / quadratic
    return nearest, torch.where(room > 0, (nearest + later).clamp_(0.0, _END), nearest)


def _radius_at(radii: Tensor, time: Tensor) -> Tensor:
    """Return radii (B, m) at times (B, m): linear between two, quadratic along three, as the curve is."""
    return torch.lerp(radii[:, :1], radii[:, 1:], time) if radii.shape[1] == 2 else _curve_at(radii, time)


def _curve_at(coordinate: Tensor, time: Tensor) -> Tensor:
    """Return one coordinate (B, m) of curves with control coordinates (B, 3) at times (B, m)."""
    first, middle, last = (coordinate[:, index, None] for index in range(3))
    return first + time * (2 * (middle - first) + time * (last - 2 * middle + first))


def _triangles(shape: Tensor, size: int, edge: float) -> Tensor:
    """Return opacity maps (B, P) of triangles: the smooth step over the distance to the nearest side's line."""
    corner = _floor(shape[:, :6].reshape(-1, 3, 2) * (2 * size - 1) + 0.5)
    side = corner.roll(-1, dims=1) - corner
    row, column = _pixel_centres(size, shape)
    turn = side[..., 1:] * (row - corner[..., :1]) - side[..., :1] * (column - corner[..., 1:])
    turn = turn / (side.square().sum(dim=-1, keepdim=True) + 1e-6).sqrt()
    double_area = side[:, 0, 1] * side[:, 1, 0] - side[:, 0, 0] * side[:, 1, 1]
    inside = (turn * double_area.sign().view(-1, 1, 1)).amin(dim=1)
    return torch.sigmoid((inside + 0.5) * (STEEPNESS / (2 * edge))) * shape[:, 8:9]
