"""Annotated pictures in COCO's JSON, with what TinyPerson (arXiv:2009.07506) adds to it.

Beside COCO's own keys an annotation may say "ignore" and "uncertain" (nobody is judged by it), and "in_dense_image"
(its picture has more than 200 boxes, and is left out); an image may have a "corner" [x1, y1, x2, y2], of whose pixels
its boxes are. Boxes in files are x, y, width and height, floats, without an added pixel.

Shapes: G objects of a picture.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rlsuite.errors import UserError, require
from rlsuite.metrics.detection import Found, Objects
from rlsuite.records.files import is_inside, read_text

LONGEST = 1 << 16  # pixels of a picture's side
LARGEST = 1 << 30  # bytes; COCO's own training file has 470 million


@dataclass(frozen=True)
class Annotated:
    """A picture and what is in it.

    Attributes:
        key: the image's id in the file.
        name: its file's name, as the file says it.
        size: (H, W).
        corner: (x1, y1, x2, y2) of the picture that counts, in pixels; () for all of it.
        objects: what there is, in the corner's pixels; classes count from 0 in the order of categories' ids.
    """

    key: int
    name: str
    size: tuple[int, int]
    corner: tuple[int, ...]
    objects: Objects


def read_coco(path: Path | str, *, merged: bool = False, dense: bool = False) -> tuple[list[Annotated], list[str]]:
    """Return a file's pictures in the order of their ids, those without objects included, and the classes' names.

    Args:
        path: the JSON file.
        merged: all categories are one class, called by all names, as TinyPerson's two kinds of persons are.
        dense: keep pictures that are marked as dense.

    Raises:
        UserError: if the file cannot be read, or holds something else.
    """
    try:
        said = json.loads(read_text(Path(path), LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "it is no JSON"
        raise UserError(f"{path}: {reason}; name a file of annotations as COCO has them") from None
    try:
        return _read(said, merged, dense)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
        what = f"{type(error).__name__}: {str(error)[:80]}"
        raise UserError(f"{path}: these are no annotations as COCO has them ({what}); name others") from None


def _read(said: dict[str, Any], merged: bool, dense: bool) -> tuple[list[Annotated], list[str]]:
    categories = sorted(said["categories"], key=lambda one: int(one["id"]))
    numbers = {int(one["id"]): 0 if merged else place for place, one in enumerate(categories)}
    names = [str(one["name"]) for one in categories]
    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for one in said["annotations"]:
        rows[int(one["image_id"])].append(one)
    found = []
    for image in sorted(said["images"], key=lambda one: int(one["id"])):
        own = rows[int(image["id"])]
        if not dense and any(one.get("in_dense_image") for one in own):
            continue
        sides = [[float(value) for value in one["bbox"]] for one in own]
        if not all(len(one) == 4 and all(map(math.isfinite, one)) for one in sides):
            raise ValueError("a box has not four finite numbers")
        boxes = torch.tensor(sides, dtype=torch.float64).view(-1, 4)
        areas = [float(one.get("area", one["bbox"][2] * one["bbox"][3])) for one in own]
        if not all(math.isfinite(value) for value in areas):
            raise ValueError("an area is not finite")
        boxes[:, 2:] += boxes[:, :2]
        objects = Objects(
            boxes,
            torch.tensor([numbers[int(one["category_id"])] for one in own], dtype=torch.int64),
            torch.tensor([bool(one.get("ignore") or one.get("uncertain")) for one in own], dtype=torch.bool),
            torch.tensor([bool(one.get("iscrowd")) for one in own], dtype=torch.bool),
            torch.tensor(areas, dtype=torch.float64),
        )
        size = (int(image["height"]), int(image["width"]))
        corner = tuple(int(value) for value in image.get("corner") or ())
        if not all(1 <= side <= LONGEST for side in size) or not _is_corner(corner):
            raise ValueError("an image has no size, or a corner that is none")
        found.append(Annotated(int(image["id"]), str(image["file_name"]), size, corner, objects))
    return found, [", ".join(names)] if merged else names


def _is_corner(corner: tuple[int, ...]) -> bool:
    if not corner:
        return True
    left, top, right, bottom = corner
    return 0 <= left < right <= LONGEST and 0 <= top < bottom <= LONGEST


def picture_path(folder: Path, one: Annotated) -> Path:
    """Return where a picture lies; UserError if its name leads out of the folder."""
    path = folder / one.name
    require(is_inside(path, folder), f"{one.name}: this picture lies outside of {folder}; name the folder it lies in")
    return path


def to_coco(pictures: Sequence[Annotated], names: Sequence[str]) -> dict[str, Any]:
    """Return what `read_coco` reads, ready for json.dump: categories count from 1."""
    annotations: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for one in pictures:
        image = {"id": one.key, "file_name": one.name, "height": one.size[0], "width": one.size[1]}
        images.append(image | ({"corner": list(one.corner)} if one.corner else {}))
        boxes, objects = _xywh(one.objects.boxes), one.objects
        for place, box in enumerate(boxes):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": one.key,
                    "category_id": int(objects.classes[place]) + 1,
                    "bbox": box,
                    "area": box[2] * box[3] if objects.areas is None else float(objects.areas[place]),
                    "ignore": objects.ignored is not None and bool(objects.ignored[place]),
                    "iscrowd": int(objects.crowd is not None and bool(objects.crowd[place])),
                }
            )
    categories = [{"id": place + 1, "name": name} for place, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def to_results(keys: Sequence[int], found: Sequence[Found]) -> list[dict[str, Any]]:
    """Return detections as COCO's tools, and the challenge's server, take them."""
    return [
        {"image_id": key, "category_id": int(name) + 1, "bbox": box, "score": float(score)}
        for key, one in zip(keys, found, strict=True)
        for box, score, name in zip(_xywh(one.boxes), one.scores, one.classes, strict=True)
    ]


def _xywh(boxes: Tensor) -> list[list[float]]:
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
