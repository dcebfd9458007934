import json
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from renderers import stroke_list
from renderers.bezier import draw_exact
from renderers.stroke_files import load_strokes, save_strokes
from renderers.stroke_list import Layer, StrokeList, cut, paste
from renderers.strokes import composite
from renderers.svg import save_svg
from rlsuite.errors import UserError


def painting(height=20, width=30, brush="bezier"):
    random = torch.Generator().manual_seed(0)
    whole = Layer(30, torch.tensor([[0, 0]]), torch.rand(1, 3, 13, generator=random))
    tiles = Layer(8, torch.tensor([[-4, -4], [4, 4], [12, 28]]), torch.rand(3, 2, 13, generator=random))
    return StrokeList(height, width, brush, [whole, tiles], {"by": "hand"})


def test_tiles_are_painted_where_they_lie_and_nowhere_else():
    strokes = painting()
    drawn = strokes.draw()
    under = StrokeList(20, 30, "bezier", strokes.layers[:1]).draw()
    layer = strokes.layers[1]
    expected = under.clone()
    for (row, column), tile in zip(layer.places.tolist(), layer.strokes, strict=True):
        alpha = draw_exact(tile[:, :10], 8)
        for place_row in range(max(row, 0), min(row + 8, 20)):
            for place_column in range(max(column, 0), min(column + 8, 30)):
                inside = alpha[:, place_row - row, place_column - column].view(1, -1, 1, 1)
                pixel = under[:, place_row, place_column].view(1, 3, 1, 1)
                expected[:, place_row, place_column] = composite(pixel, inside, tile[None, :, 10:]).flatten()
    torch.testing.assert_close(drawn, expected)


def test_cutting_and_pasting_are_inverse_and_stop_at_the_edge():
    picture = torch.rand(3, 10, 12, generator=torch.Generator().manual_seed(0))
    corners = torch.tensor([[-2, -2], [4, 4], [8, 9]])
    tiles = cut(picture, corners, 5)
    assert torch.equal(tiles[1], picture[:, 4:9, 4:9])
    assert torch.equal(tiles[0, :, :2, :2], picture[:, :1, :1].expand(-1, 2, 2))  # goes on as at the edge
    pasted = torch.zeros_like(picture)
    paste(pasted, tiles, corners, corners + 5)
    covered = pasted.sum(dim=0) > 0
    assert torch.equal(pasted[:, covered], picture[:, covered])
    assert int(covered.sum()) == 9 + 25 + 6


def test_json_gives_the_same_picture_again(tmp_path):
    strokes = painting()
    save_strokes(strokes, tmp_path / "strokes.json")
    again = load_strokes(tmp_path / "strokes.json")
    assert (len(again), again.about, again.brush) == (9, {"by": "hand"}, "bezier")
    assert float((again.draw() - strokes.draw()).abs().mean()) < 1 / 255 / 10


def test_a_larger_drawing_is_the_same_painting():
    strokes = painting()
    large = strokes.draw(4.0)
    assert large.shape == (3, 80, 120)
    reduced = torch.nn.functional.avg_pool2d(large, 4)
    assert float((reduced - strokes.draw()).abs().mean()) < 0.03  # edges are sharper than pixels allow
    assert strokes.draw(1.5).shape == (3, 30, 45)


def test_frames_grow_to_the_finished_painting():
    strokes = painting()
    for number in (1, 4, 100):
        frames = [frame.clone() for frame in strokes.frames(number)]
        torch.testing.assert_close(frames[-1], strokes.draw())
        assert min(number, 9) <= len(frames) <= 10
    assert not torch.equal(frames[0], frames[-1])


@pytest.mark.parametrize("brush", ["bezier", "circle", "triangle", "line", "opaque"])
def test_svg_has_every_stroke_in_its_layer(tmp_path, brush):
    save_svg(painting(brush=brush), tmp_path / "strokes.svg")
    root = ElementTree.parse(tmp_path / "strokes.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    layers = [group for group in root.iter(f"{space}g") if group.get("id", "").startswith("layer")]
    assert [len(list(layer.iter(f"{space}path"))) for layer in layers] == [3, 6]
    assert all("nan" not in path.get("d") for path in root.iter(f"{space}path"))


def test_other_files_are_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        load_strokes(tmp_path / "nowhere.json")
    save_strokes(painting(), tmp_path / "good.json")
    good = (tmp_path / "good.json").read_text()

    def changed(**entries):
        return json.dumps({**json.loads(good), **entries})

    layers = json.loads(good)["layers"]
    first = layers[0]["tiles"][0]["strokes"][0]
    texts = ["{", "{}", json.dumps({"format": "other"}), "[1]", changed(height=0), changed(width=None)]
    texts += [changed(layers=found) for found in ([None], [{**layers[0], "side": 0}], [{"side": 3, "tiles": []}])]
    for number in (1.5, -0.1, float("nan"), float("inf"), "red"):
        texts.append(changed(layers=[{"side": 30, "tiles": [{"corner": [0, 0], "strokes": [[number, *first[1:]]]}]}]))
    for text in texts:
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UserError, match="no list of strokes") as refusal:
            load_strokes(tmp_path / "bad.json")
        assert "\n" not in str(refusal.value)


def test_a_tile_is_painted_a_few_strokes_at_a_time_where_it_is_large(monkeypatch):
    strokes, most = painting(), []
    whole = strokes.draw()

    def counted(shape, size, **options):
        most.append(shape.shape[-2] * size * size)
        return draw_exact(shape, size, **options)

    monkeypatch.setattr(stroke_list, "draw_exact", counted)
    monkeypatch.setattr(stroke_list, "_TILE_PIXELS", 2 * 30 * 30)
    torch.testing.assert_close(strokes.draw(), whole, atol=1e-6, rtol=0.0)
    assert max(most) == 2 * 30 * 30
    monkeypatch.setattr(stroke_list, "_TILE_PIXELS", 3 * 30 * 30)
    assert torch.equal(strokes.draw(), whole)  # all at once, as ever
