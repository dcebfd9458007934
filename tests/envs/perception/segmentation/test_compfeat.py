"""CompFeat: attention, maps and matching by hand, causality, memory, and what it learns from."""

import pytest
import torch

from envs.perception.segmentation import losses
from envs.perception.segmentation.attention import Attention, Refiner
from envs.perception.segmentation.compfeat import CompFeat, CompFeatConfig
from envs.perception.segmentation.correlation import CorrelationMap, CorrelationScore, inside, map_likeness, map_loss
from envs.perception.segmentation.digit_clips import DigitClips
from envs.perception.segmentation.matching import MatchConfig, match
from envs.perception.segmentation.network import STRIDE, CompFeatNetConfig, proposals, shifted
from envs.perception.segmentation.pictures import pasted
from rlsuite.errors import UserError

SMALL = CompFeatNetConfig(channels=8, attention=8, embedding=16)


@pytest.fixture(scope="module")
def clips():
    return DigitClips("test", 48, 2, seed=3).examples(torch.arange(2))


def perceiver(**changes):
    made = CompFeat(config=CompFeatConfig(network=SMALL, **changes)).eval()
    generator = torch.Generator().manual_seed(5)
    for weight in made.parameters():  # also those that begin at 0, so that nothing is switched off
        weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    return made


def test_attention_is_a_weighted_mean_of_values():
    made = Attention(2, 3)
    maps, support = torch.randn(1, 2, 2, 2), torch.randn(1, 2, 2, 1, 3)
    assert made(maps, support).abs().max() == 0  # its last layer begins at 0
    torch.nn.init.normal_(made.output.weight)
    valid = torch.tensor([[True, False]])
    found = made(maps, support, valid)
    weight = {name: layer.weight[:, :, 0, 0] for name, layer in made.named_children()}
    keys = support[0, 0].flatten(1)
    expected = torch.zeros(2, 4)
    for cell in range(4):
        query = weight["query"] @ maps[0].flatten(1)[:, cell] + made.query.bias
        key = weight["key"] @ keys + made.key.bias.unsqueeze(1)
        score = made.log_scale.exp() * (query / query.norm()) @ (key / key.norm(dim=0))
        value = (weight["value"] @ keys + made.value.bias.unsqueeze(1)) @ score.softmax(0)
        expected[:, cell] = weight["output"] @ value
    assert torch.allclose(found[0].flatten(1), expected, atol=1e-5)
    assert made(maps, support, torch.tensor([[False, False]])).abs().max() == 0


def test_both_branches_are_added():
    made, maps, support = Refiner(2, 3), torch.randn(1, 2, 2, 2), torch.randn(1, 1, 2, 2, 2)
    for branch in (made.temporal, made.spatial):
        torch.nn.init.normal_(branch.output.weight)
    valid = torch.tensor([[True]])
    expected = maps + made.temporal(maps, support) + made.spatial(maps, maps.unsqueeze(1))
    assert torch.allclose(made(maps, support, valid), expected)


def test_scores_are_dot_products_and_new_is_0():
    made = CorrelationScore(2, 1, 4)
    objects, remembered = torch.randn(1, 1, 2, 1, 1), torch.randn(1, 2, 2, 1, 1)
    logits = made(objects, remembered, torch.tensor([[True, False]]))[0, 0]
    product = made.body(objects.flatten(2))[0, 0] @ made.body(remembered.flatten(2))[0, 0]
    assert logits[0] == 0
    assert logits[2] == -1e9
    assert torch.allclose(logits[1], product)


def test_a_map_is_a_correlation_channel_by_channel():
    made = CorrelationMap(2, 2)
    frames, remembered = torch.randn(2, 2, 5, 6), torch.randn(2, 3, 2, 3, 3)
    kernels = made.adjust(remembered.flatten(0, 1)).view(2, 3, 2, 3, 3) / 9
    padded = torch.nn.functional.pad(frames, (1, 1, 1, 1))
    expected = torch.zeros(2, 3, 2, 5, 6)
    for row in range(5):
        for column in range(6):
            cut = padded[:, :, row : row + 3, column : column + 3].unsqueeze(1)
            expected[..., row, column] = (cut * kernels).sum(dim=(3, 4))
    expected = made.output(torch.relu(made.hidden(expected.flatten(0, 1)))).view(2, 3, 5, 6)
    assert torch.allclose(made(frames, remembered), expected, atol=1e-5)


