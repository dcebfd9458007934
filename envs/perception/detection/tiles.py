"""Large pictures in tiles: cut to learn from, looked at one by one, and what was found merged again.

As in the Tiny Object Detection challenge (arXiv:2009.07506; TinyPerson's 640 x 512 tiles): the last tile of a row or
column is moved back to end at the border, so that all have one size; a box stays in a tile if its clipped part has 0.7
of its size (the root of the area); detections are moved back by the tile's corner and suppressed over the whole picture
before it is judged.

Shapes: T tiles, M objects of a picture, H and W its sides; boxes (x1, y1, x2, y2) in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from rlsuite.data.source import Source
from rlsuite.errors import require
from rlsuite.metrics.boxes import area
from rlsuite.metrics.detection import Found
from rlsuite.nn.vision.suppression import suppress

KEPT = 0.7  # of a box's size, in a tile


def tiles(width: int, height: int, tile: tuple[int, int], overlap: tuple[int, int]) -> Tensor:
    """Return tiles (T, 4) int64, row by row; one where the picture is no larger.

    Args:
        width: W.
        height: H.
        tile: its width and height; of a smaller picture tiles are as large as it.
        overlap: of neighbours, across and down.

    Raises:
        UserError: if tiles would not move on.
    """
    require(
        all(0 <= over < side for over, side in zip(overlap, tile, strict=True)),
        f"overlap={list(overlap)}: use less than the tile, {list(tile)}",
    )
    starts = []
    for whole, side, over in zip((width, height), tile, overlap, strict=True):
        last = max(0, whole - side)
        starts.append([*range(0, last, side - over), last])
    corners = [(left, top) for top in starts[1] for left in starts[0]]
    size = (min(tile[0], width), min(tile[1], height))
    return torch.tensor([(left, top, left + size[0], top + size[1]) for left, top in corners])


def inside(boxes: Tensor, tile: Tensor, share: float = KEPT) -> tuple[Tensor, Tensor]:
    """Return boxes (M, 4) clipped to a tile (4,), in its own pixels, and which of them stay (M,) bool."""
    corner = tile[:2].to(boxes).repeat(2)
    limits = (tile[2:] - tile[:2]).to(boxes).repeat(2)
    clipped = torch.minimum((boxes - corner).clamp_min(0.0), limits)
    whole = area(boxes)
    return clipped, (whole > 0) & (area(clipped).sqrt() >= share * whole.sqrt())


class Tiled:
    """A source of the tiles of another's pictures, which are of one size.

    Args:
        source: "picture" (B, C, H, W), "boxes" (B, M, 4), "classes" (B, M), "ignored" (B, M).
        tile: width and height.
        overlap: across and down.
    """

    def __init__(self, source: Source, tile: tuple[int, int], overlap: tuple[int, int]) -> None:
        self.source = source
        height, width = source.examples(torch.zeros(1, dtype=torch.int64))["picture"].shape[2:]
        self.tiles = tiles(width, height, tile, overlap)

    def __len__(self) -> int:
        return len(self.source) * len(self.tiles)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the tiles at index (B,): those of a picture follow each other."""
        whole = self.source.examples(index // len(self.tiles))
        parts = []
        for row, tile in enumerate(self.tiles[index % len(self.tiles)]):
            left, top, right, bottom = tile.tolist()
            boxes, stay = inside(whole["boxes"][row], tile)
            parts.append(
                {
                    "picture": whole["picture"][row, :, top:bottom, left:right],
                    "boxes": boxes * stay.unsqueeze(1),
                    "classes": torch.where(stay, whole["classes"][row], -1),
                    "ignored": whole["ignored"][row] & stay,
                }
            )
        return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def merge(results: Sequence[Found], corners: Tensor, iou: float = 0.5, most: int = 200) -> Found:
    """Return a picture's detections from those of its tiles, best first.

    Args:
        results: of each tile, in its own pixels; none of them cut off beforehand, or merging cuts twice.
        corners: (T, 4) or (T, 2), where tiles begin.
        iou: of two of a class that overlap more, the better one is kept; 1 keeps both.
        most: detections kept.
    """
    moved = [one.boxes + corner[:2].to(one.boxes).repeat(2) for one, corner in zip(results, corners, strict=True)]
    boxes, scores = torch.cat(moved), torch.cat([one.scores for one in results])
    classes = torch.cat([one.classes for one in results])
    kept = suppress(boxes[None], scores[None], classes[None], iou)[0]
    order = scores[kept].sort(descending=True, stable=True).indices[:most]
    return Found(boxes[kept][order], scores[kept][order], classes[kept][order])


def detect_tiles(
    detect: Callable[[Tensor], list[Found]],
    picture: Tensor,
    tile: tuple[int, int],
    overlap: tuple[int, int],
    iou: float = 0.5,
    most: int = 200,
) -> Found:
    """Return what is detected in a picture (C, H, W), tile by tile, in one batch.

    Args:
        detect: pictures (B, C, h, w) to their detections.
        picture: of any size.
        tile: width and height.
        overlap: across and down.
        iou: see merge.
        most: see merge.
    """
    cut = tiles(picture.shape[2], picture.shape[1], tile, overlap)
    parts = torch.stack([picture[:, top:bottom, left:right] for left, top, right, bottom in cut.tolist()])
    return merge(detect(parts), cut, iou, most)


def erase(pictures: Tensor, boxes: Tensor, ignored: Tensor) -> Tensor:
    """Return pictures (B, C, H, W) whose ignored boxes are filled with their mean colour: nothing is learned of them.

    Args:
        pictures: uint8 or floats.
        boxes: (B, M, 4).
        ignored: (B, M) bool.
    """
    found = pictures.clone()
    for row, place in ignored.nonzero().tolist():
        left, top = boxes[row, place, :2].floor().long().clamp_min(0).tolist()
        right, bottom = boxes[row, place, 2:].ceil().long().clamp_min(0).tolist()  # below 0 would count from the end
        region = pictures[row, :, top:bottom, left:right]
        if region.numel():
            mean = region.float().mean((1, 2), keepdim=True)
            found[row, :, top:bottom, left:right] = (mean if pictures.is_floating_point() else mean.round()).to(found)
    return found


def padded(pictures: Sequence[Tensor]) -> Tensor:
    """Return pictures (C, h, w) of any size as one batch, zeros at their right and below."""
    height, width = (max(one.shape[axis] for one in pictures) for axis in (1, 2))
    return torch.stack([functional.pad(one, (0, width - one.shape[2], 0, height - one.shape[1])) for one in pictures])
