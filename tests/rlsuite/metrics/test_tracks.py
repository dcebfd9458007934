"""Metrics of tracks: by hand, and against a plain loop."""

import pytest
import torch

from rlsuite.metrics.tracks import identity_switches, nearest_objects, precision, success_auc


def boxes_at(*centres, half=1.0):
    return torch.tensor([[x - half, y - half, x + half, y + half] for x, y in centres])


def test_success_is_the_mean_share_over_thresholds():
    truth = boxes_at((5, 5), (5, 5), (5, 5)).unsqueeze(0)
    # IoUs 1, 1/3 (half of each overlaps) and 0: above 20 of 21 thresholds, above 0, .05, ..., .3, and above none.
    tracked = boxes_at((5, 5), (6, 5), (9, 9)).unsqueeze(0)
    assert success_auc(tracked, truth).item() == pytest.approx((20 + 7 + 0) / 21 / 3)
    valid = torch.tensor([[True, False, True]])
    assert success_auc(tracked, truth, valid).item() == pytest.approx(20 / 21 / 2)


def test_precision_counts_frames_that_are_near():
    truth = boxes_at((5, 5), (5, 5), (5, 5)).unsqueeze(0)
    tracked = boxes_at((5, 5), (8, 9), (11, 5)).unsqueeze(0)  # 0, 5 and 6 pixels away
    assert precision(tracked, truth, 5.0).item() == pytest.approx(2 / 3)


def test_nearest_object_among_those_seen():
    objects = boxes_at((0, 0), (10, 0)).expand(1, 3, 2, 4)
    tracked = boxes_at((1, 0), (9, 0), (9, 0)).unsqueeze(0)
    assert nearest_objects(tracked, objects).tolist() == [[0, 1, 1]]
    seen = torch.tensor([[[True, True], [True, False], [False, False]]])
    assert nearest_objects(tracked, objects, seen).tolist() == [[0, 0, -1]]


def test_switches_skip_frames_of_nobody():
    ids = torch.tensor([[0, 0, 1, 1, 0], [-1, 2, -1, 2, -1], [-1, 2, -1, 3, 3], [-1, -1, -1, -1, -1]])
    assert identity_switches(ids).tolist() == [2, 0, 1, 0]


def test_switches_are_those_of_a_plain_loop(generator):
    ids = torch.randint(-1, 3, (50, 12), generator=generator)
    for row, count in zip(ids.tolist(), identity_switches(ids).tolist(), strict=True):
        known = [one for one in row if one >= 0]
        assert count == sum(one != other for one, other in zip(known, known[1:], strict=False))
