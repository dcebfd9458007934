"""LSTR: rules, relations and proposals by hand, what a graph may see, and the log of events."""

import dataclasses
import json
import math

import pytest
import torch

from envs.perception.actions.events import Event, counts, event_f1, events_of, link, write_events
from envs.perception.actions.labels import EVENTS, LabelConfig, label_rollouts
from envs.perception.actions.long_term import LongTerm
from envs.perception.actions.lstr import build_bank, detect, losses, positive_weights
from envs.perception.actions.network import VARIANTS, LSTRConfig, LSTRNet
from envs.perception.actions.proposals import TubeletProposals, best_tubelets, moved, shifts_to
from envs.perception.actions.rollouts import BLOCK, rollouts
from envs.perception.actions.short_term import ShortTerm, relative_places
from rlsuite.errors import UserError

SMALL = LSTRConfig(actions=3, frames=4, widths=(4, 8, 8), features=8, width=8, dropout=0.0)


def state(frames=32):
    """Return one rollout in which nothing happens: gripper far away from two objects that lie still."""
    gripper, objects = torch.full((1, frames, 2), 5.0), torch.zeros(1, frames, 2, 2)
    still = torch.zeros(1, frames, 2)
    return {"gripper": gripper, "objects": objects, "height": still, "contact": still.bool(), "grasped": still.bool()}


def told(changed):
    labels = label_rollouts(**changed, config=LabelConfig(frames=8))[0]
    return {(clip, thing, EVENTS[kind]) for clip, thing, kind in torch.nonzero(labels).tolist()}


def test_rules_by_hand():
    rollout = state()
    assert told(rollout) == set()
    rollout["gripper"] = torch.linspace(5.0, 4.9, 32).view(1, 32, 1).expand(-1, -1, 2)
    assert told(rollout) == {(clip, thing, "approach") for clip in range(4) for thing in range(2)}
    rollout = state()
    rollout["contact"] = rollout["contact"].clone()
    rollout["contact"][0, 8:11, 0] = True  # three frames of eight are too few
    rollout["contact"][0, 16:20, 1] = True
    assert told(rollout) == {(2, 1, "touch")}


def test_a_push_a_second_one_and_a_return():
    rollout = state()
    contact, objects = rollout["contact"].clone(), rollout["objects"].clone()
    contact[0, :, 0] = True
    objects[0, 8:16, 0, 0] = torch.linspace(0.0, 0.2, 8)
    objects[0, 16:24, 0, 0] = 0.2
    objects[0, 24:, 0, 0] = torch.linspace(0.2, 0.01, 8)
    found = told({**rollout, "contact": contact, "objects": objects})
    assert found - {(clip, 0, "touch") for clip in range(4)} == {
        *((1, 0, "push"), (3, 0, "push"), (3, 0, "retry"), (3, 0, "return")),
        *((clip, 0, "approach") for clip in (1,)),  # it is pushed towards the gripper
    }


def test_a_grasp_and_a_drop():
    rollout = state()
    contact, height = rollout["contact"].clone(), rollout["height"].clone()
    contact[0, 8:15, 1] = True
    height[0, 8:15, 1] = 0.3
    found = told({**rollout, "contact": contact, "grasped": contact, "height": height})
    assert found == {(1, 1, "touch"), (1, 1, "grasp"), (1, 1, "drop")}
    with pytest.raises(UserError, match="back="):
        LabelConfig(back=0.1)


def test_scripted_rollouts_do_what_they_say():
    made = rollouts(torch.arange(30), 0)
    again = rollouts(torch.tensor([7]), 0)
    assert torch.equal(again.blocks[0], made.blocks[7])
    labels = label_rollouts(made.gripper, made.blocks, made.height, made.contact, made.grasped, LabelConfig())
    assert labels.flatten(0, 2).any(dim=0).all()  # every event happens
    step = (made.blocks[:, 1:] - made.blocks[:, :-1]).norm(dim=-1)
    assert step[~made.contact[:, 1:] & (made.height[:, :-1] == 0)].max() == 0  # nothing moves that is not touched
    frame, boxes = made.frames(48)[0, 0].float(), 48 * made.boxes()[0, 0]
    middle = boxes[1:, :2].add(boxes[1:, 2:]).div(2).long()
    assert frame[:, middle[0, 1], middle[0, 0]].argmax() == 0  # the red block
    assert (boxes[1, 2] - boxes[1, 0]).item() == pytest.approx(48 * 2 * BLOCK, rel=1e-4)


