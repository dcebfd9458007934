"""Strokes beside people's pens: distances by hand, the files as Omniglot has them, and a tiny run end to end."""

import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from envs.characters.glyphs import glyph_pool
from renderers.choice import make_renderer
from renderers.glyph import blank, write
from rlsuite.cli import run_script
from rlsuite.data.pens import parse_pen, pen_files, read_pen
from rlsuite.errors import UserError
from scripts import compare_pens

DRAWN = "START\n3.5,-10.5,0\n{x},-10.5,20\nBREAK\n30.5,-5.5,90\nBREAK\n"


def omniglot(folder, part, alphabets, *, zipped=True):
    """Write a background set: each drawing a bar and a dot, and its pen."""
    for kind in ("images", "strokes"):
        root = folder / f"{kind}_background_small{part}"
        for name in alphabets:
            place = root / name / "character01"
            place.mkdir(parents=True)
            for writer in range(1, 6):
                end = 15.5 + writer
                if kind == "images":
                    picture = Image.new("L", (40, 40), 255)
                    ImageDraw.Draw(picture).line((3, 10, end, 10), fill=0, width=3)
                    ImageDraw.Draw(picture).ellipse((28, 3, 32, 7), fill=0)
                    picture.save(place / f"0001_0{writer}.png")
                else:
                    (place / f"0001_0{writer}.txt").write_text(DRAWN.format(x=end))
        if zipped:
            with zipfile.ZipFile(f"{root}.zip", "w") as archive:
                for path in sorted(root.rglob("*.*")):
                    archive.write(path, path.relative_to(folder))
                archive.writestr("__MACOSX/A/character01/._0001_01.txt", b"\x00\x05")
    return folder


def test_a_drawing_of_the_pen_by_hand(tmp_path):
    bar, dot = parse_pen(DRAWN.format(x=20.5))
    assert bar.tolist() == [[10.0, 3.0], [10.0, 20.0]]
    assert dot.tolist() == [[5.0, 30.0]]
    folder = omniglot(tmp_path, 1, ("A",))
    for root in (folder / "strokes_background_small1", folder / "strokes_background_small1.zip"):
        places = pen_files(root)
        assert sorted(places) == [f"A/character01/0001_0{writer}" for writer in range(1, 6)]
        assert read_pen(root, places["A/character01/0001_02"])[0].tolist() == [[10.0, 3.0], [10.0, 17.0]]


@pytest.mark.parametrize(
    ("text", "message"), [("START\n1,2\n", "line 2"), ("START\nBREAK\n", "no stroke"), ("1,nan,0", "no numbers")]
)
def test_what_is_no_drawing_is_refused(tmp_path, text, message):
    place = tmp_path / "A" / "character01"
    place.mkdir(parents=True)
    (place / "0001_01.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        read_pen(tmp_path, "A/character01/0001_01.txt")
    with pytest.raises(UserError, match="cannot be read"):
        read_pen(tmp_path, "A/character01/0001_02.txt")


def test_lines_are_measured_out_evenly_and_distances_are_means_of_the_nearest():
    line = np.array([[0.0, 0.0], [0.0, 0.1], [0.0, 3.0]])
    points = compare_pens.measured_out(line)
    assert points.shape == (7, 2)
    np.testing.assert_allclose(np.diff(points[:, 1]), 0.5)
    assert compare_pens.measured_out(np.array([[2.0, 5.0]])).tolist() == [[2.0, 5.0]]
    found = compare_pens.both_ways([np.array([[0.0, 0.0]])], [np.array([[0.0, 3.0], [4.0, 0.0]])])
    assert found == {"to_pen": 3.0, "from_pen": 3.5, "mean": 3.25}


def test_points_of_strokes_lie_where_they_are_drawn():
    numbers = torch.tensor([0.2, 0.1, 0.3, 0.9, 0.8, 0.8, 0.0, 0.0, 0.0])
    drawn = write(blank(1, 64, numbers), numbers.view(1, 9), make_renderer("exact", 64, brush="glyph"))[0, 0]
    places = compare_pens.curve_points(numbers, 64)
    ink = torch.nonzero(drawn < 0.9).double().numpy() + 0.5
    apart = torch.cdist(torch.from_numpy(places), torch.from_numpy(ink))
    assert float(apart.amin(1).max()) < 1.2
    assert float(apart.amin(0).max()) < 1.8


def test_a_skeleton_is_in_the_middle_of_the_ink():
    pytest.importorskip("skimage")
    grey = np.ones((20, 20), np.float32)
    grey[4:9, 2:18] = 0.0
    points = compare_pens.skeleton_points(grey, 40)
    assert float(np.abs(points[:, 0] - 13.0).max()) <= 4.0
    assert float(np.median(points[:, 0])) == 13.0  # row 6, its middle, on a picture twice as large


def test_a_tiny_run_end_to_end(tmp_path, monkeypatch, capsys):
    pytest.importorskip("skimage")
    omniglot(tmp_path / "omniglot", 1, ("A", "B", "D"))
    omniglot(tmp_path / "omniglot", 2, ("B", "C"))
    monkeypatch.setenv("RLSUITE_DATA", str(tmp_path))
    threads = torch.get_num_threads()
    arguments = ["size=16", "strokes=2", "steps=3", "num_threads=1", f"run_dir={tmp_path / 'run'}"]
    assert run_script(compare_pens.main, [*arguments, "drawings=4", f"output={tmp_path / 'out.json'}"]) == 0
    torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert found == json.loads((tmp_path / "out.json").read_text())
    clean = found["distances"]["clean"]
    assert set(clean) == {"strokes", "skeleton", "median, skeleton", "skeleton, whole"}
    assert clean["skeleton, whole"]["mean"] < 1.5 < clean["strokes"]["mean"]
    assert any(line.endswith("nearest: skeleton, whole") for line in lines)
    # B is learned from, so that C alone is left.
    assert run_script(compare_pens.main, [*arguments, "drawings=6"]) == 2
    assert "there are 5 of alphabets that are not learned from" in capsys.readouterr().err
    monkeypatch.setenv("RLSUITE_DATA", str(tmp_path / "nowhere"))
    assert run_script(compare_pens.main, arguments) == 2
    assert "RLSUITE_DATA" in capsys.readouterr().err
    glyph_pool.cache_clear()
