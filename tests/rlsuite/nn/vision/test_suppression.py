"""Suppression of overlapping boxes against the greedy rule, one box at a time."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsuite.metrics.boxes import box_iou
from rlsuite.nn.vision.suppression import suppress


def greedy(boxes, scores, classes, iou):
    kept = []
    for place in sorted(range(len(boxes)), key=lambda one: -float(scores[one])):
        overlaps = [float(box_iou(boxes[other : other + 1], boxes[place : place + 1])) for other in kept]
        if all(
            overlap <= iou or classes[other] != classes[place] for overlap, other in zip(overlaps, kept, strict=True)
        ):
            kept.append(place)
    return sorted(kept)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), number=st.integers(0, 12), iou=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_it_is_the_greedy_rule_for_each_picture(seed, number, iou):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(2, number, 2, generator=generator) * 10
    boxes = torch.cat([corners, corners + 1 + 8 * torch.rand(2, number, 2, generator=generator)], dim=2)
    scores = torch.rand(2, number, generator=generator).mul(5).round()  # many of them equal
    classes = torch.randint(0, 2, (2, number), generator=generator)
    kept = suppress(boxes, scores, classes, iou)
    for row in range(2):
        assert kept[row].nonzero().flatten().tolist() == greedy(boxes[row], scores[row], classes[row], iou)


def test_what_a_suppressed_box_overlaps_stays():
    boxes = torch.tensor([[[0.0, 0.0, 10.0, 10.0], [3.0, 0.0, 13.0, 10.0], [6.0, 0.0, 16.0, 10.0]]])
    assert suppress(boxes, torch.tensor([[0.9, 0.8, 0.7]]), torch.zeros(1, 3), 0.5).tolist() == [[True, False, True]]
