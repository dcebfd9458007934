"""paint_image.py, train_renderer.py and export_painter.py as a user runs them."""

import functools
import json
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from agents.painter.agent import Painter
from agents.painter.config import PainterConfig
from agents.painter.weights import load_painter, save_painter
from renderers.free_strokes import FreeStrokes
from renderers.neural import load_renderer
from renderers.soft import draw_soft
from renderers.stroke_files import load_strokes
from renderers.stroke_list import StrokeList
from rlsuite.cli import run_script
from rlsuite.records.checkpoint import read_checkpoint, resolve_checkpoint
from rlsuite.vector_env import EnvironmentFacts


def last_json(capsys):
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    rows, columns = np.mgrid[0:60, 0:90] / 90
    pixels = np.dstack([rows, columns, 0.5 + 0.5 * np.sin(12 * rows * columns)])
    path = tmp_path_factory.mktemp("photos") / "a photo, with = and spaces.png"
    Image.fromarray((pixels * 255).astype(np.uint8)).save(path)
    return path


def paint(*arguments):
    from scripts import paint_image

    return run_script(paint_image.main, [str(argument) for argument in arguments])


def test_a_photo_becomes_a_folder_of_files(photo, tmp_path, capsys):
    out = tmp_path / "out"
    assert paint(photo, f"output={out}", "strokes=300", "refine_steps=5", "num_threads=1", "long_side=90") == 0
    found = last_json(capsys)
    assert sorted(path.name for path in out.iterdir()) == [
        "painting.mp4",
        "painting.png",
        "strokes.json",
        "strokes.svg",
    ]
    shown = np.asarray(Image.open(out / "painting.png"), np.float64) / 255
    wanted = np.asarray(Image.open(photo), np.float64) / 255
    assert found["mse"] == pytest.approx(((shown - wanted) ** 2).mean(), rel=1e-4)
    assert found["psnr"] == pytest.approx(-10 * np.log10(found["mse"]), abs=1e-3)
    assert found["mse"] < 0.15 * wanted.var()
    assert 280 < found["strokes"] <= 300
    # The list of strokes, drawn again, is the picture.
    again = load_strokes(out / "strokes.json").draw().permute(1, 2, 0).numpy()
    assert np.abs(again - shown).mean() < 1 / 255


