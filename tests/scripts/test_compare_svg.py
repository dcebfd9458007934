"""The SVG against the picture: a stand-in for a browser has known screenshots; a real one draws, where there is one."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from renderers.stroke_list import Layer, StrokeList
from renderers.svg import save_svg
from rlsuite.cli import run_script
from scripts.painter import compare_svg


@pytest.fixture
def painting(tmp_path):
    folder = tmp_path / "painting"
    folder.mkdir()
    Image.new("RGB", (20, 12), (100, 0, 0)).save(folder / "painting.png")
    (folder / "strokes.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="20" height="12"/>')
    return folder


@pytest.fixture
def browser(tmp_path):
    """Return a maker of programs that take a screenshot of one colour, as large as the window they are told."""

    def make(colour, smaller=0):
        program = tmp_path / "browser"
        program.write_text(
            f"#!{sys.executable}\nimport sys\nfrom PIL import Image\n"
            "options = dict(a[2:].split('=', 1) for a in sys.argv if '=' in a)\n"
            "width, height = map(int, options['window-size'].split(','))\n"
            f"Image.new('RGB', (width - {smaller}, height), {colour}).save(options['screenshot'])\n"
        )
        program.chmod(0o755)
        return str(program)

    return make


def test_the_difference_is_of_the_range_of_a_channel(painting, browser, capsys):
    assert run_script(compare_svg.main, [str(painting), f"browser={browser((100, 51, 0))}"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["paintings"][str(painting)]
    assert found == {"difference": round(0.2 / 3, 4), "psnr": round(-10 * np.log10(0.04 / 3), 2)}


def test_the_screenshot_is_kept_in_the_size_of_the_picture(painting, browser, tmp_path):
    kept = tmp_path / "new" / "kept.png"
    arguments = [f"painting={painting}", f"browser={browser((100, 0, 0))}", f"screenshot={kept}"]
    assert run_script(compare_svg.main, arguments) == 0
    assert Image.open(kept).size == (20, 12)


def test_a_browser_that_draws_too_little_or_nothing_is_one_line(painting, browser, tmp_path, capsys):
    assert run_script(compare_svg.main, [str(painting), f"browser={browser((0, 0, 0), smaller=201)}"]) == 2
    assert "fewer than the painting" in capsys.readouterr().err
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\necho no display >&2\n")
    silent.chmod(0o755)
    assert run_script(compare_svg.main, [str(painting), f"browser={silent}"]) == 2
    assert "it drew nothing (no display)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no painting is named"),
        (["painting=nowhere", "browser=sh"], "painting.png is missing"),
        (["painting=a,b", "screenshot=kept.png"], "screenshot= keeps one picture"),
        (["painting=a", "screenshot=kept.gif"], "ends with .png"),
    ],
)
def test_wrong_arguments_are_one_line(capsys, arguments, message):
    assert run_script(compare_svg.main, arguments) == 2
    assert message in capsys.readouterr().err


def test_no_browser_is_one_line(painting, capsys):
    assert run_script(compare_svg.main, [str(painting), "browser=no-such-browser"]) == 2
    assert "no browser: no-such-browser not found" in capsys.readouterr().err


@pytest.mark.skipif(not any(map(shutil.which, compare_svg.BROWSERS)), reason="no Chromium or Chrome")
def test_a_browser_draws_straight_strokes_of_one_opacity_as_the_exact_rasterizer_does(tmp_path):
    strokes = torch.tensor(
        [[0.2, 0.1, 0.2, 0.5, 0.2, 0.9, 0.5, 0.5, 0.8, 0.8, 0.9, 0.2, 0.1], [0.8, 0.2, 0.6, 0.5, 0.4, 0.8, *[0.4] * 7]]
    )
    layer = Layer(96, torch.zeros(1, 2, dtype=torch.long), strokes[None])
    listed = StrokeList(96, 96, "bezier", [layer])
    save_svg(listed, tmp_path / "strokes.svg")
    Image.fromarray((listed.draw().permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(
        tmp_path / "painting.png"
    )
    found = compare_svg.compare(tmp_path, compare_svg.CompareSvgConfig(painting=(str(tmp_path),)))
    assert found["difference"] < 0.01