def test_cells_inside_boxes_by_hand():
    box = torch.tensor([[[4.0, 0.0, 12.0, 4.0]]])
    assert inside(box, (2, 4), 4.0)[0, 0].tolist() == [[False, True, True, False], [False] * 4]
    logits = torch.tensor([[[[9.0, 0.0, 0.0, 9.0], [9.0] * 4]]])
    assert map_likeness(logits, box, 4.0).item() == pytest.approx(0.5)


def test_both_kinds_of_cells_weigh_a_half():
    logits, targets = torch.zeros(1, 2, 1, 4), torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, 2, 1, 4)
    logits[0, 0, 0, 0] = 100.0  # right where the object is, at a loss elsewhere
    logits[0, 1] = 50.0  # of nobody known
    loss = map_loss(logits, targets, torch.tensor([[True, False]]))
    assert loss.item() == pytest.approx(0.5 * torch.log(torch.tensor(2.0)).item())
    assert map_loss(logits, targets, torch.tensor([[False, False]])).item() == 0


def matched(logits, overlap, alike, present=None, likeness=None, known=None):
    logits, overlap, alike = (torch.tensor([values]) for values in (logits, overlap, alike))
    count, slots = overlap.shape[1:]
    present = torch.ones(1, count, dtype=torch.bool) if present is None else torch.tensor([present])
    known = torch.ones(1, slots, dtype=torch.bool) if known is None else torch.tensor([known])
    likeness = torch.zeros(1, count, slots) if likeness is None else torch.tensor([likeness])
    return match(logits, torch.ones(1, count), overlap, alike, likeness, present, known, MatchConfig())[0].tolist()


def test_identities_by_hand():
    same = [[True, True], [True, True]]
    # Embeddings tell who is who though boxes say the opposite: they crossed.
    assert matched([[0.0, 6.0, 0.0], [0.0, 0.0, 6.0]], [[0.0, 1.0], [1.0, 0.0]], same) == [0, 1]
    assert matched([[0.0, -3.0, -9.0], [0.0, 5.0, 0.0]], [[0.0, 0.0], [0.5, 0.0]], same) == [2, 0]  # the first is new
    # Both claim the first slot: the surer keeps it, the other is dropped.
    assert matched([[0.0, 4.0, 0.0], [0.0, 5.0, 0.0]], [[0.0, 0.0], [0.5, 0.0]], same) == [-1, 0]
    # Another class loses 10, and is new.
    assert matched([[0.0, 4.0, 0.0]], [[0.9, 0.0]], [[False, False]]) == [2]
    # The map decides where all else is equal; slots that are free and detections that are not there have no part.
    assert matched([[0.0, 2.0, 2.0]], [[0.0, 0.0]], [[True, True]], likeness=[[0.1, 0.9]]) == [1]
    assert matched([[0.0, 9.0, 0.0]], [[1.0, 0.0]], [[True, True]], known=[False, True]) != [0]
    assert matched([[0.0, 9.0, 0.0]], [[1.0, 0.0]], [[True, True]], present=[False]) == [-1]


def test_boxes_of_middles_by_hand():
    found = torch.zeros(1, 5, 2, 4)
    found[0, 1:3, 1, 2] = torch.tensor([0.25, -0.5])
    scores, boxes = proposals(found)
    assert scores.unique().tolist() == [0.5]
    x, y, half = (2 + 0.5 + 0.25) * STRIDE, (1 + 0.5 - 0.5) * STRIDE, (4 * STRIDE / 16, 2 * STRIDE / 16)
    assert boxes[0, :, 1, 2].tolist() == pytest.approx([x - half[0], y - half[1], x + half[0], y + half[1]])
    box = torch.tensor([2.0, 4.0, 6.0, 6.0])
    assert shifted(box, torch.tensor([0.5, 0.0, 0.0, 1.0])).tolist() == [4.0, 4.0, 6.0, 8.0]


def test_right_boxes_cost_nothing_and_none_are_no_nan():
    box = torch.tensor([[[10.0, 10.0, 26.0, 26.0]]])
    found = torch.zeros(1, 5, 12, 12)
    found[0, 0] = -20.0
    found[0, 0, 4, 4] = 20.0  # its middle is 18: the fifth cell's
    found[0, 3:] = torch.log(torch.tensor(16.0 / 48.0 * 8.0))
    assert losses.middle_loss(found, box, torch.ones(1, 1, dtype=torch.bool)).item() == pytest.approx(0.0, abs=1e-4)
    assert losses.middle_loss(found, box, torch.zeros(1, 1, dtype=torch.bool)).isfinite()
    assert losses.box_loss(torch.zeros(1, 1, 4), box, box, torch.ones(1, 1, dtype=torch.bool)) == 0