def test_no_painting_is_overwritten_unless_its_folder_is_named(photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quick = ["strokes=10", "refine=false", "num_threads=1"]
    for options in (["video=gif"], ["video=none"], ["video=none"]):
        assert paint(photo, *quick, *options) == 0
    assert sorted(path.name for path in (tmp_path / "painted").iterdir()) == [
        photo.stem,
        f"{photo.stem}-2",
        f"{photo.stem}-3",
    ]
    first = tmp_path / "painted" / photo.stem
    assert (first / "painting.gif").exists()
    assert paint(photo, *quick, "video=none", f"output={first}") == 0
    assert not (first / "painting.gif").exists()  # it was of the painting before


def test_options_that_people_ask_for(photo, tmp_path, capsys):
    for number, options in enumerate(
        (
            ["divide=2", "refine=false", "output_size=180", "video=gif"],
            ["opaque=true", "smallest_stroke=0.1", "largest_stroke=0.3", "refine_steps=2", "video=none"],
            ["brush=circle", "refine_steps=2", "video=none", "seconds=0.5"],
            ["brush=triangle", "refine_steps=2", "video=none", "long_side=32"],
            ["brush=mixed", "refine_steps=12", "video=gif", "psnr=15"],
            ["guess=true", "refine_steps=2", "video=none"],
            ["tiles=true", "refine_steps=2", "video=none", "seconds=5"],
        )
    ):
        out = tmp_path / str(number)
        assert paint(photo, f"output={out}", "strokes=100", "num_threads=1", *options) == 0
        assert last_json(capsys)["strokes"] <= 100
    assert Image.open(tmp_path / "0" / "painting.png").size == (180, 120)
    assert Image.open(tmp_path / "0" / "painting.gif").n_frames > 10
    numbers = torch.cat([layer.strokes.flatten(0, 1) for layer in load_strokes(tmp_path / "1/strokes.json").layers])
    assert float(numbers[:, 8:10].min()) == 1.0
    assert float(numbers[:, 6:8].min()) >= 0.1 - 1e-6
    assert float(numbers[:, 6:8].max()) <= 0.3 + 1e-6
    assert load_strokes(tmp_path / "3/strokes.json").width == 32
    mixed, tiled = load_strokes(tmp_path / "4/strokes.json"), load_strokes(tmp_path / "6/strokes.json")
    assert isinstance(mixed, FreeStrokes)
    assert len(set(mixed.kinds.tolist())) > 1
    assert isinstance(tiled, StrokeList)


def test_strokes_are_those_of_the_brush_that_the_painter_learned_with(photo, tmp_path):
    renderer = functools.partial(draw_soft, size=16, brush="circle")
    facts = EnvironmentFacts.of_vectors(
        6 * 256 + 1, torch.zeros(65), torch.ones(65), renderer=renderer, max_episode_steps=4
    )
    painter = Painter(facts, PainterConfig(network="small", width=4))
    weights = tmp_path / "circles.safetensors"
    save_painter(painter, weights, brush="circle", about={})
    options = [f"weights={weights}", "strokes=40", "refine=false", "video=none", "num_threads=1"]
    for brush, arguments in (("circle", []), ("line", ["brush=line"])):
        assert paint(photo, f"output={tmp_path / brush}", *options, *arguments) == 0
        assert load_strokes(tmp_path / brush / "strokes.json").brush == brush


def test_bad_input_is_refused_in_one_line(photo, tmp_path, capsys, monkeypatch):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "taken" / "painting.mp4").mkdir(parents=True)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=30e9))
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        ([], "no picture is named"),
        ([tmp_path / "nowhere.png"], "there is no such file"),
        ([tmp_path / "taken"], "it is a folder"),
        ([photo, f"weights={tmp_path}"], "no painter can be read from it (it is a folder, no file)"),
        ([photo, "refine=false", "refine_steps=3"], "refine_steps=3: it is for refining"),
        ([photo, "refine=false", "seconds=3"], "seconds=3.0: it is for refining"),
        ([photo, "divide=3", "smallest_tile=8"], "leave one of them out"),
        ([photo, "divide=3", "psnr=20"], "leave out divide="),
        ([photo, "tiles=true", "brush=mixed"], "leave out tiles="),
        ([photo, "refine=false", "brush=mixed"], "leave out refine="),
        ([photo, "refine=false", "psnr=20"], "psnr=20.0: it is for refining"),
        ([photo, "divide=3", "guess=true"], "leave out guess"),
        ([photo, "seconds=inf"], "seconds=inf: use a finite number"),
        ([photo, "psnr=-3"], "psnr=-3.0: use a finite number"),
        ([tmp_path / "text.png"], "no picture can be read"),
        ([photo, photo.with_name("other.png")], "one picture at a time"),
        ([photo, "strokes=3"], "use 5 or more"),
        ([photo, "brush=oil"], "brush=oil"),
        ([photo, "weights=nowhere"], "no painter can be read"),
        ([photo, "smallest_stroke=0.5", "largest_stroke=0.1"], "in this order"),
        ([photo, f"output={photo}"], "choose another folder"),
        ([photo, "output=/proc/self"], "cannot be written"),
        ([photo, f"output={tmp_path / 'taken'}"], "painting.mp4: cannot be written (Is a directory)"),
        ([photo, "num_threads=-1"], "num_threads=-1: use 0"),
        ([photo, "image=nope.png"], "two pictures are named"),
        ([photo, "storkes=100"], "unknown key 'storkes'; did you mean 'strokes'?"),
        (["image=no (such) one.png"], "no (such) one.png: there is no such file"),
        ([photo, "weights=no (such) one"], "weights=no (such) one: no painter can be read"),
        ([photo, "brush=triangle", "smallest_stroke=0.9"], "triangles have no radius"),
        ([photo, "output_size=16384"], "output_size=16384: so large a picture takes"),
    ):
        assert paint(*arguments) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert message in lines[0]


def test_what_fails_while_files_are_written_is_one_line_too(photo, tmp_path, capsys, monkeypatch):
    from scripts.painter import writing

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "save_svg", full)
    options = ["strokes=20", "refine=false", "num_threads=1"]
    assert paint(photo, f"output={tmp_path / 'out'}", *options) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "No space left on device" in lines[0]


