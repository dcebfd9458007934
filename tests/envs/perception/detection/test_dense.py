"""The dense detector: targets by hand, decoding undoes them, losses against their formulas, several levels."""

import math

import pytest
import torch
from torch.nn import functional

from envs.perception.detection.dense import DenseDetector, Detections, DetectorConfig, KeepConfig, decode
from envs.perception.detection.detector import Dense, DetectorPerceiverConfig, IFFDetector, middle_map
from envs.perception.detection.iff import IFFConfig
from envs.perception.detection.losses import Targets, detection_losses, focal_loss, make_targets
from envs.perception.detection.scenes import SceneConfig, Scenes
from rlsuite.data.arrays import kept
from rlsuite.errors import UserError
from rlsuite.fit import FitConfig, fit

SMALL = DetectorConfig(widths=(4, 4, 4), strides=(4,), channels=4, feedback=IFFConfig(iterations=0))


def grid(size, stride):
    return DenseDetector(DetectorConfig(widths=(4, 4, 4), strides=(stride,), channels=4), 0).cells((size, size))


def row(*values):
    return torch.tensor([values])


def test_targets_by_hand():
    """One box of 12 x 8 at stride 4: of the cells with middles at 2, 6, ..., those in its middle part learn it."""
    cells = grid(24, 4)
    boxes, classes = torch.tensor([[[2.0, 4.0, 14.0, 12.0], [0.0, 0.0, 0.0, 0.0]]]), row(1, -1)
    found = make_targets(cells, boxes, classes, row(False, False), 0.4)
    positive = (found.classes[0] >= 0).nonzero().flatten()
    # The middle is (8, 8): 0.4 of half the sides, (2.4, 1.6), and half a cell at least, so (2.4, 2).
    assert cells.middles[positive].tolist() == [[6.0, 6.0], [10.0, 6.0], [6.0, 10.0], [10.0, 10.0]]
    assert found.classes[0, positive].tolist() == [1, 1, 1, 1]
    assert (8.0 * found.distances[0, positive[0]].exp()).tolist() == pytest.approx([4.0, 2.0, 8.0, 6.0])


def test_the_smallest_box_wins_and_ignored_ones_are_not_asked():
    cells = grid(24, 4)
    boxes = torch.tensor([[[0.0, 0.0, 24.0, 24.0], [8.0, 8.0, 16.0, 16.0]]])
    both = make_targets(cells, boxes, row(0, 1), row(False, False), 1.0).classes[0].view(6, 6)
    assert both[3, 3] == 1
    assert both[0, 0] == 0
    ignored = make_targets(cells, boxes, row(0, 1), row(True, False), 1.0).classes[0].view(6, 6)
    assert ignored[3, 3] == 1
    assert ignored[0, 0] == -2


def test_tiny_boxes_have_a_cell():
    cells = grid(24, 8)
    boxes = torch.tensor([[[1.0, 1.0, 3.0, 3.0]]])
    assert (make_targets(cells, boxes, row(2), row(False), 0.4).classes >= 0).sum() == 1


def test_levels_share_sizes_among_them():
    network = DenseDetector(DetectorConfig(widths=(4, 4, 4), strides=(2, 4, 8), channels=4), 0)
    cells = network.cells((32, 32))
    assert [tuple(maps.shape[2:]) for maps in network.levels(torch.zeros(1, 3, 32, 32))] == [(16, 16), (8, 8), (4, 4)]
    for size, strides in ((3.0, {2.0}), (6.0, {2.0, 4.0}), (14.0, {4.0, 8.0}), (30.0, {8.0})):
        corner = 16.0 - size / 2
        boxes = torch.tensor([[[corner, corner, corner + size, corner + size]]])
        positive = make_targets(cells, boxes, row(0), row(False), 0.4).classes[0] >= 0
        assert set(cells.strides[positive].tolist()) == strides


def test_decoding_undoes_targets():
    scenes = Scenes(SceneConfig(fewest=3, most=3, smallest=12.0), seed=1).examples(torch.arange(8))
    cells = grid(96, 4)
    targets = make_targets(cells, scenes["boxes"], scenes["classes"], scenes["ignored"], 0.4)
    logits = 16.0 * functional.one_hot(targets.classes.clamp_min(-1) + 1, 4)[..., 1:].float() - 8.0
    maps = torch.cat([logits, targets.distances], dim=-1).transpose(1, 2).unflatten(2, (24, 24))
    found = decode([maps], cells, (96, 96), KeepConfig(score=0.5)).found()
    for picture, one in enumerate(found):
        seen = scenes["classes"][picture][~scenes["ignored"][picture]]
        assert set(one.classes.tolist()) <= set(seen.tolist())
        for box, name in zip(one.boxes, one.classes, strict=True):
            off = (scenes["boxes"][picture] - box).abs().amax(1)
            assert float(off[scenes["classes"][picture] == name].min()) < 1e-3


