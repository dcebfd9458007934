"""Scenes with boxes: the same for an index, boxes where something is drawn, hidden objects marked."""

import pytest
import torch

from envs.perception.detection.scenes import Mirrored, SceneConfig, Scenes
from rlsuite.data.arrays import kept
from rlsuite.errors import UserError
from rlsuite.metrics.boxes import area


def test_an_example_is_the_same_in_any_company():
    source = Scenes(SceneConfig(height=40, width=56, largest=16.0, smallest=6.0), seed=4)
    together = source.examples(torch.tensor([7, 0, 3]))
    alone = source.examples(torch.tensor([3]))
    for name, value in alone.items():
        assert torch.equal(together[name][2:], value), name
    other = Scenes(source.config, seed=5).examples(torch.tensor([3]))
    assert not torch.equal(other["picture"], alone["picture"])
    assert alone["picture"].shape == (1, 3, 40, 56)


def test_boxes_are_in_the_picture_and_of_the_sizes_asked_for():
    config = SceneConfig(fewest=2, most=5)
    found = Scenes(config).examples(torch.arange(40))
    there = found["classes"] >= 0
    boxes = found["boxes"][there]
    assert set(there.sum(1).tolist()) == {2, 3, 4, 5}
    assert set(found["classes"][there].tolist()) == {0, 1, 2}
    assert (boxes >= -1e-4).all()
    assert (boxes <= 96 + 1e-4).all()
    sizes = area(boxes).sqrt()
    assert 9.99 < float(sizes.min()) < 14
    assert 28 < float(sizes.max()) < 36.01
    assert not found["boxes"][~there].any()
    assert not found["ignored"][~there].any()


def test_a_box_is_where_the_picture_changes():
    """The same ground with one object and with none: what differs spans the box, to a pixel."""
    alone = SceneConfig(fewest=1, most=1, clutter=0, noise=0.0)
    bare = SceneConfig(fewest=0, most=1, clutter=0, noise=0.0)
    index = torch.arange(60)
    one, none = Scenes(alone, seed=2).examples(index), Scenes(bare, seed=2).examples(index)
    empty = (none["classes"] < 0).flatten()
    assert 10 < int(empty.sum()) < 50
    for row in index[empty].tolist():
        changed = (one["picture"][row].int() - none["picture"][row].int()).abs().amax(0) > 6
        rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
        seen = torch.tensor([columns[0, 0], rows[0, 0], columns[-1, 0] + 1, rows[-1, 0] + 1])
        assert (seen - one["boxes"][row, 0]).abs().max() <= 2.0


def test_what_is_hidden_by_more_than_half_is_ignored():
    crowded = SceneConfig(height=40, width=40, fewest=6, most=6, smallest=14.0, largest=18.0, clutter=0)
    found = Scenes(crowded).examples(torch.arange(20))
    assert 0.1 < float(found["ignored"].float().mean()) < 0.7
    assert not found["ignored"][:, 5].any()  # the last one lies in front


def test_kinds_have_colours_of_their_own():
    """With all of their colour in common and no patterns to speak of, the middle of a disc is red, and so on."""
    config = SceneConfig(fewest=1, most=1, clutter=0, noise=0.0, alike=1.0, smallest=20.0)
    found = Scenes(config).examples(torch.arange(30))
    for picture, box, name in zip(found["picture"], found["boxes"][:, 0], found["classes"][:, 0], strict=True):
        column, row = (0.5 * (box[:2] + box[2:])).long().tolist()
        assert int(picture[:, row, column].argmax()) == int(name)


def test_mirror_images():
    source = kept(Scenes(SceneConfig(fewest=2, most=3)), 3)
    twice = Mirrored(source)
    assert len(twice) == 6
    found = twice.examples(torch.tensor([2, 5]))
    assert torch.equal(found["picture"][0], source.tensors["picture"][2])
    assert torch.equal(found["picture"][1].flip(2), source.tensors["picture"][2])
    boxes = source.tensors["boxes"][2]
    there = found["classes"][1] >= 0
    assert torch.allclose(found["boxes"][1, there][:, 0], 96 - boxes[there, 2])
    assert torch.allclose(found["boxes"][1, there][:, 1:4:2], boxes[there, 1::2])
    assert not found["boxes"][1, ~there].any()


def test_what_is_refused():
    with pytest.raises(UserError, match="largest=60"):
        SceneConfig(largest=60.0)
    with pytest.raises(UserError, match="fewest=3"):
        SceneConfig(fewest=3, most=2)
