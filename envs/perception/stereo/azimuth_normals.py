"""Normals from azimuths alone: in every view the normal lies in a plane, and views together tell it (arXiv:2001.06659).

With v toward the camera and a the direction that the normal leans to, it is orthogonal to b = v x a; over views it is
the smallest eigenvector of ``sum c b b^T``, c being how sure each azimuth is. Elevations, which materials bend, are
never used. The eigenvector has no sign: it points to the cameras.

Shapes: M views, P points, H and W sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.stereo.capture import Capture, sample

APART = 10.0  # degrees between two planes, at the least (our choice)


def azimuth_normals(
    capture: Capture, leaning: Sequence[Tensor], sure: Sequence[Tensor], points: Tensor, visible: Tensor
) -> tuple[Tensor, Tensor]:
    """Return unit normals (P, 3) in the world, and whether their planes are far enough apart (P,) bool.

    Args:
        capture: the photographs.
        leaning: of each view, (H, W, 3) as `azimuths` has them.
        sure: of each view, (H, W).
        points: (P, 3).
        visible: (M, P) bool, which camera sees which point.
    """
    total, toward = torch.zeros(len(points), 3, 3), torch.zeros(len(points), 3)
    for view, center in enumerate(capture.centers()):
        seen = visible[view].nonzero().flatten()
        pixels, _ = capture.project(view, points[seen])
        eye = functional.normalize(center - points[seen], dim=1)
        lean = sample(leaning[view], pixels) @ capture.rotations[view]
        across = functional.normalize(torch.linalg.cross(eye, lean), dim=1)
        weight = sample(sure[view].unsqueeze(-1), pixels).unsqueeze(-1)
        total[seen] += weight * across.unsqueeze(2) * across.unsqueeze(1)
        toward[seen] += eye
    values, vectors = torch.linalg.eigh(total.double())
    normals = vectors[..., 0].float()
    normals = torch.where((normals * toward).sum(dim=1, keepdim=True) < 0, -normals, normals)
    # two equal planes of weight c at an angle g have eigenvalues c (1 - cos g) and c (1 + cos g)
    least = math.tan(0.5 * math.radians(APART)) ** 2
    return normals, values[:, 1] > least * values[:, 2].clamp_min(1e-12)


def splat_visible(capture: Capture, points: Tensor, normals: Tensor, slack: float = 0.02) -> Tensor:
    """Say which cameras see which points of a dense surface: (M, P) bool.

    A point is seen where its normal faces the camera and no other point of its pixel is nearer by more than `slack` of
    the object's size.
    """
    size, found = capture.size(), torch.zeros(capture.views, len(points), dtype=torch.bool)
    height, width = capture.masks.shape[1:]
    for view, center in enumerate(capture.centers()):
        pixels, distances = capture.project(view, points)
        flat = pixels.round()
        place = (flat[:, 1].clamp(0, height - 1) * width + flat[:, 0].clamp(0, width - 1)).long()
        nearest = torch.full((height * width,), torch.inf).scatter_reduce(0, place, distances, "amin")
        facing = (normals * functional.normalize(center - points, dim=1)).sum(dim=1) > 0.15
        found[view] = facing & (distances < nearest[place] + slack * size) & capture.inside(view, pixels)
    return found
