"""The visual hull: all points whose pictures lie in every mask. It is where scanning begins, and what it has to beat.

Shapes: M views, H and W sides, N cells a side of a grid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from envs.perception.stereo.capture import Capture, nearest, sample

SAMPLES = 96  # along each ray
CLOSED = 0.04  # of the object's size: a rim's ray that is inside for no longer touches the surface there


def hull_distances(capture: Capture) -> tuple[Tensor, Tensor]:
    """Return where rays through the masks enter and leave the hull: two (M, H, W), NaN elsewhere."""
    size, middle = capture.size(), capture.middle()
    enter = torch.full(capture.masks.shape, torch.nan)
    leave = enter.clone()
    for view, center in enumerate(capture.centers()):
        pixels, about = capture.pixels(view), float((center - middle).norm())
        steps = about + size * torch.linspace(-0.75, 0.75, SAMPLES)
        points = torch.stack([capture.lift(view, pixels, step.expand(len(pixels))) for step in steps], dim=1)
        within = in_hull(capture, points.flatten(0, 1)).view(len(pixels), SAMPLES)
        some = within.any(dim=1)
        first, last = within.int().argmax(dim=1), SAMPLES - 1 - within.flip(1).int().argmax(dim=1)
        place, _ = nearest(pixels, capture.masks.shape[1:])
        enter[view].view(-1)[place[some]] = steps[first[some]]
        leave[view].view(-1)[place[some]] = steps[last[some]]
    return enter, leave


def in_hull(capture: Capture, points: Tensor, loosely: bool = False) -> Tensor:
    """Say which points (P, 3) lie in every mask: (P,) bool; loosely, within a pixel of it."""
    within = torch.ones(len(points), dtype=torch.bool)
    for view in range(capture.views):
        left = within.nonzero().flatten()
        pixels, _ = capture.project(view, points[left])
        if loosely:
            within[left] = sample(capture.masks[view].float().unsqueeze(-1), pixels)[:, 0] > 0.0
        else:
            within[left] = capture.inside(view, pixels)
    return within


def hull_field(capture: Capture, points: Tensor) -> Tensor:
    """Return a number (P,) for points (P, 3) that changes smoothly from -0.5 outside of the hull to 0.5 inside."""
    found = torch.full((len(points),), 0.5)
    for view in range(capture.views):
        pixels, _ = capture.project(view, points)
        mask = capture.masks[view].float().unsqueeze(-1)
        found = torch.minimum(found, sample(mask, pixels)[:, 0] - 0.5)
    return found


def frontier(capture: Capture, count: int) -> Tensor:
    """Return at most `count` points (S, 3) where the hull touches the surface, from the masks alone.

    The ray through a mask's rim touches the surface somewhere; where it lies in the hull only shortly, that is known.
    """
    enter, leave = hull_distances(capture)
    length = (leave - enter).nan_to_num(torch.inf) / capture.size()
    masks = capture.masks.float().unsqueeze(1)
    rim = capture.masks & (torch.nn.functional.avg_pool2d(masks, 3, 1, 1)[:, 0] < 0.99)
    length = torch.where(rim, length, torch.inf)
    order = length.flatten().argsort()[:count]
    order = order[length.flatten()[order] < CLOSED]
    area = capture.masks[0].numel()
    width = capture.masks.shape[2]
    found = []
    for place in order.tolist():
        view, at = place // area, place % area
        pixel = torch.tensor([[float(at % width), float(at // width)]])
        middle = 0.5 * (enter + leave)[view].flatten()[at : at + 1]
        found.append(capture.lift(view, pixel, middle))
    return torch.cat(found) if found else torch.zeros(0, 3)
