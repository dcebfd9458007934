"""Boxes of ids by hand: spans, hidden objects, groups."""

import pytest
import torch

from envs.perception.detection.ids import boxes_of_ids
from rlsuite.errors import UserError


def test_boxes_by_hand():
    ids = torch.full((2, 1, 8, 10), -1)
    ids[0, 0, 2:5, 3:9] = 4
    ids[0, 0, 3, 4:6] = 7  # the second geometry of the same object
    ids[1, 0, 0, 0] = 2
    found = boxes_of_ids(ids, [[4, 7], [2], [11]], least=1)
    assert found["boxes"][0, 0].tolist() == [3, 2, 9, 5]
    assert found["boxes"][1, 1].tolist() == [0, 0, 1, 1]
    assert found["classes"].tolist() == [[0, -1, -1], [-1, 1, -1]]
    assert boxes_of_ids(ids, [[4], [2]], least=2)["classes"].tolist() == [[0, -1], [-1, -1]]


def test_half_hidden_objects_are_ignored():
    ids = torch.full((1, 1, 8, 8), -1)
    ids[0, 0, :4, :4], ids[0, 0, 5:, 5:] = 0, 1
    found = boxes_of_ids(ids, [[0], [1]], whole=torch.tensor([[33, 18]]))
    assert found["ignored"].tolist() == [[True, False]]


def test_a_group_becomes_one_region():
    ids = torch.full((1, 1, 4, 40), -1)
    for place in range(8):
        ids[0, 0, :, 3 * place : 3 * place + 2] = place  # a pixel lies between them
    for place in range(6):
        ids[0, 0, :, 3 * place + 2] = place  # and now none between the first seven
    found = boxes_of_ids(ids, [[place] for place in range(8)])
    assert found["boxes"][0, 0].tolist() == [0, 0, 20, 4]
    assert found["classes"][0].tolist() == [0, -1, -1, -1, -1, -1, -1, 7]
    assert found["ignored"][0].tolist() == [True, *[False] * 7]
    assert not found["boxes"][0, 1:7].any()
    whole = boxes_of_ids(ids, [[place] for place in range(8)], crowd=7)
    assert whole["classes"][0].tolist() == list(range(8))


def test_no_objects_are_refused():
    with pytest.raises(UserError, match="name geometries"):
        boxes_of_ids(torch.zeros(1, 1, 2, 2, dtype=torch.int64), [])
