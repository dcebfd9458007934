"""Strokes that lie anywhere: drawn in boxes as on whole canvases, kept as JSON, written as SVG."""

import json
import xml.etree.ElementTree as ElementTree

import pytest
import torch
from torch.nn.functional import avg_pool2d

from renderers import free_strokes
from renderers.bezier import draw_exact, half_widths
from renderers.boxes import draw_boxes, finer_at
from renderers.free_strokes import FreeStrokes, free_drawing_bytes
from renderers.stroke_files import load_strokes, save_strokes
from renderers.strokes import BRUSHES, composite
from renderers.svg import save_svg
from rlsuite.errors import UserError


def drawn(number, seed=0):
    strokes = torch.rand(number, 13, generator=torch.Generator().manual_seed(seed))
    strokes[::3, 6:8] *= 0.1  # small ones too
    strokes[::3, 4:6] = (strokes[::3, :2] + 0.1).clamp(0, 1)
    return strokes


def painting(number=9, height=20, width=30, brush="mixed"):
    kinds = torch.arange(number) % len(BRUSHES) if brush == "mixed" else torch.full((number,), BRUSHES.index(brush))
    return FreeStrokes(height, width, drawn(number), kinds, brush, {"by": "hand"})


@pytest.mark.parametrize("brush", BRUSHES)
def test_boxes_hold_what_a_whole_canvas_would(brush):
    side, strokes = 40, drawn(30)
    dense = avg_pool2d(draw_exact(strokes[:, :10], 2 * side, brush=brush), 2)
    boxes = draw_boxes(strokes[:, :10], torch.full((30,), BRUSHES.index(brush)), side)
    for box, wanted in zip(boxes, dense, strict=True):
        found = torch.zeros(side, side)
        found[box.top : box.top + box.alpha.shape[0], box.left : box.left + box.alpha.shape[1]] = box.alpha
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0.0)
    areas = [box.alpha.numel() for box in boxes]
    assert min(areas) < side * side / 4  # or nothing would be saved


def test_large_pictures_are_drawn_on_the_papers_raster():
    assert (finer_at(1023), finer_at(1024)) == (2, 1)
    strokes = drawn(2)
    strokes[:, 6:8] *= 0.05
    dense = draw_exact(strokes[:, :10], 1024)
    for box, wanted in zip(draw_boxes(strokes[:, :10], torch.zeros(2, dtype=torch.int64), 1024), dense, strict=True):
        place = wanted[box.top : box.top + box.alpha.shape[0], box.left : box.left + box.alpha.shape[1]]
        torch.testing.assert_close(box.alpha, place, atol=1e-5, rtol=0.0)
        assert float(wanted.sum()) == pytest.approx(float(place.sum()), rel=1e-5)


def test_a_painting_is_its_strokes_in_their_order():
    whole = painting()
    boxes = draw_boxes(whole.strokes[:, :10], whole.kinds, 30)
    alpha = torch.zeros(9, 30, 30)
    for index, box in enumerate(boxes):
        alpha[index, box.top : box.top + box.alpha.shape[0], box.left : box.left + box.alpha.shape[1]] = box.alpha
    expected = composite(torch.zeros(1, 3, 30, 30), alpha[None], whole.strokes[None, :, 10:])[0, :, :20]
    torch.testing.assert_close(whole.draw(), expected, atol=1e-5, rtol=0.0)


def test_it_is_drawn_some_strokes_at_a_time(monkeypatch):
    whole = painting().draw()
    monkeypatch.setattr(free_strokes, "_TOGETHER", 2)
    assert torch.equal(painting().draw(), whole)


def test_a_larger_drawing_is_the_same_painting_and_frames_grow_to_it():
    whole = painting()
    large = whole.draw(4.0)
    assert large.shape == (3, 80, 120)
    assert float((avg_pool2d(large, 4) - whole.draw()).abs().mean()) < 0.02
    for number in (1, 4, 100):
        frames = [frame.clone() for frame in whole.frames(number)]
        assert torch.equal(frames[-1], whole.draw())
        assert min(number, 3) <= len(frames) <= 9
    assert free_drawing_bytes(4096) > 4 * free_drawing_bytes(1000) > 0


@pytest.mark.parametrize("brush", ["mixed", "triangle"])
def test_json_gives_the_same_picture_again(tmp_path, brush):
    whole = painting(brush=brush)
    save_strokes(whole, tmp_path / "strokes.json")
    again = load_strokes(tmp_path / "strokes.json")
    assert isinstance(again, FreeStrokes)
    assert (len(again), again.about, again.brush) == (9, {"by": "hand"}, brush)
    assert torch.equal(again.kinds, whole.kinds)
    assert float((again.draw() - whole.draw()).abs().mean()) < 1 / 255 / 10


def test_other_files_are_refused_in_one_line(tmp_path):
    save_strokes(painting(), tmp_path / "good.json")
    good = json.loads((tmp_path / "good.json").read_text())
    for change in (
        {"strokes": []},
        {"strokes": [[0.5] * 12] * 9},
        {"strokes": [[0.5] * 12 + [1.5]] * 9},
        {"strokes": [[0.5] * 12 + [float("nan")]] * 9},
        {"strokes": [[[0.5] * 13, [0.5] * 13]] * 9},
        {"strokes": None},
        {"brushes": ["bezier"]},
        {"brushes": ["oil"] * 9},
        {"brushes": None},
        {"brush": "oil"},
        {"brush": ["mixed"]},
        {"height": 0},
        {"width": "wide"},
        {"format": "rlsuite strokes 1"},
        {"format": "rlsuite strokes 3"},
    ):
        (tmp_path / "bad.json").write_text(json.dumps({**good, **change}))
        with pytest.raises(UserError, match="no list of strokes") as refusal:
            load_strokes(tmp_path / "bad.json")
        assert "\n" not in str(refusal.value)


def test_svg_has_every_stroke_of_its_brush(tmp_path):
    save_svg(painting(10), tmp_path / "strokes.svg")
    root = ElementTree.parse(tmp_path / "strokes.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    paths = [path.get("d", "") for path in root.iter(f"{space}path")]
    assert len(paths) == 10
    straight = [number for number, path in enumerate(paths) if path.count("L") == 2 and "A" not in path.upper()[1:]]
    assert straight == [BRUSHES.index("triangle"), len(BRUSHES) + BRUSHES.index("triangle")]


def test_outlines_of_circles_are_those_of_one_circle_after_another():
    table = half_widths(63)
    for radius in range(64):
        row, across, down, error, minus = [-1] * 64, radius, 0, 0, 2 * radius - 1
        while across >= down:
            row[down], row[across] = max(row[down], across), max(row[across], down)
            error += 2 * down + 1
            down += 1
            if error > 0:
                error, minus, across = error - minus, minus - 2, across - 1
        assert table[radius].tolist() == row