def test_detections_are_few_good_and_best_first():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 7, 6, 6, generator=generator) - 1.0
    found = decode([maps], grid(24, 4), (24, 24), KeepConfig(score=0.3, before=40, iou=0.5, most=5))
    assert found.scores.shape == (2, 5)
    assert (found.scores.diff(dim=1) <= 0).all()
    assert ((found.scores >= 0.3) == (found.classes >= 0)).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= 24).all()


def test_losses_are_their_formulas():
    generator = torch.Generator().manual_seed(0)
    logits, names = torch.randn(2, 5, 3, generator=generator), torch.tensor([[0, -1, 2, -2, 1], [-1, -1, -2, 2, 2]])
    expected = torch.zeros(2)
    for picture in range(2):
        for cell in range(5):
            for name in range(3):
                share = float(torch.sigmoid(logits[picture, cell, name]))
                if names[picture, cell] == -2:
                    continue
                right = name == names[picture, cell]
                share = share if right else 1 - share
                expected[picture] += (0.4 if right else 0.6) * (1 - share) ** 1.5 * -math.log(share)
    assert torch.allclose(focal_loss(logits, names), expected, rtol=1e-5)
    distances = torch.zeros(2, 5, 4)
    targets = Targets(names, distances)
    said = torch.cat([logits, torch.full((2, 5, 4), 0.5)], dim=-1).transpose(1, 2).unsqueeze(-1)
    found = detection_losses([said], targets)
    assert float(found["classes"]) == pytest.approx(float(expected.sum()) / (5 + 2), rel=1e-5)
    assert float(found["boxes"]) == pytest.approx(4 * (0.5 - 0.055))


def test_blots_lie_at_middles_as_bright_as_scores():
    boxes = torch.tensor([[[2.0, 3.0, 7.0, 8.0], [0.0, 0.0, 0.0, 0.0]]])
    found = middle_map(Detections(boxes, row(0.7, 0.0), row(1, -1)), (10, 12))
    assert found.shape == (1, 1, 10, 12)
    assert float(found.max()) == pytest.approx(0.7)
    assert int(found.flatten().argmax()) == 5 * 12 + 4


def test_it_learns_and_what_it_sees_is_a_map(generator):
    scenes = kept(Scenes(SceneConfig(height=32, width=32, smallest=8.0, largest=14.0, most=2, clutter=1)), 16)
    perceiver = IFFDetector(config=IFFDetector.Config(network=DetectorConfig(widths=(4, 8), strides=(4,), channels=8)))
    history = fit(
        perceiver,
        lambda _, batch: perceiver.losses(batch),
        scenes,
        FitConfig(steps=30, batch_size=8, check_every=10),
        seed=0,
    )
    assert history.records[-1]["loss"] < 0.8 * history.records[0]["loss"]
    picture = torch.rand(2, 3, 20, 28, generator=generator)
    with torch.no_grad():
        seen, state = perceiver({"rgb": picture, "phase": torch.zeros(2)}, {})
    assert seen["objects"].shape == (2, 1, 20, 28)
    assert state == {}
    assert perceiver.metrics(seen, {"objects": seen["objects"] + 0.5})["error"].tolist() == pytest.approx([0.5, 0.5])


def test_losses_on_the_first_pass_are_added_at_their_weight():
    scenes = Scenes(SceneConfig(height=32, width=32, smallest=8.0, largest=14.0)).examples(torch.arange(2))
    values = []
    for weight in (0.0, 0.5):
        network = DetectorConfig(
            widths=(4, 4), strides=(4,), channels=4, feedback=IFFConfig(first_loss=weight, init="zero")
        )
        found = Dense(config=DetectorPerceiverConfig(network=network)).losses(scenes)
        values.append(float(found["loss"].detach()))
    assert values[1] == pytest.approx(1.5 * values[0])  # nothing comes back yet, so both passes say the same


def test_what_it_learns_from():
    perceiver = Dense(config=DetectorPerceiverConfig(network=SMALL))
    assert len(perceiver.source("", 64, 0, kept=2)) == 4
    assert perceiver.source("", 64, 0).examples(torch.zeros(1, dtype=torch.int64))["picture"].shape == (1, 3, 64, 64)


def test_what_is_refused():
    with pytest.raises(UserError, match="strides"):
        DetectorConfig(strides=(8, 4))
    with pytest.raises(UserError, match="multiples of 4"):
        DetectorConfig(channels=30)
    with pytest.raises(UserError, match="a clip has no boxes"):
        Dense(config=DetectorPerceiverConfig(network=SMALL)).source("", 64, 0, [torch.zeros(6, 3, 64, 64)])