def test_only_the_files_written_are_listed_and_a_picture_is_drawn_once(photo, tmp_path, capsys, monkeypatch):
    drawn = []
    plain_draw = StrokeList.draw
    monkeypatch.setattr(StrokeList, "draw", lambda self, scale=1.0: drawn.append(scale) or plain_draw(self, scale))
    options = [f"output={tmp_path}", "strokes=20", "refine=false", "num_threads=1", "long_side=90"]
    (tmp_path / "painting.mp4").write_text("old")
    assert paint(photo, *options, "video=none") == 0
    assert capsys.readouterr().out.splitlines()[-2] == f"{tmp_path}: painting.png, strokes.json, strokes.svg"
    assert drawn == [1.0]
    assert paint(photo, *options, "video=none", "output_size=180") == 0
    assert drawn == [1.0, 2.0, 1.0]


def test_a_renderers_bad_input_is_refused_before_it_trains(tmp_path, capsys):
    from scripts.painter import train_renderer

    for arguments, message in (
        ([f"output={tmp_path}"], "cannot be written (Is a directory)"),
        (["pool=-1"], "pool=-1: use 0"),
        (["device=foo"], "device=foo: use cpu, cuda"),
        (["num_threads=-1"], "num_threads=-1: use 0"),
    ):
        output = [] if arguments[0].startswith("output") else [f"output={tmp_path / 'renderer'}"]
        assert run_script(train_renderer.main, [*arguments, *output, "size=32", "steps=1"]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert message in lines[0]


def test_a_renderer_is_trained_and_a_painter_learns_through_it_and_paints(photo, tmp_path, capsys):
    from scripts import train_agent
    from scripts.painter import compare_renderers, export_painter, train_renderer

    weights = tmp_path / "renderer.safetensors"
    arguments = [f"output={weights}", "size=32", "steps=30", "batch_size=8", "pool=60", "learning_rates=[1e-3]"]
    assert run_script(train_renderer.main, [*arguments, "milestones=[]", "report_every=10", "validation=20"]) == 0
    found = last_json(capsys)
    assert found["bytes"] == weights.stat().st_size
    assert 0 < found["mse"] < 4 * found["variance"]
    assert load_renderer(weights).size == 32
    sizes = ["pictures=2", "strokes=2", "steps=3", "num_threads=1"]
    assert run_script(compare_renderers.main, [f"weights={weights}", *sizes]) == 0
    compared = last_json(capsys)
    assert compared["soft"]["fidelity_mse"] < compared["neural"]["fidelity_mse"]
    assert compared["soft"].keys() == compared["neural"].keys()
    run = tmp_path / "run"
    arguments = ["agent=painter", "env=Painting", "preset=debug", "env.size=32", "env.renderer=neural"]
    arguments += [f"env.renderer_weights={weights}", "steps=300", f"run_dir={run}"]
    assert run_script(train_agent.main, arguments) == 0
    painter = tmp_path / "painter.safetensors"
    assert run_script(export_painter.main, [f"run={run}", f"output={painter}"]) == 0
    assert last_json(capsys)["mse_black"] > 0
    assert (
        load_painter(painter).about["commits"] == read_checkpoint(resolve_checkpoint(run), parts=[]).metadata["commits"]
    )
    out = f"output={tmp_path / 'out'}"
    assert paint(photo, f"weights={painter}", out, "strokes=50", "refine=false", "video=none", "num_threads=1") == 0


def test_other_agents_are_no_painters(tmp_path, capsys):
    from scripts import train_agent
    from scripts.painter import export_painter

    run = tmp_path / "run"
    arguments = ["agent=ddpg", "env=InvertedPendulum", "preset=debug", "steps=300", "evaluate.every=0"]
    assert run_script(train_agent.main, [*arguments, f"run_dir={run}"]) == 0
    capsys.readouterr()
    assert run_script(export_painter.main, [f"run={run}", f"output={tmp_path / 'x'}"]) == 2
    assert "name one of agent=painter" in capsys.readouterr().err


def test_a_black_picture_needs_no_strokes(tmp_path, capsys):
    Image.new("RGB", (24, 16)).save(tmp_path / "night.png")
    assert paint(tmp_path / "night.png", f"output={tmp_path / 'out'}", "strokes=20", "refine_steps=2") == 0
    assert last_json(capsys)["strokes"] == 0
    assert not load_strokes(tmp_path / "out" / "strokes.json").draw().any()


def test_seams_are_steps_across_the_edges_of_tiles():
    from scripts.painter.compare_painters import seams

    ramp = torch.linspace(0, 1, 40).view(1, 1, 40).expand(3, 30, 40).clone()
    ramp += torch.linspace(0, 1, 30).view(1, 30, 1)
    assert seams(ramp, 10) == pytest.approx(1.0, abs=0.1)
    ramp[:, :, 20:] += 0.5  # one of five edges, the others with a step of a 39th or a 29th
    edges = [1 / 39, 1 / 39 + 0.5, 1 / 39, 1 / 29, 1 / 29]
    elsewhere = (36 / 39 + 27 / 29) / 63
    assert seams(ramp, 10) == pytest.approx(sum(edges) / 5 / elsewhere, rel=1e-3)


def test_an_interrupted_painting_is_written(photo, tmp_path, capsys, monkeypatch):
    from agents.painter import joint

    plain_step = joint.JointPainting.step

    def interrupted(self, share=1.0):
        if self.steps == 8:
            raise KeyboardInterrupt
        return plain_step(self, share)

    monkeypatch.setattr(joint.JointPainting, "step", interrupted)
    assert paint(photo, f"output={tmp_path}", "strokes=40", "refine_steps=20", "video=none", "num_threads=1") == 0
    assert 0 < last_json(capsys)["strokes"] <= 40
    assert (tmp_path / "painting.png").is_file()


def test_painters_are_compared_on_a_folder(photo, tmp_path, capsys):
    from scripts.painter import compare_painters

    sizes = ["strokes=60", "seconds=6", "steps=2", "long_side=48", "num_threads=1", "processor=true"]
    report = tmp_path / "report.json"
    assert run_script(compare_painters.main, [f"data={photo.parent}", f"output={report}", *sizes]) == 0
    assert set(last_json(capsys)) == set(compare_painters.PAINTERS)
    found = json.loads(report.read_text())
    assert len(found["pictures"]) == 7
    assert all(row["strokes"] <= 60 for row in found["pictures"])
    assert found["mean"]["refined"]["psnr"] > found["mean"]["policy"]["psnr"]
    assert found["mean"]["whole"]["psnr"] > found["mean"]["refined"]["psnr"] + 1.0
    assert run_script(compare_painters.main, [f"data={tmp_path}"]) == 2
    assert "holds no picture" in capsys.readouterr().err


def test_canvas_palette_mask_print_and_preview(tmp_path, capsys):
    from scripts import paint_image

    rows = np.linspace(0, 255, 40, dtype=np.uint8)
    Image.fromarray(np.stack([np.tile(rows, (30, 1))] * 3, axis=-1)).save(tmp_path / "ramp.png")
    mask = np.zeros((30, 40), np.uint8)
    mask[:, :20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (tmp_path / "colours.txt").write_text("black\ngrey\nwhite\n")
    keys = ["strokes=10", "refine_steps=45", "video=gif", "num_threads=1", "long_side=48", "canvas=#808080"]
    more = [f"palette={tmp_path / 'colours.txt'}", f"mask={tmp_path / 'mask.png'}", "print=A6@30", "preview=true"]
    folder = tmp_path / "out"
    assert run_script(paint_image.main, [str(tmp_path / "ramp.png"), *keys, *more, f"output={folder}"]) == 0
    with Image.open(folder / "painting.png") as painted:
        assert max(painted.size) == round(148 / 25.4 * 30)
    strokes = load_strokes(folder / "strokes.json")
    assert max(strokes.height, strokes.width) == 48  # enlarged
    assert strokes.ground == pytest.approx((128 / 255,) * 3, abs=1e-5)
    assert set((strokes.strokes[:, 10:] * 255).round().flatten().tolist()) <= {0.0, 128.0, 255.0}
    capsys.readouterr()
    for wrong in ("canvas=ivroy", "palette=1", "print=A9@10", "mask=none.png", "canvas=white tiles=true"):
        arguments = [str(tmp_path / "ramp.png"), *wrong.split(), f"output={tmp_path / 'wrong'}"]
        assert run_script(paint_image.main, arguments) == 2, wrong
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_film_leaves_pictures_out_where_it_would_take_too_long(monkeypatch):
    from scripts.painter import writing

    now = [0.0]
    monkeypatch.setattr(writing.time, "perf_counter", lambda: now[0])

    def frames():
        for number in range(10):
            now[0] += 1.0
            yield number

    assert list(writing.in_time(frames(), 10, seconds=10.0)) == list(range(10))
    now[0] = 0.0
    shown = list(writing.in_time(frames(), 10, seconds=0.0))
    assert shown == [9]
