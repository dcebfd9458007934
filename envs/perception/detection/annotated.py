"""Real pictures with boxes, from COCO's JSON, as examples: in tiles of one size, what is ignored painted over.

Shapes: B tiles, M objects of the fullest picture.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from envs.perception.detection.tiles import erase, inside, tiles
from rlsuite.data.coco_json import Annotated, picture_path, read_coco
from rlsuite.data.pictures import read_picture
from rlsuite.data.source import find_data
from rlsuite.errors import require
from rlsuite.metrics.detection import Objects


class AnnotatedPictures:
    """A source of tiles: "picture" (B, 3, h, w) uint8, "boxes" (B, M, 4), "classes" (B, M), "ignored" (B, M).

    Args:
        path: the JSON file.
        folder: of the pictures; None for the file's own.
        tile: width and height; TinyPerson's is 640 x 512. Smaller pictures have zeros at their right and below.
        overlap: of neighbours.
        merged: all categories are one class.
        painted: ignored boxes are filled with their mean colour, and are then no boxes.
        empty: keep tiles without objects.

    Raises:
        UserError: if the file cannot be read, or no tile is left.
    """

    def __init__(
        self,
        path: Path | str,
        folder: Path | str | None = None,
        *,
        tile: tuple[int, int] = (640, 512),
        overlap: tuple[int, int] = (100, 100),
        merged: bool = False,
        painted: bool = True,
        empty: bool = True,
    ) -> None:
        self.folder = Path(path).parent if folder is None else Path(folder)
        self.pictures, self.names = read_coco(path, merged=merged)
        self.tile, self.painted = tile, painted
        self.parts = [
            (number, cut)
            for number, one in enumerate(self.pictures)
            for cut in tiles(*_span(one), tile, overlap)
            if empty or bool(inside(one.objects.boxes.float(), cut)[1].any())
        ]
        require(bool(self.parts), f"{path}: there is no picture left to learn from; name another file, or empty=true")
        self.most = max(1, max(len(one.objects.boxes) for one in self.pictures))

    def __len__(self) -> int:
        return len(self.parts)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the tiles at index (B,)."""
        found = [self._part(*self.parts[number]) for number in index.tolist()]
        return {name: torch.stack([one[name] for one in found]) for name in found[0]}

    def _part(self, number: int, cut: Tensor) -> dict[str, Tensor]:
        one = self.pictures[number]
        picture, objects = read_annotated(self.folder, one), one.objects
        boxes, ignored = objects.boxes.float(), _ignored(objects)
        if self.painted:
            picture = erase(picture[None], boxes[None], ignored[None])[0]
        boxes, stay = inside(boxes, cut)
        left, top, right, bottom = cut.tolist()
        picture = picture[:, top:bottom, left:right]
        if self.painted:
            stay, ignored = stay & ~ignored, ignored & False
        room = self.most - len(boxes)
        return {
            "picture": functional.pad(
                picture, (0, self.tile[0] - picture.shape[2], 0, self.tile[1] - picture.shape[1])
            ),
            "boxes": functional.pad(boxes * stay.unsqueeze(1), (0, 0, 0, room)),
            "classes": functional.pad(torch.where(stay, objects.classes, -1), (0, room), value=-1),
            "ignored": functional.pad(ignored & stay, (0, room)),
        }


def tiny_person(split: str, folder: Path | str | None = None) -> tuple[Path, Path]:
    """Return TinyPerson's annotations and pictures of "train" or "test", as its archives unpack them.

    Raises:
        UserError: if they do not lie where RLSUITE_DATA says.
    """
    root = find_data("TinyPerson", ("tiny_set",), folder)
    name = f"tiny_set_{split}"
    places = ("mini_annotations/{}_all.json", "annotations/task/{}_all.json", "annotations/{}.json", "{}.json")
    annotations = find_data("TinyPerson's annotations", [place.format(name) for place in places], root)
    return annotations, find_data("TinyPerson's pictures", (split, f"erase_with_uncertain_dataset/{split}"), root)


def read_annotated(folder: Path, one: Annotated) -> Tensor:
    """Return a picture (3, H, W) uint8, of which its corner alone where it has one."""
    picture = read_picture(picture_path(folder, one))
    if one.corner:
        left, top, right, bottom = one.corner
        picture = picture[:, top:bottom, left:right]
    return picture


def _span(one: Annotated) -> tuple[int, int]:
    """Return the width and height that count."""
    if one.corner:
        left, top, right, bottom = one.corner
        return right - left, bottom - top
    return one.size[1], one.size[0]


def _ignored(objects: Objects) -> Tensor:
    none = torch.zeros(len(objects.boxes), dtype=torch.bool)
    first, second = (none if flags is None else flags for flags in (objects.ignored, objects.crowd))
    return first | second
