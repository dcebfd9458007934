import numpy as np
import pytest
import torch
from PIL import Image

from renderers.free_strokes import FreeStrokes
from renderers.paints import LEAST, print_pixels, read_colour, read_mask, read_palette
from renderers.photo import read_photo
from renderers.sparse import SparsePicture
from renderers.stroke_files import load_strokes, save_strokes
from renderers.svg import save_svg
from rlsuite.errors import UserError


def test_colours_and_papers():
    assert read_colour("#ff8000") == (1.0, 128 / 255, 0.0)
    assert read_colour("white") == (1.0, 1.0, 1.0)
    assert print_pixels("A4@300") == 3508  # as everybody's tables have it
    assert print_pixels("a3@300") == 4961
    for wrong in ("A9@300", "A4", "A4@1", "A4@300dpi"):
        with pytest.raises(UserError, match="write a paper and dots an inch"):
            print_pixels(wrong)
    with pytest.raises(UserError, match="use a colour's name"):
        read_colour("ivroy")


def test_palettes(tmp_path):
    picture = torch.zeros(3, 20, 20)
    picture[0, :, 10:] = 1.0
    found = read_palette("2", picture)
    assert sorted(found.round(decimals=2).tolist()) == [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    (tmp_path / "colours.txt").write_text("red\n\n#00ff00\n")
    assert read_palette(str(tmp_path / "colours.txt"), picture).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    (tmp_path / "wrong.txt").write_text("reddish")
    (tmp_path / "empty.txt").write_text("\n")
    for wrong, said in (
        ("1", "use 2 to 256"),
        ("none.txt", "cannot be read"),
        (str(tmp_path / "wrong.txt"), "one colour a line"),
        (str(tmp_path / "empty.txt"), "lists 0 colours"),
    ):
        with pytest.raises(UserError, match=said):
            read_palette(wrong, picture)


def test_masks(tmp_path):
    grey = np.zeros((10, 20), np.uint8)
    grey[:, 10:] = 255
    Image.fromarray(grey).save(tmp_path / "mask.png")
    mask = read_mask(str(tmp_path / "mask.png"), 40, 80)
    assert mask.shape == (1, 40, 80)
    assert float(mask[0, 0, 0]) == pytest.approx(LEAST)
    assert float(mask[0, 0, -1]) == pytest.approx(1.0)
    Image.fromarray(0 * grey).save(tmp_path / "black.png")
    with pytest.raises(UserError, match="black everywhere"):
        read_mask(str(tmp_path / "black.png"), 40, 80)


def test_small_pictures_are_enlarged_when_asked(tmp_path):
    Image.fromarray(np.full((10, 20, 3), 200, np.uint8)).save(tmp_path / "small.png")
    assert read_photo(tmp_path / "small.png", 512).shape == (3, 10, 20)
    assert read_photo(tmp_path / "small.png", 512, enlarge=True).shape == (3, 80, 160)  # eight times
    assert read_photo(tmp_path / "small.png", 60, enlarge=True).shape == (3, 30, 60)


def test_a_ground_is_drawn_kept_and_written(tmp_path):
    nothing = FreeStrokes(4, 6, torch.zeros(0, 13), torch.zeros(0, dtype=torch.int64), ground=(1.0, 0.5, 0.0))
    assert torch.equal(nothing.draw(), torch.tensor([1.0, 0.5, 0.0]).view(3, 1, 1).expand(3, 4, 6))
    save_strokes(nothing, tmp_path / "strokes.json")
    assert load_strokes(tmp_path / "strokes.json").ground == (1.0, 0.5, 0.0)
    save_svg(nothing, tmp_path / "strokes.svg")
    assert 'fill="#ff8000"' in (tmp_path / "strokes.svg").read_text()
    text = (tmp_path / "strokes.json").read_text()
    (tmp_path / "bad.json").write_text(text.replace("[1.0,0.5,0.0]", "[1.0,2.0,0.0]"))
    with pytest.raises(UserError, match="no list of strokes"):
        load_strokes(tmp_path / "bad.json")


def test_importance_and_ground_in_the_error_and_its_gradients(generator):
    """Against autograd through plain compositing of the opacities that the sparse rasterizer draws."""
    from renderers.geometry import geometry_of

    target, importance = torch.rand(3, 24, 32, generator=generator), torch.rand(1, 24, 32, generator=generator) + 0.1
    ground = (0.2, 0.6, 0.9)
    strokes = torch.rand(5, 13, generator=generator)
    kinds = torch.zeros(5, dtype=torch.int64)
    geometry = geometry_of(strokes[:, :10], kinds, 32)
    sparse = SparsePicture(target, 1, 0.5, ground, importance)
    sparse.arrange(geometry, kinds)
    colours = strokes[:, 10:].clone()
    error, by_geometry, by_colours = sparse.error(geometry, colours)
    picture = sparse.picture()
    assert error == pytest.approx(float((importance * (picture - target).square()).sum()), rel=1e-4)

    small = 1e-3
    for row, column in ((0, 0), (3, 2), (4, 1)):
        moved = colours.clone()
        moved[row, column] += small
        up = sparse.error(geometry, moved)[0]
        moved[row, column] -= 2 * small
        down = sparse.error(geometry, moved)[0]
        assert float(by_colours[row, column]) == pytest.approx((up - down) / (2 * small), rel=2e-2, abs=2e-2)
    for row, entry in ((0, 8), (2, 9), (4, 8)):
        moved = geometry.clone()
        moved[row, entry] += small
        up = sparse.error(moved, colours)[0]
        moved[row, entry] -= 2 * small
        down = sparse.error(moved, colours)[0]
        assert float(by_geometry[row, entry]) == pytest.approx((up - down) / (2 * small), rel=5e-2, abs=5e-2)

    sparse.draw(geometry, colours)
    worth = sparse.worth(5)
    for left_out in (0, 4):
        kept = [number for number in range(5) if number != left_out]
        without = SparsePicture(target, 1, 0.5, ground, importance)
        without.arrange(geometry[kept], kinds[kept])
        rises = without.error(geometry[kept], colours[kept])[0] - error
        assert float(worth[left_out]) == pytest.approx(rises, rel=1e-3, abs=1e-2)
