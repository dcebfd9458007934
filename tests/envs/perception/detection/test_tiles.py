"""Tiles as TinyPerson's: corners, which boxes stay, merging, painting over what is ignored."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.perception.detection.tiles import Tiled, detect_tiles, erase, inside, merge, tiles
from rlsuite.data.arrays import Arrays
from rlsuite.errors import UserError
from rlsuite.metrics.detection import Found


def test_published_corners():
    found = tiles(1280, 512, (640, 512), (50, 50))
    assert found.tolist() == [[0, 0, 640, 512], [590, 0, 1230, 512], [640, 0, 1280, 512]]
    assert tiles(300, 200, (640, 512), (50, 50)).tolist() == [[0, 0, 300, 200]]


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    tile=st.tuples(st.integers(5, 40), st.integers(5, 40)),
    overlap=st.integers(0, 4),
)
def test_tiles_cover_the_picture_and_have_one_size(size, tile, overlap):
    found = tiles(size[0], size[1], tile, (overlap, overlap))
    covered = torch.zeros(size[1], size[0], dtype=torch.bool)
    for left, top, right, bottom in found.tolist():
        assert (right - left, bottom - top) == (min(tile[0], size[0]), min(tile[1], size[1]))
        assert min(left, top) >= 0
        covered[top:bottom, left:right] = True
    assert covered.all()
    assert len({tuple(one) for one in found.tolist()}) == len(found)


def test_a_box_stays_with_seven_tenths_of_its_size():
    boxes = torch.tensor(
        [[0.0, 0.0, 10.0, 10.0], [-5.2, 0.0, 4.8, 10.0], [-5.0, 0.0, 5.0, 10.0], [50.0, 0.0, 60.0, 10.0]]
    )
    clipped, stay = inside(boxes + 100.0, torch.tensor([100, 100, 140, 140]))
    assert stay.tolist() == [True, False, True, False]  # sqrt(0.48) < 0.7 < sqrt(0.5)
    assert clipped[2].tolist() == [0, 0, 5, 10]


def test_tiles_of_a_source():
    picture = torch.arange(2 * 3 * 6 * 9).view(2, 3, 6, 9).to(torch.uint8)
    source = Arrays(
        {
            "picture": picture,
            "boxes": torch.tensor([[[6.0, 1.0, 8.0, 3.0]], [[0.0, 0.0, 2.0, 2.0]]]),
            "classes": torch.zeros(2, 1, dtype=torch.int64),
            "ignored": torch.tensor([[False], [True]]),
        }
    )
    cut = Tiled(source, (5, 6), (1, 0))
    assert len(cut) == 4
    found = cut.examples(torch.tensor([1, 2]))
    assert torch.equal(found["picture"][0], picture[0, :, :, 4:])
    assert found["boxes"][:, 0].tolist() == [[2, 1, 4, 3], [0, 0, 2, 2]]
    assert found["classes"].tolist() == [[0], [0]]
    assert found["ignored"].tolist() == [[False], [True]]
    assert cut.examples(torch.tensor([0]))["classes"].tolist() == [[-1]]


def test_merging_moves_and_suppresses():
    one = Found(
        torch.tensor([[8.0, 0.0, 10.0, 4.0], [0.0, 0.0, 2.0, 2.0]]), torch.tensor([0.5, 0.9]), torch.tensor([0, 0])
    )
    other = Found(
        torch.tensor([[0.0, 0.0, 2.0, 4.0], [0.0, 0.0, 2.0, 4.0]]), torch.tensor([0.8, 0.7]), torch.tensor([0, 1])
    )
    corners = torch.tensor([[0, 0], [8, 0]])
    found = merge([one, other], corners)
    assert found.boxes.tolist() == [[0, 0, 2, 2], [8, 0, 10, 4], [8, 0, 10, 4]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert len(merge([one, other], corners, iou=1.0).scores) == 4
    assert len(merge([one, other], corners, most=2).scores) == 2


def test_an_object_on_a_seam_is_found_once():
    """A detector that finds what is white, whole objects and cut ones."""

    def detect(pictures):
        found = []
        for picture in pictures:
            rows, columns = (picture[0] > 0.5).any(1).nonzero().flatten(), (picture[0] > 0.5).any(0).nonzero().flatten()
            boxes = [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]] if len(rows) else []
            count = len(boxes)
            found.append(
                Found(torch.tensor(boxes).float().view(-1, 4), torch.ones(count), torch.zeros(count, dtype=torch.int64))
            )
        return found

    picture = torch.zeros(3, 20, 36)
    picture[:, 5:9, 15:19] = 1.0  # whole in the first tile, and in the second from 14 on
    assert detect_tiles(detect, picture, (20, 20), (6, 6)).boxes.tolist() == [[15, 5, 19, 9]]


def test_what_is_ignored_is_painted_over():
    picture = torch.zeros(1, 3, 4, 6, dtype=torch.uint8)
    picture[0, 0, :2, :2], picture[0, 1, :2, 1] = 100, 51
    boxes = torch.tensor([[[0.0, 0.0, 2.0, 2.0], [3.0, 0.0, 6.0, 4.0]]])
    found = erase(picture, boxes, torch.tensor([[True, False]]))
    assert found[0, :, 0, 0].tolist() == [100, 26, 0]
    assert torch.equal(found[:, :, 2:], picture[:, :, 2:])
    assert picture[0, 1, 0, 0] == 0
    beside = torch.tensor([[[-6.0, -6.0, -3.0, -3.0], [-6.0, 1.0, -1.0, 3.0], [9.0, 0.0, 12.0, 2.0]]])
    assert torch.equal(erase(picture, beside, torch.ones(1, 3, dtype=torch.bool)), picture)  # nothing of it is there


def test_tiles_that_would_not_move_on_are_refused():
    with pytest.raises(UserError, match="use less than the tile"):
        tiles(100, 100, (20, 20), (20, 0))
