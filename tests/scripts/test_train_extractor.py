"""Teaching a reader from the command line: what it prints, and what is refused in one line with nothing written."""

import gzip
import json

import numpy as np
import pytest
import torch

from envs.characters.glyphs import glyph_pool
from rlsuite.cli import run_script
from scripts import reproduce, train_agent, train_extractor

SMALL = ["data=digits", "size=16", "strokes=2", "pool=100", "redrawn=32", "recognizer_steps=2", "check_every=1"]


@pytest.fixture(autouse=True)
def no_pools_kept():
    glyph_pool.cache_clear()
    threads = torch.get_num_threads()
    yield
    glyph_pool.cache_clear()
    torch.set_num_threads(threads)


def refusal(main, arguments, capsys):
    """Return the one line that a command is refused with."""
    assert run_script(main, arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_reader_is_taught_and_goes_on_with_the_strokes_it_began_with(tmp_path, capsys):
    run, output = tmp_path / "run", tmp_path / "reader.safetensors"
    arguments = [*SMALL, "steps=4", "save_every=2", "num_threads=1", f"output={output}"]
    assert "there is no training to go on with" in refusal(train_extractor.main, [*arguments, f"resume={run}"], capsys)
    assert not output.exists()
    assert run_script(train_extractor.main, [*arguments, f"run_dir={run}"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["bytes"] == output.stat().st_size
    assert found["accuracy"]["clean"].keys() == {"raw", "redraw", "params", "both"}
    before = output.read_bytes()
    for change in ("strokes=3", "network=resnet", "noises=[clean]"):
        assert change.split("=")[0] in refusal(train_extractor.main, [*arguments, f"resume={run}", change], capsys)
    assert output.read_bytes() == before
    assert run_script(train_extractor.main, [*arguments, f"resume={run}"]) == 0
    capsys.readouterr()
    assert output.read_bytes() == before


def truncated(folder, monkeypatch):
    header = bytes([0, 0, 8, 3]) + b"".join(number.to_bytes(4, "big") for number in (3, 28, 28))
    for part, text in (("images-idx3", header + bytes(100)), ("labels-idx1", bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3]))):
        (folder / f"train-{part}-ubyte.gz").write_bytes(gzip.compress(text))
    monkeypatch.setenv("RLSUITE_DATA", str(folder))


def no_fonts(folder, monkeypatch):
    import matplotlib

    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(folder))


def no_folder(folder, monkeypatch):
    monkeypatch.delenv("RLSUITE_DATA", raising=False)


@pytest.mark.parametrize(
    ("arguments", "prepare", "message"),
    [
        (["data=mnist"], truncated, "cannot be read"),
        (["data=mnist"], no_folder, "RLSUITE_DATA is not set"),
        (["data=fonts"], no_fonts, "matplotlib's fonts hold no digits and letters; use env.data=digits"),
        (["data=/nowhere"], None, "there is no such folder"),
        (["noises=[fog]"], None, "there is no 'fog'"),
        (["noises=[clean,attack:fog]"], None, "there is no attack 'fog'"),
        (["noises=[attack:fgsm:-0.1]"], None, "'-0.1' is no strength"),
        (["noises=[]"], None, "noises=[]"),
        (["schedule=square"], None, "schedule=square"),
        (["strokes=0"], None, "strokes=0"),
        (["size=20"], None, "needs a multiple of 8"),
        (["steps=0"], None, "steps=0"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(arguments, prepare, message, tmp_path, monkeypatch, capsys):
    if prepare:
        (tmp_path / "given").mkdir()
        prepare(tmp_path / "given", monkeypatch)
    run, output = tmp_path / "run", tmp_path / "reader.safetensors"
    own = [f"output={output}", f"run_dir={run}", *SMALL, "num_threads=1"]
    names = {argument.split("=")[0] for argument in arguments}
    own = [argument for argument in own if argument.split("=")[0] not in names]
    assert message in refusal(train_extractor.main, [*own, *arguments], capsys)
    assert not output.exists()
    assert not run.exists()


@pytest.mark.parametrize(
    ("noise", "message"),
    [("fog", "there is no 'fog'"), ("attack:fog", "no attack 'fog'"), ("attack:fgsm:-0.1", "'-0.1' is no strength")],
)
def test_an_agent_learns_under_no_unknown_noise(noise, message, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["agent=scribe", "env=Characters", f"env.noise={noise}", f"run_dir={run}", "device=cpu"]
    assert message in refusal(train_agent.main, arguments, capsys)
    assert not run.exists()


def test_attacks_below_0_are_refused(tmp_path, capsys):
    for attacks, message in (("{fgsm_eps:-0.1}", "fgsm_eps=-0.1"), ("{pgd_eps:[0.1,-0.5]}", "pgd_eps=-0.5")):
        arguments = ["paper=scr", f"attacks={attacks}", f"runs={tmp_path / 'runs'}"]
        assert message in refusal(reproduce.main, arguments, capsys)
    assert not list(tmp_path.iterdir())


def test_test_digits_are_never_learned_from():
    train, test = (glyph_pool("digits", 16, split).picture.flatten(1) for split in ("train", "test"))
    seen = {row.tobytes() for row in train.numpy()}
    shared = np.mean([row.tobytes() in seen for row in test.numpy()])
    assert shared < 0.02  # two people may write the same