def test_short_term_relation_is_a_weighted_mean():
    made = ShortTerm(3, 2, 4)
    actors, maps = torch.randn(1, 1, 3), torch.randn(1, 2, 1, 2, 2)
    boxes = torch.tensor([[[[0.0, 0.0, 1.0, 2.0]]]])
    assert torch.equal(made(actors, maps, boxes), actors)  # W_o begins at 0
    torch.nn.init.normal_(made.output.weight)
    places = relative_places(boxes, (2, 2))[0, 0, 0].flatten(0, 1)
    cells = maps[0, :, 0].flatten(1).T
    own = made.actor(actors[0, 0])
    hidden = [own + made.cell(cell) + made.place(place) for cell, place in zip(cells, places, strict=True)]
    scores = [made.score(torch.tanh(one)) for one in hidden]
    expected = actors[0, 0] + made.output(torch.cat(scores).softmax(0) @ made.value(cells))
    assert torch.allclose(made(actors, maps, boxes)[0, 0], expected, atol=1e-6)


def test_places_are_seen_from_the_box():
    place = relative_places(torch.tensor([[[[0.0, 0.0, 2.0, 4.0]]]]), (4, 2))[0, 0, 0]
    dx, dy = 0.5 / 2.0, 1.5 / 4.0  # of the cell in row 3 and column 1
    assert place.shape == (4, 2, 32)
    assert place[3, 1, 0].item() == pytest.approx(math.sin(math.pi * dx))
    assert place[3, 1, 20].item() == pytest.approx(math.cos(math.pi * dy))


def test_the_graph_by_hand():
    made = LongTerm(3, 2, reach=2, layers=1, dropout=0.0).eval()
    torch.nn.init.normal_(made.near)
    nodes, clips = torch.randn(1, 4, 3), torch.tensor([[0, 1, 1, 9]])
    found = made(nodes, clips, torch.ones(1, 4, dtype=torch.bool))[0]
    links = {0: [0, 1, 2], 1: [1, 0], 2: [2, 0], 3: [3]}  # itself, and other clips within reach
    query, key = made.queries[0], made.keys[0]
    for node, others in links.items():
        scores = [
            query(nodes[0, node]) @ key(nodes[0, other]) / 2**0.5
            + made.near[0, int(clips[0, other] - clips[0, node]) + 2]
            for other in others
        ]
        told = torch.relu(made.weights[0](torch.stack(scores).softmax(0) @ nodes[0, others]))
        assert torch.allclose(found[node], made.norms[0](nodes[0, node] + told), atol=1e-6)


