"""A few known points become a surface: their distances run along iso-depth contours, view after view (2001.06659).

A point seen by a camera gives its distance to all pixels of the contour through it. Those become points, which are seen
by other cameras and begin contours there, until no pixel is new. Kept is what two views agree upon and what lies in all
masks. Where several points reach a pixel, the nearest along the contour counts, with those within 1 % of the object's
size of it: their median. The numbers are ours.

Shapes: M views, H and W sides, P points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from envs.perception.stereo.capture import Capture, nearest
from envs.perception.stereo.contours import LEAST_SURE, trace_contours
from envs.perception.stereo.hull import in_hull

AGREE, CLOSE = 0.005, 0.01  # of the object's size: two views; several points on a contour
STEEP = 4.0  # pixels' widths between the distances of neighbouring pixels
NEIGHBOUR = 0.45  # cosine between the axes of cameras that may see one point
BEHIND = 0.2  # of the object's size: a seen point lies no farther behind the hull
ROUNDS, EACH = 12, 400  # and new contours of a view in each round


def propagate(
    capture: Capture,
    directions: Sequence[Tensor],
    sure: Sequence[Tensor],
    seeds: Tensor,
    enter: Tensor,
    longest: float = 200.0,
) -> Tensor:
    """Return distances (M, H, W), NaN where none is known.

    Args:
        capture: the photographs.
        directions: of each view's contours (H, W, 2).
        sure: of each view (H, W).
        seeds: (P, 3), points of the surface.
        enter: (M, H, W), where rays enter the hull.
        longest: pixels that a contour is followed to each side.
    """
    size = capture.size()
    found = torch.full(capture.masks.shape, torch.nan)
    fresh = [seeds] * capture.views
    for _ in range(ROUNDS):
        added = [
            _spread(capture, view, directions[view], sure[view], fresh[view], enter[view], found[view], size, longest)
            for view in range(capture.views)
        ]
        if not sum(map(len, added)):
            break
        fresh = [
            torch.cat([added[other] for other in _neighbours(capture, view)] or [torch.zeros(0, 3)])
            for view in range(capture.views)
        ]
    return consistent(capture, found, size)


def _neighbours(capture: Capture, view: int) -> list[int]:
    near = capture.axes() @ capture.axes()[view] > NEIGHBOUR
    return [other for other in range(capture.views) if other != view and bool(near[other])]


def _spread(
    capture: Capture,
    view: int,
    direction: Tensor,
    sure: Tensor,
    points: Tensor,
    enter: Tensor,
    found: Tensor,
    size: float,
    longest: float,
) -> Tensor:
    """Follow contours through points (P, 3) in one view, fill pixels of `found` (H, W), and return the new points."""
    pixels, distances = capture.project(view, points)
    place, within = nearest(pixels, found.shape)
    seen = within & (sure.flatten()[place] >= LEAST_SURE) & found.flatten()[place].isnan()
    seen &= distances < enter.flatten()[place] + BEHIND * size
    pixels, distances, place = pixels[seen], distances[seen], place[seen]
    _, first = np.unique(place.numpy(), return_index=True)  # one contour a pixel
    first = torch.from_numpy(first)
    if len(first) > EACH:
        first = first[torch.linspace(0, len(first) - 1, EACH).long()]
    pixels, distances = pixels[first], distances[first]
    if not len(pixels):
        return torch.zeros(0, 3)
    places, along, valid = trace_contours(direction, sure, pixels, longest)
    rows, steps = valid.nonzero(as_tuple=True)
    index, value = agreed(nearest(places[rows, steps], found.shape)[0], distances[rows], along[steps], CLOSE * size)
    fits = found.flatten()[index].isnan() & (value < enter.flatten()[index] + BEHIND * size)
    index, value = index[fits], value[fits]
    found.view(-1)[index] = value
    width = found.shape[1]
    return capture.lift(view, torch.stack([index % width, index // width], dim=1).float(), value)


def agreed(index: Tensor, value: Tensor, along: Tensor, close: float) -> tuple[Tensor, Tensor]:
    """Return each index that occurs, once, and the median of its values within `close` of the one with least `along`.

    Args:
        index: (n,) int64.
        value: (n,).
        along: (n,).
        close: how far apart.
    """
    order = np.lexsort((along.numpy(), index.numpy()))
    index, value = index[order], value[order]
    unique, group, number = torch.unique_consecutive(index, return_inverse=True, return_counts=True)
    begin = number.cumsum(0) - number
    kept = (value - value[begin][group]).abs() <= close
    value, group = value[kept], group[kept]
    order = np.lexsort((value.numpy(), group.numpy()))
    value, number = value[order], torch.bincount(group, minlength=len(unique))
    return unique, value[number.cumsum(0) - number + (number - 1) // 2]


def consistent(capture: Capture, found: Tensor, size: float) -> Tensor:
    """Return distances (M, H, W) that another view confirms.

    It does where its own distances at the four pixels around the point differ by less than four pixels' width, and the
    point's lies between them, or within 0.5 % of the object's size of that.
    """
    kept = torch.full_like(found, torch.nan)
    width = found.shape[2]
    for view in range(capture.views):
        index = found[view].flatten().isfinite().nonzero().flatten()
        value = found[view].flatten()[index]
        points = capture.lift(view, torch.stack([index % width, index // width], dim=1).float(), value)
        sure = torch.zeros(len(points), dtype=torch.bool)
        for other in _neighbours(capture, view):
            pixels, distances = capture.project(other, points)
            low, high = _around(found[other], pixels)
            between = (distances > low - AGREE * size) & (distances < high + AGREE * size)
            sure |= between & (high - low < STEEP * distances / capture.intrinsics[0, 0])
        sure &= in_hull(capture, points, loosely=True)
        kept[view].view(-1)[index[sure]] = value[sure]
    return kept


def _around(picture: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the largest known number (P,) of a picture (H, W) at the four pixels around (P, 2).

    Where none is known they are infinity and minus infinity.
    """
    steps = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    place, within = nearest(pixels.floor().unsqueeze(1) + steps, picture.shape)
    value = torch.where(within, picture.flatten()[place], torch.nan)
    return value.nan_to_num(torch.inf).amin(dim=1), value.nan_to_num(-torch.inf).amax(dim=1)


def as_points(capture: Capture, distances: Tensor) -> tuple[Tensor, Tensor]:
    """Return distances (M, H, W) as points of the world (P, 3), and each one's view (P,)."""
    width, points, views = distances.shape[2], [], []
    for view in range(capture.views):
        flat = distances[view].flatten()
        index = flat.isfinite().nonzero().flatten()
        pixels = torch.stack([index % width, index // width], dim=1).float()
        points.append(capture.lift(view, pixels, flat[index]))
        views.append(torch.full_like(index, view))
    return torch.cat(points), torch.cat(views)
