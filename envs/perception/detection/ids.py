"""Boxes from what cameras say of every pixel: which geometry it shows.

As for the challenge of tiny objects (arXiv:2009.07506), what can hardly be judged is marked: an object less than half
of which is seen, and a group of more than five that touch, which becomes one region. Both numbers are our own.

Shapes: B pictures, K objects, H and W sides; boxes (x1, y1, x2, y2) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlsuite.errors import require

HIDDEN, CROWD = 0.5, 5


def boxes_of_ids(
    ids: Tensor, objects: Sequence[Sequence[int]], least: int = 4, whole: Tensor | None = None, crowd: int = CROWD
) -> dict[str, Tensor]:
    """Return "boxes" (B, K, 4), "classes" (B, K) and "ignored" (B, K) of what is seen.

    Args:
        ids: (B, 1, H, W) int64, as a camera gives them.
        objects: the geometries of each object; its place is its class.
        least: pixels; of fewer there is no object.
        whole: (B, K) pixels that each object would show if nothing stood before it; None where nobody knows.
        crowd: of more that touch each other only one box is left, ignored, around all.

    Raises:
        UserError: if there are no objects.
    """
    require(bool(objects), "there are no objects; name geometries")
    number = len(objects)
    named = torch.full((int(ids.max()) + 2,), -1, device=ids.device)
    for place, geometries in enumerate(objects):
        inside = torch.tensor([one + 1 for one in geometries if one + 1 < len(named)], dtype=torch.int64)
        named[inside.to(ids.device)] = place
    owner = named[ids[:, 0] + 1]
    mine = owner.unsqueeze(1) == torch.arange(number, device=ids.device).view(1, -1, 1, 1)  # (B, K, H, W)
    count = mine.sum((2, 3))
    boxes = torch.stack([*_span(mine.any(2)), *_span(mine.any(3))], dim=-1)[..., [0, 2, 1, 3]].float()
    seen = count >= least
    hidden = torch.zeros_like(seen) if whole is None else count < HIDDEN * whole
    found = {
        "boxes": boxes * seen.unsqueeze(-1),
        "classes": torch.where(seen, torch.arange(number, device=ids.device), -1),
        "ignored": seen & hidden,
    }
    return _grouped(found, crowd)


def _span(along: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first place and the one behind the last where (B, K, side) is true."""
    first = along.int().argmax(2)
    return first, along.shape[2] - along.flip(2).int().argmax(2)


def _grouped(found: dict[str, Tensor], crowd: int) -> dict[str, Tensor]:
    """Put one ignored box, in the place of its first member, around each group that is too large."""
    boxes, there = found["boxes"], found["classes"] >= 0
    one, other = boxes.unsqueeze(2), boxes.unsqueeze(1)
    touch = ((one[..., :2] <= other[..., 2:]) & (other[..., :2] <= one[..., 2:])).all(-1)
    linked = touch & there.unsqueeze(1) & there.unsqueeze(2)
    for _ in range(max(1, (boxes.shape[1] - 1).bit_length())):  # who touches whom, over ever more others
        linked = (linked.float() @ linked.float()) > 0
    many = linked.sum(2) > crowd
    first = linked.int().argmax(2) == torch.arange(boxes.shape[1], device=boxes.device)
    low = torch.where(linked.unsqueeze(-1), other[..., :2], torch.inf).amin(2)
    high = torch.where(linked.unsqueeze(-1), other[..., 2:], -torch.inf).amax(2)
    region, gone = many & first, many & ~first
    boxes = torch.where(region.unsqueeze(-1), torch.cat([low, high], dim=-1), boxes) * ~gone.unsqueeze(-1)
    return {
        "boxes": boxes,
        "classes": torch.where(gone, -1, found["classes"]),
        "ignored": (found["ignored"] & ~gone) | region,
    }
