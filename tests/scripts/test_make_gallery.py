"""The gallery: the photo and its paintings side by side, better with more strokes."""

import json

import numpy as np
import pytest
from PIL import Image

from rlsuite.cli import run_script
from scripts.painter import make_gallery


@pytest.fixture
def photo(tmp_path):
    ramp = np.linspace(0, 255, 48).astype(np.uint8)
    pixels = np.stack(np.broadcast_arrays(ramp[None, :], ramp[:32, None], np.uint8(90)), axis=2)
    path = tmp_path / "photo (1).png"
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return path


def test_the_photo_and_its_paintings_stand_side_by_side(tmp_path, capsys, photo):
    output = tmp_path / "new" / "gallery.png"
    assert run_script(make_gallery.main, [str(photo), f"output={output}", "strokes=[5,60]", "panel=24"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["psnr"]["60"] > found["psnr"]["5"] > 5.0
    row = np.asarray(Image.open(output))
    assert row.shape == (16, 3 * 24, 3)
    small = np.asarray(Image.open(photo).resize((24, 16), Image.Resampling.LANCZOS))
    assert np.abs(row[:, :24].astype(int) - small).max() <= 2  # the photo itself comes first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no picture is named"),
        (["image=photo.png"], "output= is missing"),
        (["image=photo.png", "output=gallery.txt"], "there is no such file"),
        (["image=photo.png", "output=gallery.png", "strokes=[3]"], "there is no such file"),
        (["image=photo.png", "output=gallery.png", "panel=1"], "panel=1: use 16 to 4096"),
    ],
)
def test_wrong_arguments_are_one_line(capsys, arguments, message):
    assert run_script(make_gallery.main, arguments) == 2
    assert message in capsys.readouterr().err


def test_too_few_strokes_and_wrong_suffixes_are_one_line(tmp_path, capsys, photo):
    assert run_script(make_gallery.main, [str(photo), f"output={tmp_path / 'a.png'}", "strokes=[3]"]) == 2
    assert "strokes=3: use 5 or more" in capsys.readouterr().err
    assert run_script(make_gallery.main, [str(photo), f"output={tmp_path / 'a.txt'}"]) == 2
    assert "ends with .jpg or .png" in capsys.readouterr().err
