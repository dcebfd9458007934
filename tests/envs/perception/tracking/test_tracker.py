"""The cascade as a whole, on clips small enough for seconds: it follows, it skips, it gets lost, it is resumed."""

import dataclasses

import pytest
import torch

from envs.perception.tracking.cascade import CascadeConfig, mean_of_one
from envs.perception.tracking.crops import VIEWS, Place, around, cut, first_views
from envs.perception.tracking.crt import CRT, CRTConfig, box_of_mask, mask_of_box
from envs.perception.tracking.features import TrackingNet, TrackingNetConfig
from envs.perception.tracking.memories import reject, remember
from envs.perception.tracking.moving_objects import LookAlikes, LookAlikesConfig
from envs.perception.tracking.tracker import FIRST, HARD_NEGATIVE, NOT_FOUND, OK, UNCERTAIN, Tracker
from rlsuite.errors import UserError
from rlsuite.metrics.boxes import box_iou

SIZES = TrackingNetConfig(crop=40, widths=(6, 12), features=24)
CONFIG = CascadeConfig(network=SIZES, projected=8, memory=40, frames=3, newton_steps=3)


def tracker(**changes):
    network = TrackingNet(SIZES, seed=1).eval().requires_grad_(False)
    return Tracker(network, dataclasses.replace(CONFIG, **changes))


def scene(*places, side=8, size=48):
    """Return a grey picture (1, 3, S, S) with red squares, and their boxes."""
    picture, boxes = torch.full((1, 3, size, size), 0.5), []
    for x, y in places:
        picture[0, :, y : y + side, x : x + side] = torch.tensor([0.9, 0.1, 0.1]).view(3, 1, 1)
        boxes.append([x, y, x + side, y + side])
    return picture, torch.tensor(boxes, dtype=torch.float32)


def test_a_lone_object_is_followed_and_the_second_stage_is_not_asked():
    one = tracker(every=100)
    picture, boxes = scene((20, 20))
    state = one.begin(picture, boxes)
    for x in range(21, 27):
        picture, boxes = scene((x, 20))
        found, state = one.track(picture, state)
        assert found.flag.tolist() == [OK]
        assert found.evaluations.tolist() == [0]
        assert not found.look.ran.any()
        assert float(box_iou(found.box, boxes)) > 0.5


def test_a_twin_calls_the_second_stage_and_is_remembered_as_a_negative():
    one = tracker()
    state = one.begin(*scene((12, 20)))
    before = {name: value.clone() for name, value in state.items()}
    found, after = one.track(scene((13, 20), (28, 20))[0], state)
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert found.look.ran.all()
    assert int(found.look.there.sum()) >= 2
    assert int(found.evaluations) == int(found.look.there.sum()) * CONFIG.jitters
    assert found.flag.tolist()[0] in (UNCERTAIN, HARD_NEGATIVE)
    assert int(after["rejected"]) >= int(before["rejected"]) + CONFIG.jitters // 2
    assert not torch.equal(after["ridge"], before["ridge"])
    sure = found.flag.tolist() == [HARD_NEGATIVE]  # else nothing is taken for the target
    assert torch.equal(after["samples"], before["samples"]) != sure
    assert int(after["accepted"]) == int(before["accepted"]) + sure


def test_candidates_keep_their_peaks_boxes_and_the_targets_sides():
    one = tracker()
    state = one.begin(*scene((12, 20)))
    found, _ = one.track(scene((13, 20), (28, 20))[0], state)
    assert found.look.ran.all()
    assert torch.equal(found.look.boxes, found.look.samples[:, :, 0])
    there = found.look.boxes[found.look.there]
    torch.testing.assert_close(there[:, 2:] - there[:, :2], torch.full((len(there), 2), 8.0), atol=1e-4, rtol=0)


def test_boxes_of_other_objects_are_not_averaged_with_the_winners():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [2.0, 0, 12, 10], [30.0, 0, 40, 10]], [[5.0, 5, 5, 5]] * 3])
    assert mean_of_one(boxes).tolist() == [[1.0, 0.0, 11.0, 10.0], [5.0, 5.0, 5.0, 5.0]]
    alone = tracker(stages="second")
    state = alone.begin(*scene((10, 20)))
    found, _ = alone.track(scene((10, 20), (28, 20))[0], state)
    best = int(found.look.first.argmax())
    assert float(box_iou(found.look.boxes[0, best : best + 1], found.look.samples[0, best])) >= 0.5


def test_what_has_left_is_not_found_kept_and_found_again_anywhere():
    one = tracker(lost_after=2)
    state = one.begin(*scene((6, 6)))
    empty, box = scene()[0], state["box"].clone()
    for _ in range(2):
        found, state = one.track(empty, state)
        assert found.flag.tolist() == [NOT_FOUND]
        assert torch.equal(found.box, box)
    picture, boxes = scene((34, 36))  # out of the search area, which is 40 pixels wide
    found, state = one.track(picture, state)
    assert float(box_iou(found.box, boxes)) > 0.4
    assert found.flag.tolist() == [UNCERTAIN]
    assert state["lost"].tolist() == [0]


@pytest.mark.parametrize("changes", [{"stages": "first"}, {"stages": "second"}, {"easy": True}], ids=str)
def test_rows_are_apart_and_every_arm_runs(changes):
    one = tracker(every=2, **changes)
    clips = LookAlikes(LookAlikesConfig(size=48), seed=2).clips(torch.arange(2), 4)
    frames, boxes = clips["frames"].float() / 255.0, clips["boxes"][:, 0, 0]
    together, alone = one.begin(frames[:, 0], boxes), one.begin(frames[1:, 0], boxes[1:])
    for number in range(1, 4):
        found, together = one.track(frames[:, number], together)
        single, alone = one.track(frames[1:, number], alone)
        assert torch.allclose(found.box[1:], single.box, atol=1e-2)
        assert (found.evaluations > 0).any() or changes != {"stages": "second"}
        assert torch.isfinite(found.box).all()