def test_a_causal_graph_does_not_look_ahead():
    for causal in (True, False):
        made = LongTerm(3, 2, reach=3, causal=causal).eval()
        nodes, clips = torch.randn(1, 3, 3), torch.tensor([[0, 1, 2]])
        there = torch.ones(1, 3, dtype=torch.bool)
        later = nodes.clone()
        later[0, 2] += 1.0
        same = torch.allclose(made(nodes, clips, there)[0, :2], made(later, clips, there)[0, :2])
        assert same is causal
    gone = torch.tensor([[True, True, False]])
    assert torch.allclose(made(nodes, clips, gone)[0, 0], made(later, clips, gone)[0, 0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_learn_all_their_parts(variant):
    network = LSTRNet(dataclasses.replace(SMALL, variant=variant), 0)
    videos = torch.randint(0, 256, (2, 3, 4, 3, 16, 16), dtype=torch.uint8)
    boxes = torch.tensor([4.0, 4.0, 12.0, 12.0]).expand(2, 3, 2, 4, 4)
    bank = build_bank(network, videos, boxes)
    assert bank.nodes.shape == (2, 3, 2, 8)
    assert not bank.nodes.requires_grad
    batch = {
        "frames": videos[:, 1],
        "boxes": boxes[:, 1],
        "labels": torch.tensor([True, False, False]).expand(2, 2, 3),
        "clip": torch.ones(2, dtype=torch.int64),
        "bank": bank.nodes,
        "present": bank.present,
        "detect": torch.tensor(True),
    }
    parts = losses(network, batch, torch.ones(3))
    assert set(parts) == {"loss", "actions", "boxes", "proposals"}
    parts["loss"].backward()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_any_number_of_actors(count):
    network = LSTRNet(SMALL, 0)
    boxes = torch.tensor([2.0, 2.0, 12.0, 12.0]).expand(3, count, 4, 4)
    video = torch.randint(0, 256, (13, 3, 16, 16), dtype=torch.uint8)
    assert detect(network, video, boxes)[1].shape == (3, count, 3)
    if count:
        assert detect(network, video, None, count)[0].shape == (3, count, 4, 4)
    with pytest.raises(UserError, match="frames"):
        detect(network, video[:3])


def small_batch(boxes, labels):
    stream = torch.Generator().manual_seed(0)
    return {
        "frames": torch.randint(0, 256, (2, 4, 3, 16, 16), dtype=torch.uint8, generator=stream),
        "boxes": boxes,
        "labels": labels,
        "clip": torch.tensor([0, 1]),
        "bank": torch.ones(2, 3, 1, 8),
        "present": torch.ones(2, 3, 1, dtype=torch.bool),
        "detect": torch.tensor(True),
    }


def test_losses_without_actors_are_finite():
    network = LSTRNet(SMALL, 0)
    parts = losses(network, small_batch(torch.zeros(2, 0, 4, 4), torch.zeros(2, 0, 3, dtype=torch.bool)), torch.ones(3))
    assert parts["actions"].item() == parts["boxes"].item() == 0.0
    parts["loss"].backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters() if weight.grad is not None)


def test_actors_that_are_not_there_count_for_nothing():
    network = LSTRNet(SMALL, 0)
    box, labels = torch.tensor([2.0, 2.0, 12.0, 12.0]), torch.rand(2, 2, 3) < 0.5
    boxes = box.expand(2, 2, 4, 4).clone()
    boxes[:, 1] = 0.0
    boxes[1, 0, 3] = 0.0  # nor does a frame that an actor has left
    torch.nn.init.normal_(network.shifts.weight)
    there = torch.tensor([[True, False], [True, False]])
    parts = losses(network, {**small_batch(boxes, labels), "there": there}, torch.ones(3))
    parts["loss"].backward()
    assert all(weight.grad.isfinite().all() for weight in network.parameters() if weight.grad is not None)
    alone = losses(network, small_batch(boxes[:, :1], labels[:, :1]), torch.ones(3))
    for name in ("actions", "boxes"):
        assert parts[name].item() == pytest.approx(alone[name].item(), rel=1e-5)


def test_frames_without_a_box_count_for_nothing():
    network = LSTRNet(SMALL, 0).eval()
    maps = torch.randn(1, 8, 2, 2, 2)
    boxes = torch.tensor([2.0, 2.0, 12.0, 12.0]).expand(1, 1, 4, 4).clone()
    boxes[0, 0, 2:] = 0.0
    whole = network.actors(maps, boxes)
    maps[:, :, 1] = 9.0
    assert torch.equal(whole, network.actors(maps, boxes))


def test_positives_weigh_by_how_rare_they_are():
    labels = torch.tensor([[True, False, False], [True, True, False], [False, False, False], [True, False, False]])
    assert positive_weights(labels).tolist() == pytest.approx([1 / 3, 3.0, 4.0])
    assert positive_weights(labels, most=2.0).tolist() == pytest.approx([1 / 3, 2.0, 2.0])


def test_proposals_by_hand():
    made = TubeletProposals(2, 3, 8, (8.0,), (1.0, 4.0))
    anchors = made.anchors((2, 2))
    assert anchors.shape == (8, 4)
    assert anchors[2].tolist() == [8.0, 0.0, 16.0, 8.0]  # second column's square
    assert anchors[1].tolist() == [2.0, -4.0, 6.0, 12.0]  # a tall one, of the same area
    boxes, others = torch.tensor([0.0, 0.0, 4.0, 8.0]), torch.tensor([1.0, 2.0, 9.0, 6.0])
    assert torch.allclose(moved(boxes, shifts_to(boxes, others)), others)
    logits, tubelets = made(torch.zeros(1, 2, 2, 2, 2))
    assert logits.shape == (1, 8)
    assert tubelets.shape == (1, 8, 3, 4)
    truth = anchors[2].expand(1, 1, 3, 4)
    loss = made.loss(torch.zeros(1, 2, 2, 2, 2), truth, torch.ones(1, 1, dtype=torch.bool))
    assert loss.item() == pytest.approx(math.log(2.0), abs=0.05)  # nothing is known, and the anchor is right
    assert made.loss(torch.zeros(1, 2, 2, 2, 2), truth, torch.zeros(1, 1, dtype=torch.bool)).isfinite()


def test_the_likeliest_of_overlapping_tubelets_stays():
    box = torch.tensor([[0.0, 0, 8, 8], [1.0, 0, 9, 8], [20.0, 0, 28, 8]]).unsqueeze(1).expand(-1, 2, -1)
    found, scores = best_tubelets(torch.tensor([[1.0, 2.0, 0.0]]), box.unsqueeze(0), 2)
    assert found[0, :, 0, 0].tolist() == [1.0, 20.0]
    assert scores[0].tolist() == pytest.approx([torch.sigmoid(torch.tensor(2.0)).item(), 0.5])


def test_chains_follow_boxes():
    left, right = torch.tensor([0.0, 0, 8, 8]), torch.tensor([30.0, 0, 38, 8])
    boxes = torch.stack([torch.stack([left, right]), torch.stack([right, left])]).unsqueeze(2).expand(-1, -1, 3, -1)
    assert link(boxes, torch.tensor([[0.9, 0.8], [0.8, 0.9]]), 2).tolist() == [[0, 1], [1, 0]]


def test_a_chain_counts_both_of_its_ends_once():
    def wide(left):
        return torch.tensor([left, 0.0, left + 10.0, 10.0])

    boxes = torch.stack([torch.stack([wide(0.0), wide(20.0)]), torch.stack([wide(5.0), wide(16.2069)])])
    scores = torch.tensor([[0.6, 0.5], [0.5, 0.5]])  # overlaps 1/3 and 0.45: sums 1.433 and 1.45
    assert link(boxes.unsqueeze(2), scores, 1).tolist() == [[1, 1]]
    assert link(boxes[:1].unsqueeze(2), scores[:1], 2).tolist() == [[0], [1]]


def test_clips_that_follow_are_one_event(tmp_path):
    chances = torch.zeros(4, 1, 2, len(EVENTS))
    chances[1:3, 0, 1, 2] = torch.tensor([0.6, 0.9])
    chances[3, 0, 0, 0] = 0.4
    (event,) = events_of(chances, 0.8)
    assert event == Event(0.8, pytest.approx(1.6 + 0.8), "push", 1, pytest.approx(0.9))
    assert counts([event])["push"] == 1
    write_events(tmp_path / "log.jsonl", [event])
    assert json.loads((tmp_path / "log.jsonl").read_text())["label"] == "push"
    other = dataclasses.replace(event, object=0)
    assert event_f1([event], [event, other]) == pytest.approx(2 / 3)
    assert event_f1([event], [dataclasses.replace(event, begin=9.0, end=9.9)]) == 0.0
    assert event_f1([], []) == 1.0
