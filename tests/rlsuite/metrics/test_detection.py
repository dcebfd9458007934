"""Detection's figures by hand, against a plain twin of the challenge's protocol, and against pycocotools."""

import contextlib
import io
import math

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.metrics.boxes import area, box_iod, box_iou
from rlsuite.metrics.detection import COCO, SIZES, TINY, Found, Objects, Protocol, judge, miss_rate

PLAIN = Protocol((0.5,), (("all", 0.0, 1e10),))


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float64).view(-1, 4)


def found(rows, scores, classes=None):
    classes = torch.zeros(len(scores), dtype=torch.int64) if classes is None else torch.tensor(classes)
    return Found(boxes(*rows), torch.tensor(scores, dtype=torch.float64), classes)


def objects(rows, **flags):
    named = {name: torch.tensor(value) for name, value in flags.items()}
    return Objects(boxes(*rows), torch.zeros(len(rows), dtype=torch.int64), **named)


def scenes(seed, pictures=12, classes=3, largest=40.0):
    """Return random objects, and detections some of which are near them, many of equal score and overlap."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count):
        corners = (torch.rand(count, 2, generator=generator) * 60).round()
        sides = (torch.rand(count, 2, generator=generator) * largest).round() + 2
        return torch.cat([corners, corners + sides], dim=1).double()

    guesses, truth = [], []
    for _ in range(pictures):
        count = int(torch.randint(0, 7, (1,), generator=generator))
        true = draw(count)
        near = true.repeat(2, 1) + (3 * torch.randn(2 * count, 4, generator=generator)).round()
        near[:, 2:] = torch.maximum(near[:, 2:], near[:, :2] + 1)
        every = torch.cat([near, draw(4)])
        every = every[torch.randperm(len(every), generator=generator)]
        names = torch.randint(0, classes, (count,), generator=generator)
        ignored = torch.rand(count, generator=generator) < 0.2
        crowd = torch.rand(count, generator=generator) < 0.15
        truth.append(Objects(true, names, ignored, crowd))
        scores = (torch.rand(len(every), generator=generator) * 10).round() / 10
        guesses.append(Found(every, scores.double(), torch.randint(0, classes, (len(every),), generator=generator)))
    return guesses, truth


# -- by hand ---------------------------------------------------------------------------------------------------


def test_perfect_boxes_and_none():
    there = objects([(0, 0, 10, 10), (20, 20, 30, 40)])
    perfect = judge([Found(there.boxes, torch.tensor([0.9, 0.8]), there.classes)], [there], COCO)
    assert perfect.precision() == pytest.approx(1.0)
    assert perfect.recall() == 1.0
    assert perfect.recall(most=1) == 0.5
    assert perfect.misses() == pytest.approx(1e-10)
    assert math.isnan(perfect.precision("large"))  # nothing to be found is no zero
    nothing = judge([found([], [])], [there], COCO)
    assert (nothing.precision(), nothing.recall(), nothing.misses()) == (0.0, 0.0, 1.0)


def test_precision_by_hand():
    """True, false, true of four objects: recalls 1/4 and 2/4 at precisions 1 and 2/3."""
    there = objects([(0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10), (60, 0, 70, 10)])
    guesses = found([(0, 0, 10, 10), (0, 50, 10, 60), (20, 0, 30, 10)], [0.9, 0.8, 0.7])
    judged = judge([guesses], [there], PLAIN)
    assert judged.precision() == pytest.approx((26 * 1.0 + 25 * 2 / 3) / 101)
    # In one picture, a false detection is one a picture: two objects are found at 1, one below it.
    assert judged.misses() == pytest.approx(math.exp((8 * math.log(3 / 4) + math.log(1 / 2)) / 9))
    assert judged.ranked[0].outcome[0, 0].tolist() == [1, 0, 1]


def test_an_object_is_found_once_and_the_best_overlap_is_taken():
    there = objects([(0, 0, 10, 10), (2, 0, 12, 10)])
    guesses = found([(2, 0, 12, 10), (0, 0, 10, 10), (1, 0, 11, 10)], [0.9, 0.8, 0.7])
    assert judge([guesses], [there], PLAIN).ranked[0].outcome[0, 0].tolist() == [1, 1, 0]


def test_what_lies_in_an_ignored_region_counts_for_nothing():
    there = objects([(0, 0, 10, 10), (100, 100, 200, 200)], ignored=[False, True])
    guesses = found([(120, 120, 130, 130), (150, 150, 160, 160), (0, 0, 10, 10)], [0.9, 0.8, 0.7])
    judged = judge([guesses], [there], TINY)
    assert judged.precision("tiny", 0.5) == pytest.approx(1.0)
    assert judged.ranked[0].outcome[0, 1].tolist() == [-1, -1, 1]
    earlier = Protocol(TINY.ious, TINY.bins, 200, "iou")
    assert judge([guesses], [there], earlier).precision("tiny", 0.5) < 0.5


def test_a_false_detection_of_another_size_counts_for_nothing_in_a_bin():
    there = objects([(0, 0, 10, 10)])
    guesses = found([(100, 100, 125, 125), (0, 0, 10, 10)], [0.9, 0.8])
    judged = judge([guesses], [there], TINY)
    assert judged.precision("tiny", 0.5) == pytest.approx(1.0)
    assert judged.precision("all", 0.5) == pytest.approx(0.5)
    assert math.isnan(judged.precision("tiny1", 0.5))


def test_miss_rates_leave_out_other_sizes_and_count_empty_pictures():
    there, empty = objects([(0, 0, 6, 6), (50, 50, 100, 100)]), objects([])
    guesses = found([(0, 0, 6, 6), (200, 200, 240, 240)], [0.5, 0.9])
    assert miss_rate([guesses], [there], *SIZES["tiny1"]) == pytest.approx(1e-10)
    false = found([(200, 200, 206, 206)], [0.9])
    # One false detection in 100 pictures is 0.01 a picture: everything is found at each of the nine.
    many = [guesses, false, *[found([], [])] * 98]
    assert miss_rate(many, [there, *[empty] * 99], *SIZES["tiny1"]) == pytest.approx(1e-10)
    # In ten pictures it is 0.1: nothing is found at the first four numbers, that below 0.1 taking one miss each.
    few = miss_rate(many[:10], [there, *[empty] * 9], *SIZES["tiny1"])
    assert few == pytest.approx(math.exp(5 * math.log(1e-10) / 9))


def test_the_share_inside_is_the_identity_by_iou():
    """IoD = IoU / (1 + IoU) (1 + area of the object / area of the detection)."""
    guesses, truth = scenes(0, pictures=40)
    for one, other in zip(guesses, truth, strict=True):
        iou = box_iou(one.boxes, other.boxes)
        ratio = area(other.boxes).unsqueeze(0) / area(one.boxes).unsqueeze(1)
        assert (iou / (1 + iou) * (1 + ratio) - box_iod(one.boxes, other.boxes)).abs().sum() < 1e-9


def test_what_is_refused():
    with pytest.raises(UserError, match="did you mean 'tiny1'"):
        judge([], [], TINY).precision("tinny1")
    with pytest.raises(UserError, match="the thresholds are"):
        judge([], [], TINY).precision("tiny", 0.6)
    with pytest.raises(UserError, match="regions=ioo"):
        Protocol((0.5,), (("all", 0, 1),), regions="ioo")
    with pytest.raises(ValueError, match="2 pictures"):
        judge([found([], [])] * 2, [], TINY)


# -- a plain twin ----------------------------------------------------------------------------------------------


def twin(guesses, truth, protocol, place, iou, name):
    """One class, bin and threshold, pair by pair: every detection's score and outcome, and how many are to be found."""
    _, low, high = protocol.bins[place]
    every, to_find = [], 0
    for one, other in zip(guesses, truth, strict=True):
        mine = [g for g in range(len(other.boxes)) if other.classes[g] == name]
        sizes = area(other.boxes)
        off = {g: bool(other.ignored[g] | other.crowd[g]) or not low <= sizes[g] <= high for g in mine}
        to_find += sum(not off[g] for g in mine)
        order = [d for d in torch.argsort(-one.scores, stable=True).tolist() if one.classes[d] == name]
        taken = set()
        for d in order[: protocol.most]:
            box = one.boxes[d : d + 1]
            best, which = min(iou, 1 - 1e-10), None
            for g in sorted(mine, key=lambda g: off[g]):
                if g in taken and not other.crowd[g]:
                    continue
                if which is not None and not off[which] and off[g]:
                    break
                against = other.boxes[g : g + 1]
                overlap = float((box_iod if other.crowd[g] else box_iou)(box, against))
                if overlap >= best:
                    best, which = overlap, g
            if which is None and protocol.regions == "iod":
                shares = {g: float(box_iod(box, other.boxes[g : g + 1])) for g in mine if off[g]}
                if shares and max(shares.values()) >= iou:
                    which = max(shares, key=lambda g: shares[g])
            if which is not None:
                taken.add(which)
                outcome = -1 if off[which] else 1
            else:
                outcome = 0 if low <= float(area(box)) <= high else -1
            every.append((float(one.scores[d]), outcome))
    return every, to_find


