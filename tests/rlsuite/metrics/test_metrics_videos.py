"""Average precision of tubes by hand."""

import pytest
import torch

from rlsuite.metrics.videos import THRESHOLDS, Tubes, tube_iou, tube_precision, tubelet_iou, tubes_of


def tracks(*rows):
    return torch.tensor(rows).view(len(rows), 1, -1)


def truth(found):
    count = int(found.max()) + 1
    return tubes_of(found, torch.zeros(count, dtype=torch.int64), torch.ones(count))


def test_a_tube_is_one_object_over_the_whole_video():
    one = truth(tracks([0, 0, -1, 1], [0, 0, -1, 1]))
    other = truth(tracks([0, 0, -1, 1], [1, 1, -1, 0]))  # identities change places half-way
    assert tube_iou(one.masks, other.masks).tolist() == [[2 / 5, 2 / 5], [1 / 4, 1 / 4]]


def test_precision_by_hand():
    true = truth(tracks([0, 0, 1, 1]))
    assert tube_precision([true], [true])[0].tolist() == [1.0] * len(THRESHOLDS)
    masks = torch.stack([true.masks[0], ~true.masks[0] & ~true.masks[1], true.masks[1]])
    found = Tubes(masks, torch.zeros(3, dtype=torch.int64), torch.tensor([0.9, 0.8, 0.7]))
    precision, recall = tube_precision([found], [true], (0.5,))  # right, wrong, right
    assert precision.item() == pytest.approx((51 * 1.0 + 50 * 2 / 3) / 101)
    assert recall.item() == 1.0
    assert tube_precision([found], [true], (0.5,), most=1)[1].item() == 0.5
    wrong = found._replace(labels=torch.ones(3, dtype=torch.int64))
    assert tube_precision([wrong], [true], (0.5,))[0].item() == 0.0


def test_boxes_that_move_overlap_frame_by_frame():
    first = torch.tensor([[0.0, 0, 4, 4], [0.0, 0, 4, 4], [0.0, 0, 0, 0]]).view(1, 3, 4)
    second = torch.tensor([[0.0, 0, 4, 4], [2.0, 0, 6, 4], [0.0, 0, 0, 0]]).view(1, 3, 4)
    assert tubelet_iou(first, second).item() == pytest.approx((1 + 1 / 3) / 2)