def test_masks_are_cut_and_pasted_in_place():
    owner = torch.full((1, 8, 8), -1)
    owner[0, 2:6, 3:5] = 0
    box = torch.tensor([[[2.0, 2.0, 6.0, 6.0]]])
    cut = losses.own_masks(owner, box)
    assert 0.4 < cut.mean() < 0.6
    assert torch.equal(pasted(cut, box, (8, 8))[0, 0] > 0.5, owner[0] == 0)


def test_clips_are_what_they_say(clips):
    again = DigitClips("test", 48, 2, seed=3).examples(torch.tensor([1]))
    assert all(torch.equal(again[name][0], value[1]) for name, value in clips.items())
    assert (clips["reference"] < clips["current"]).all()
    for digit in range(4):  # what shows of a digit lies in its box
        shown = torch.nonzero(clips["owner"][0, 0] == digit).float() + 0.5
        box = clips["boxes"][0, 0, digit]
        assert ((shown >= box[[1, 0]] - 0.5) & (shown <= box[[3, 2]] + 0.5)).all()
    with pytest.raises(UserError, match="size="):
        DigitClips("test", 8)


def test_the_future_changes_nothing_and_the_past_does(clips):
    made, frames = perceiver(), clips["frames"].float() / 255.0

    def look(order):
        state, found = made.init_state(2, (48, 48)), None
        for time in order:
            found = made.look(frames[:, time], state)[0].refined
            _, state = made({"rgb": frames[:, time], "phase": torch.zeros(2)}, state)
        return found

    assert not torch.equal(look((0, 1, 2)), look((5, 6, 2)))
    assert torch.allclose(look((0, 1, 2)), look((9, 0, 1, 2)), atol=1e-5)  # two frames are attended to


def test_new_objects_get_numbers_and_slots_that_are_free():
    made = perceiver(objects=3)
    state = made.init_state(1, (48, 48))
    frame, *_ = made.look(torch.zeros(1, 3, 48, 48), state)
    objects, boxes = torch.zeros(1, 3, 8, 5, 5), torch.zeros(1, 3, 4)
    labels, scores = torch.zeros(1, 3, dtype=torch.int64), torch.ones(1, 3)

    def remember(slots, state):
        return made._remember(frame, objects, boxes, labels, scores, torch.tensor([slots]), state)

    state, slots = remember([3, 3, -1], state)
    assert slots.tolist() == [[0, 1, -1]]
    assert state["identities"].tolist() == [[0, 1, -1]]
    state, slots = remember([1, 3, 3], state)  # one comes back; two are new, and one slot is free
    assert slots.tolist() == [[1, 2, 0]]
    assert state["identities"].tolist() == [[3, 1, 2]]
    assert state["next"].item() == 4
    assert state["seen"].tolist() == [[1, 1, 1]]


def test_numbers_stay_apart_however_many_objects_there_were(monkeypatch):
    made = perceiver(objects=2)
    state = made.init_state(1, (48, 48))
    state["identities"] = torch.tensor([[998, 999]])  # identities are never used again
    state["next"] = torch.tensor([1000])
    monkeypatch.setattr(made.network, "mask_logits", lambda frame, boxes: torch.full((1, 2, 10, 14, 14), 9.0))
    frame, *_ = made.look(torch.zeros(1, 3, 48, 48), state)
    boxes = torch.tensor([[[4.0, 4.0, 20.0, 20.0], [28.0, 28.0, 44.0, 44.0]]])
    painted = made._painted(frame, boxes, torch.zeros(1, 2, dtype=torch.int64), torch.tensor([[1, 0]]), (48, 48))
    assert (painted[0, 0, 12, 12], painted[0, 0, 36, 36], painted[0, 0, 2, 2]) == (1, 0, -1)
    with pytest.raises(UserError, match="objects=256"):
        perceiver(objects=256)


def test_a_table_row_is_one_objects():
    made = perceiver()
    state = made.init_state(1, (48, 48))
    state["identities"][0, 1], state["labels"][0, 1], state["scores"][0, 1] = 7, 2, 0.5
    table = made.table(state)
    assert table.shape == (1, 10, 16)
    assert table[0, 0].abs().max() == 0
    assert table[0, 1].nonzero().flatten().tolist() == [6, 14, 15]


def test_all_parts_learn(clips):
    made = CompFeat(config=CompFeatConfig(network=SMALL))
    parts = made.losses(clips)
    assert set(parts) == {"loss", "classes", "score", "map", "detection", "masks"}
    parts["loss"].backward()
    idle = [name for name, weight in made.named_parameters() if weight.grad is None]
    assert not idle, idle
    with pytest.raises(UserError, match="digits"):
        made.source("clips", 48, 0)
