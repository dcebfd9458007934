"""COCO's JSON: what is read, what comes back, hostile files."""

import json

import pytest
import torch

from rlsuite.data.coco_json import picture_path, read_coco, to_coco, to_results
from rlsuite.errors import UserError
from rlsuite.metrics.boxes import area
from rlsuite.metrics.detection import COCO, Found, judge

FILE = {
    "images": [
        {"id": 9, "file_name": "b.png", "width": 40, "height": 30, "corner": [10, 0, 30, 20]},
        {"id": 2, "file_name": "a.png", "width": 20, "height": 10},
        {"id": 5, "file_name": "crowded.png", "width": 20, "height": 10},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 7, "bbox": [1.5, 2, 3, 4], "area": 9.0, "iscrowd": 0, "ignore": True},
        {"id": 2, "image_id": 9, "category_id": 3, "bbox": [0, 0, 2, 2], "iscrowd": 1},
        {"id": 3, "image_id": 9, "category_id": 3, "bbox": [5, 5, 2, 2], "iscrowd": 0, "uncertain": True},
        {"id": 4, "image_id": 5, "category_id": 3, "bbox": [5, 5, 2, 2], "in_dense_image": True},
    ],
    "categories": [{"id": 7, "name": "sea_person"}, {"id": 3, "name": "earth_person"}],
}


@pytest.fixture
def written(tmp_path):
    def write(said):
        path = tmp_path / "said.json"
        path.write_text(said if isinstance(said, str) else json.dumps(said))
        return path

    return write


def test_what_is_read(written):
    pictures, names = read_coco(written(FILE))
    assert names == ["earth_person", "sea_person"]
    assert [one.name for one in pictures] == ["a.png", "b.png"]
    assert len(pictures[0].objects.boxes) == 0
    there = pictures[1].objects
    assert there.ignored is not None
    assert there.crowd is not None
    assert there.areas is not None
    assert there.boxes.tolist() == [[1.5, 2, 4.5, 6], [0, 0, 2, 2], [5, 5, 7, 7]]
    assert there.classes.tolist() == [1, 0, 0]
    assert there.ignored.tolist() == [True, False, True]
    assert there.crowd.tolist() == [False, True, False]
    assert there.areas.tolist() == [9, 4, 4]
    assert pictures[1].corner == (10, 0, 30, 20)
    assert pictures[1].size == (30, 40)
    assert len(read_coco(written(FILE), dense=True)[0]) == 3
    merged, names = read_coco(written(FILE), merged=True)
    assert merged[1].objects.classes.tolist() == [0, 0, 0]
    assert names == ["earth_person, sea_person"]


def test_what_is_written_is_read_again(written):
    pictures, names = read_coco(written(FILE))
    again, same = read_coco(written(to_coco(pictures, names)))
    assert same == names
    for one, other in zip(pictures, again, strict=True):
        assert (one.key, one.name, one.size, one.corner) == (other.key, other.name, other.size, other.corner)
        for name, value in one.objects._asdict().items():
            assert torch.equal(value, getattr(other.objects, name)), name


def test_results_are_pycocotools_own_kind(written):
    coco, evaluation = (pytest.importorskip(f"pycocotools.{name}") for name in ("coco", "cocoeval"))
    pictures, names = read_coco(written(FILE))
    said = coco.COCO(str(written(to_coco(pictures, names))))
    there = [one.objects for one in pictures]
    found = [Found(one.boxes, torch.full((len(one.boxes),), 0.5), one.classes) for one in there]
    theirs = evaluation.COCOeval(said, said.loadRes(to_results([one.key for one in pictures], found)), "bbox")
    assert theirs.cocoDt.getImgIds() == said.getImgIds()
    loaded = theirs.cocoDt.loadAnns(theirs.cocoDt.getAnnIds())
    assert [one["area"] for one in loaded] == area(pictures[1].objects.boxes).tolist()
    assert judge(found, there, COCO).ranked.keys() == {0, 1}


@pytest.mark.parametrize(
    "said",
    [
        "no json",
        "[1, 2]",
        "{}",
        {**FILE, "images": [{"id": 9}]},
        {**FILE, "images": [{"id": 9, "file_name": "b.png", "width": 0, "height": 30}]},
        {**FILE, "images": [{"id": 9, "file_name": "b.png", "width": 10**9, "height": 30}]},
        {**FILE, "images": [{**FILE["images"][0], "corner": [10, 0, 10, 20]}]},
        {**FILE, "images": [{**FILE["images"][0], "corner": [10, 0]}]},
        {**FILE, "annotations": [{"image_id": 9, "category_id": 8, "bbox": [0, 0, 1, 1]}]},
        {**FILE, "annotations": [{"image_id": 9, "category_id": 7, "bbox": [0, 0, 1]}]},
        {**FILE, "annotations": [{"image_id": 9, "category_id": 7, "bbox": [0, 0, 1, float("nan")]}]},
        {**FILE, "annotations": [{"image_id": 9, "category_id": 7, "bbox": [0, 0, 1, 1], "area": float("inf")}]},
        "[" * 100_000,
    ],
    ids=range(13),
)
def test_other_files_are_refused_in_one_line(written, said):
    with pytest.raises(UserError, match="annotations as COCO has them"):
        read_coco(written(said))


def test_a_missing_file_and_a_name_that_leads_out(tmp_path, written):
    with pytest.raises(UserError, match="No such file"):
        read_coco(tmp_path / "none.json")
    pictures, _ = read_coco(written({**FILE, "images": [{**FILE["images"][1], "file_name": "../../secret.png"}]}))
    with pytest.raises(UserError, match="outside of"):
        picture_path(tmp_path, pictures[0])