@pytest.mark.parametrize("regions", ["iou", "iod"])
@pytest.mark.parametrize("seed", range(3))
def test_matching_is_the_plain_twins(seed, regions):
    guesses, truth = scenes(seed, pictures=6)
    protocol = Protocol((0.25, 0.5), (("all", 0.0, 1e10), ("some", 200.0, 900.0)), most=5, regions=regions)
    judged = judge(guesses, truth, protocol)
    for name, ranked in judged.ranked.items():
        for place in range(2):
            for number, iou in enumerate(protocol.ious):
                expected, to_find = twin(guesses, truth, protocol, place, iou, name)
                expected.sort(key=lambda pair: -pair[0])
                assert [outcome for _, outcome in expected] == ranked.outcome[place, number].tolist()
                assert to_find == int(ranked.objects[place])


# -- pycocotools -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [40.0, 150.0])
def test_figures_are_pycocotools_own(largest):
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    guesses, truth = scenes(5, pictures=40, largest=largest)
    truth = [one._replace(ignored=None) for one in truth]

    def xywh(box):
        return [float(value) for value in (box[0], box[1], box[2] - box[0], box[3] - box[1])]

    rows = [(number, g, one) for number, one in enumerate(truth) for g in range(len(one.boxes))]
    annotations = [
        {
            "id": place + 1,
            "image_id": number,
            "category_id": int(one.classes[g]),
            "bbox": xywh(one.boxes[g]),
            "area": float(area(one.boxes[g])),
            "iscrowd": int(one.crowd[g]),
        }
        for place, (number, g, one) in enumerate(rows)
    ]
    results = [
        {
            "image_id": number,
            "category_id": int(one.classes[d]),
            "bbox": xywh(one.boxes[d]),
            "score": float(one.scores[d]),
        }
        for number, one in enumerate(guesses)
        for d in range(len(one.boxes))
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        there = coco.COCO()
        there.dataset = {
            "images": [{"id": number} for number in range(len(truth))],
            "annotations": annotations,
            "categories": [{"id": name} for name in range(3)],
        }
        there.createIndex()
        theirs = evaluation.COCOeval(there, there.loadRes(results), "bbox")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    ours = judge(guesses, truth, COCO)
    figures = [
        *(ours.precision(), ours.precision(iou=0.5), ours.precision(iou=0.75)),
        *(ours.precision(size) for size in ("small", "medium", "large")),
        *(ours.recall(most=most) for most in (1, 10, 100)),
        *(ours.recall(size) for size in ("small", "medium", "large")),
    ]
    for figure, other in zip(figures, theirs.stats.tolist(), strict=True):
        assert math.isnan(figure) if other == -1 else figure == pytest.approx(other, abs=1e-12)
