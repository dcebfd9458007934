"""Reading pictures from the command line: what is written, and what is refused in one line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from agents.stroke_recognizer.single import characters_in, single_character
from agents.stroke_recognizer.weights import SHIPPED, Readers, save_readers
from envs.characters.glyphs import glyph_pool
from renderers.stroke_files import load_strokes
from rlsuite.errors import UserError
from scripts import recognize_characters


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "reader.safetensors"
    save_readers(Readers({"size": 16, "strokes": 2, "network": "small", "names": "0123456789"}), path, {})
    return path


def drawn(path, *, ink=0, paper=255, count=1, size=(60, 40)):
    picture = Image.new("RGB", size, (paper,) * 3)
    draw = ImageDraw.Draw(picture)
    for number in range(count):
        left = 8 + 18 * number
        draw.rectangle((left, 8, left + 4, 30), fill=(ink,) * 3)
        draw.rectangle((left, 8, left + 9, 12), fill=(ink,) * 3)
    picture.save(path)
    return str(path)


def test_a_folder_for_each_picture(weights, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    one, two = drawn(tmp_path / "a.png"), drawn(tmp_path / "other" / "a.png", ink=250, paper=10)
    output = tmp_path / "out"
    assert recognize_characters.main([one, two, f"weights={weights}", f"output={output}"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["picture"] for row in found] == [one, two]
    assert found[0]["character"] == found[1]["character"]  # light on dark is the same
    assert found[0]["character"] in "0123456789"
    assert 0.1 <= found[0]["confidence"] <= 1.0
    assert set(found[0]["by"]) == {"redraw", "params", "both"}
    for name in ("a", "a-2"):
        assert {path.name for path in (output / name).iterdir()} == set(recognize_characters.FILES)
    assert json.loads((output / "a" / "reading.json").read_text()) == found[0]
    strokes = load_strokes(output / "a" / "strokes.json")
    assert (strokes.brush, len(strokes)) == ("glyph", 2)
    assert Image.open(output / "a" / "picture.png").size == (2 * 128, 128)


def test_what_is_refused(weights, tmp_path):
    blank, several, good = tmp_path / "blank.png", tmp_path / "several.png", drawn(tmp_path / "good.png")
    Image.new("L", (20, 20), 200).save(blank)
    drawn(several, count=3, size=(80, 40))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    painter = recognize_characters.SHIPPED.parents[2] / "painter" / "shipped" / "painter-32.safetensors"
    for arguments, message in (
        ([], "no picture is named"),
        ([str(tmp_path / "none.png")], "there is no such file"),
        ([str(tmp_path / "broken.png")], "no picture can be read"),
        ([good, str(blank)], "the picture is empty"),
        ([str(several)], "3 characters side by side; give one at a time"),
        ([good, "way=guess"], "way=guess: use redraw, params, both"),
        ([good, f"weights={painter}"], "it holds other weights"),
        ([good, "num_threads=-1"], "num_threads=-1"),
    ):
        output = tmp_path / "out"
        own = [] if any(argument.startswith("weights=") for argument in arguments) else [f"weights={weights}"]
        with pytest.raises(UserError, match=message):
            recognize_characters.main([*arguments, *own, f"output={output}"])
        assert not output.exists()


def test_a_character_is_found_wherever_it_lies():
    pool = glyph_pool("digits", 32, "test")
    digit = pool.picture[0].expand(3, -1, -1)
    large = torch.full((3, 150, 200), 230, dtype=torch.uint8)
    large[:, 90:122, 20:52] = (digit.float() * 0.9).to(torch.uint8)
    found = single_character(large, "large", 32)
    assert found.shape == (3, 32, 32)
    ink = found.mean(0) < 0.5
    rows, columns = (ink.any(dim=axis).nonzero().flatten() for axis in (1, 0))
    assert 22 <= max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])) <= 30  # it fills the square
    generator = np.random.default_rng(0)
    noisy = np.clip(large.numpy() + generator.normal(0, 60, large.shape), 0, 255).astype(np.uint8)
    again = single_character(torch.from_numpy(noisy), "noisy", 32)
    assert float((again - found).abs().mean()) < 0.35


def test_characters_are_counted_by_the_gaps_between_them():
    ink = torch.zeros(64, 64, dtype=torch.bool)
    assert characters_in(ink) == 0
    ink[10:50, 5:15] = True
    assert characters_in(ink) == 1
    ink[20:24, 17:19] = True  # too near, and a speck
    assert characters_in(ink) == 1
    ink[10:50, 30:40] = True
    assert characters_in(ink) == 2


@pytest.mark.skipif(not SHIPPED.exists(), reason="no weights are shipped")
def test_the_suites_own_weights_read_digits(tmp_path, capsys):
    """Printed and handwritten ones, clean and noisy."""
    pool = glyph_pool("digits", 32, "test")
    generator, names = np.random.default_rng(0), []
    for index in range(24):
        grey = pool.picture[index, 0].numpy().astype(float)
        if index >= 12:
            grey = np.clip(grey + generator.normal(0, 50, grey.shape), 0, 255)
        path = tmp_path / f"{index}.png"
        Image.fromarray(np.pad(grey, 8, constant_values=255).astype(np.uint8)).save(path)
        names.append(str(path))
    recognize_characters.main([*names, f"output={tmp_path / 'out'}"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    right = [row["character"] == str(int(label)) for row, label in zip(found, pool.label, strict=False)]
    assert sum(right) >= 20
    assert SHIPPED.stat().st_size < 4 * 10**6
