"""The examples run as they stand; those of exported policies and of minatar_tasks are run with their own tests."""

import re
import runpy
import sys

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

EXAMPLES = ROOT / "scripts" / "examples"


@pytest.fixture
def example(monkeypatch, tmp_path, capsys):
    def run(name, *arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_train_load_and_plot(example, tmp_path):
    said = example("train_and_load", 600, tmp_path / "run")
    assert "over 20 episodes" in said
    assert "seen last: [" in said
    example("plot_runs", tmp_path / "curve.png", tmp_path / "run")
    with Image.open(tmp_path / "curve.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 1.0


def test_own_environment(example, tmp_path):
    assert "stopped at step 1200:" in example("own_environment", 1200, tmp_path / "run")


def test_paint_a_picture(example, tmp_path):
    ramp = np.linspace(0, 255, 48, dtype=np.uint8)
    Image.fromarray(np.stack([np.tile(ramp, (32, 1))] * 3, axis=-1)).save(tmp_path / "ramp.png")
    said = example("paint_a_picture", tmp_path / "ramp.png", tmp_path / "strokes.svg", 12, 2)
    assert 1 <= int(said.split(" strokes, ")[0]) <= 12  # how many find a place depends on the seconds
    assert float(said.split()[2]) > 18.0
    assert (tmp_path / "strokes.svg").read_text().startswith("<svg")


def test_the_readmes_python_runs_as_written(monkeypatch, tmp_path, capsys):
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), found := {})
    assert found["run"].steps == 8_000
    assert found["observation"].shape == (1, 4)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) < 700


def test_every_example_is_short_and_run_by_a_test():
    tested = (ROOT / "tests" / "scripts" / "test_examples.py").read_text()
    tested += (ROOT / "tests" / "agents" / "test_export.py").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert path.stem in tested, path
        assert len(path.read_text().splitlines()) <= 42, path