def test_the_perceiver_waits_for_its_object_and_shows_its_box():
    crt = CRT(config=CRTConfig(**{**vars(CONFIG), "target": 3}), seed=1).eval()
    picture, boxes = scene((20, 20))
    ids = torch.full((1, 1, 48, 48), -1)
    seen = {"rgb": picture, "ids": ids, "phase": torch.zeros(1)}
    with torch.no_grad():
        made, state = crt(seen, crt.init_state(1, (48, 48)))
        assert not made["target"].any()
        ids = ids.clone()
        ids[0, 0, 20:28, 20:28] = 3
        made, state = crt({**seen, "ids": ids}, state)
        assert torch.equal(made["target"][:, 0] > 0, ids[:, 0] == 3)
        held, same = crt({**seen, "ids": ids, "phase": torch.full((1,), 0.5)}, state)
        assert torch.equal(held["target"], made["target"])
        assert all(torch.equal(same[name], value) for name, value in state.items())
        moved, _ = crt({**seen, "rgb": scene((22, 20))[0], "ids": ids}, state)  # ids are looked at once only
    assert (
        float(
            crt.metrics(moved, {"target": mask_of_box(boxes + torch.tensor([2.0, 0, 2, 0]), (48, 48)).float()})["iou"]
        )
        > 0.5
    )
    with pytest.raises(UserError, match="leave data="):
        crt.source("somewhere", 64, 0)


def test_episodes_teach_and_gradients_reach_the_solver():
    crt = CRT(config=CRTConfig(network=SIZES), seed=0)
    batch = crt.source("", 48, 0).examples(torch.arange(2))
    losses = crt.losses(batch)
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    assert float(crt.network.log_regularization.grad.abs()) > 0  # type: ignore[union-attr]
    assert float(crt.network.project.weight.grad.abs().sum()) > 0  # type: ignore[union-attr]


def test_boxes_of_masks_and_back():
    boxes = torch.tensor([[3.0, 5.0, 9.0, 6.0]])
    assert torch.equal(box_of_mask(mask_of_box(boxes, (12, 16))), boxes)
    assert box_of_mask(torch.zeros(1, 4, 4, dtype=torch.bool)).tolist() == [[0.0] * 4]


# -- crops and memories -------------------------------------------------------------------------------------------


def test_a_crop_of_the_frame_itself_is_the_frame(generator):
    frames = torch.rand(2, 3, 16, 16, generator=generator)
    place = Place(torch.full((2, 2), 8.0), torch.full((2,), 16.0))
    assert torch.allclose(cut(frames, place, 16), frames, atol=1e-5)
    boxes = torch.tensor([[[2.0, 3.0, 5.0, 7.0]]]).expand(2, -1, -1)
    assert torch.allclose(place.to_frame(place.to_crop(boxes, 40), 40), boxes, atol=1e-5)
    assert around(torch.tensor([[0.0, 0.0, 4.0, 9.0]]), 5.0).side.tolist() == [30.0]


def test_first_views_hold_the_target_where_they_say():
    frame = torch.zeros(1, 3, 64, 64)
    frame[:, :, 30:34, 30:34] = 1.0
    views, centres = first_views(frame, Place(torch.full((1, 2), 32.0), torch.full((1,), 64.0)), 64, seed=0)
    assert views.shape == (1, VIEWS, 3, 64, 64)
    light = views[0, :, 0]
    steps = torch.arange(64) + 0.5
    x = (light.sum(1) * steps).sum(1) / light.sum((1, 2))
    y = (light.sum(2) * steps).sum(1) / light.sum((1, 2))
    assert torch.allclose(torch.stack([x, y], dim=1), centres, atol=0.6)


def test_the_first_frames_samples_stay_and_keep_a_quarter():
    memory = FIRST + 2
    state = {
        "samples": torch.zeros(1, memory, 1, 1, 1),
        "labels": torch.zeros(1, memory, 2, 2),
        "sample_weights": torch.cat([torch.full((1, FIRST), 1.0 / FIRST), torch.zeros(1, 2)], dim=1),
    }
    for number in range(1, 200):
        new = torch.full((1, 1, 1, 1), float(number))
        remember(state, torch.tensor([0]), new, torch.zeros(1, 2, 2), torch.tensor([0.02]), FIRST)
    assert not state["samples"][:, :FIRST].any()
    assert set(state["samples"][0, FIRST:].flatten().tolist()) == {198.0, 199.0}
    assert float(state["sample_weights"].sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(state["sample_weights"][:, :FIRST].sum()) >= 0.25 - 1e-5


def test_the_newest_negatives_are_kept():
    state = {
        "negatives": torch.zeros(1, 4, 1),
        "negative_there": torch.zeros(1, 4, dtype=torch.bool),
        "rejected": torch.zeros(1, dtype=torch.int64),
    }
    there = torch.tensor([[True, False, True, True]])
    for first in (1.0, 5.0):
        reject(state, torch.tensor([0]), torch.arange(first, first + 4).view(1, 4, 1), there)
    assert sorted(state["negatives"].flatten().tolist()) == [4.0, 5.0, 7.0, 8.0]
    assert state["negative_there"].all()
    assert state["rejected"].tolist() == [6]
