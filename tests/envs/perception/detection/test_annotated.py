"""Annotated pictures as tiles: corners, padding, painted regions, TinyPerson's folders."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from envs.perception.detection.annotated import AnnotatedPictures, tiny_person
from rlsuite.errors import UserError


@pytest.fixture
def written(tmp_path):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (30, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[:10, :12]).save(tmp_path / "b.png")
    annotations = [
        {"image_id": 1, "category_id": 1, "bbox": [20, 10, 8, 8]},
        {"image_id": 1, "category_id": 1, "bbox": [30, 20, 6, 6], "ignore": 1},
        {"image_id": 2, "category_id": 1, "bbox": [2, 3, 4, 5]},
    ]
    images = [
        {"id": 1, "file_name": "a.png", "width": 50, "height": 30, "corner": [10, 0, 50, 30]},
        {"id": 2, "file_name": "b.png", "width": 12, "height": 10},
    ]
    said = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    path = tmp_path / "said.json"
    path.write_text(json.dumps(said))
    return path, torch.from_numpy(pixels).movedim(2, 0)


def test_tiles_of_real_pictures(written):
    path, pixels = written
    source = AnnotatedPictures(path, tile=(20, 30), overlap=(0, 0), painted=False)
    assert len(source) == 3  # two of the corner's 40 columns, and the small one
    found = source.examples(torch.tensor([0, 1, 2]))
    assert found["picture"].shape == (3, 3, 30, 20)
    assert torch.equal(found["picture"][0], pixels[:, :, 10:30])
    assert torch.equal(found["picture"][1], pixels[:, :, 30:])
    assert torch.equal(found["picture"][2, :, :10, :12], pixels[:, :10, :12])
    assert not found["picture"][2, :, 10:].any()
    assert found["boxes"][1, 0].tolist() == [0, 10, 8, 18]
    assert found["boxes"][2, 0].tolist() == [2, 3, 6, 8]
    assert found["classes"].tolist() == [[-1, -1], [0, 0], [0, -1]]
    assert found["ignored"].tolist() == [[False, False], [False, True], [False, False]]


def test_ignored_regions_are_painted_and_empty_tiles_left_out(written):
    path, pixels = written
    source = AnnotatedPictures(path, tile=(20, 30), overlap=(0, 0), empty=False)
    assert len(source) == 2
    found = source.examples(torch.tensor([0]))
    assert found["classes"].tolist() == [[0, -1]]
    assert not found["ignored"].any()
    region = found["picture"][0, :, 20:26, 10:16]
    assert (region == region[:, :1, :1]).all()
    assert torch.equal(found["picture"][0, :, :20], pixels[:, :20, 30:])


def test_tiny_persons_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("RLSUITE_DATA", str(tmp_path))
    with pytest.raises(UserError, match="TinyPerson"):
        tiny_person("train")
    (tmp_path / "tiny_set" / "mini_annotations").mkdir(parents=True)
    (tmp_path / "tiny_set" / "train").mkdir()
    annotations = tmp_path / "tiny_set" / "mini_annotations" / "tiny_set_train_all.json"
    annotations.write_text("{}")
    assert tiny_person("train") == (annotations, tmp_path / "tiny_set" / "train")
