"""Machines of other kinds: the OpenGL back end, the threads, and sizes and names that are refused before a start."""

import os
import subprocess
import sys

import pytest
from paths import ROOT

from rlsuite.cli import run_script
from rlsuite.running.threads import available_threads
from scripts import (
    compare_bits,
    evaluate_agent,
    export_agent,
    judge_searches,
    order_searches,
    plot_curves,
    train_agent,
    tune_agent,
)


@pytest.mark.parametrize(
    ("platform", "display", "backend"),
    [("linux", "", "egl"), ("linux", ":0", None), ("darwin", "", None), ("win32", "", None)],
)
def test_egl_is_for_linux_without_a_screen(platform, display, backend, monkeypatch):
    """What stands before the first import of MuJoCo, since a platform cannot be changed after it."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    head, found, _ = (ROOT / "envs" / "__init__.py").read_text().partition("import gymnasium\n")
    assert found
    exec(compile(head, "envs/__init__.py", "exec"), {})
    assert os.environ.get("MUJOCO_GL") == backend
    os.environ.pop("MUJOCO_GL", None)  # monkeypatch puts back what was there


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to cores")
def test_a_process_bound_to_one_core_has_one_thread():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from rlsuite.running.threads import available_threads; print(available_threads())"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["1"]
    assert available_threads() == len(os.sched_getaffinity(0))


BEYOND = ["train_ratio=1e18", "updates_per_episode=9999999999", "num_threads=1000000", "agent.batch_size=5001"]
BEYOND += ["replay.n_step=1251", "num_envs=100000000", "evaluate.episodes=1000001"]


@pytest.mark.parametrize("argument", BEYOND)
def test_sizes_beyond_all_measure_are_refused_before_the_start(argument, tmp_path, capsys):
    arguments = ["agent=ddpg", "env=InvertedPendulum", "preset=debug", argument, f"run_dir={tmp_path / 'run'}"]
    if argument.startswith("num_envs"):
        arguments.append("replay.capacity=1000000000")
    assert run_script(train_agent.main, arguments) == 2
    error = capsys.readouterr().err
    key, _, value = argument.partition("=")
    assert error.startswith((f"error: {key}=", f"error: {value} environments, "))
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_film_that_is_no_mp4_is_refused_before_anything_is_read(tmp_path, capsys):
    assert run_script(evaluate_agent.main, ["run=nowhere", "video=true", f"output={tmp_path / 'film.webm'}"]) == 2
    assert "use a name such as output=film.mp4" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


UNWRITABLE = {
    "plots": (plot_curves, ["runs=nowhere", "output={file}/x.png"]),
    "data of plots": (plot_curves, ["runs=nowhere", "output={folder}/x.png", "data={file}/x.json"]),
    "kept agents": (export_agent, ["run=nowhere", "output={file}/x.safetensors"]),
    "tables of bits": (compare_bits, ["runs=nowhere", "output={file}/x.json"]),
    "uses of searches": (judge_searches, ["output={file}/x.json"]),
    "orders of searches": (order_searches, ["output={file}/x.json"]),
    "studies": (tune_agent, ["env=Hopper", "search=agent.discount=0.9..0.99", "run_dir={file}/x"]),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(name, tmp_path, capsys):
    script, arguments = UNWRITABLE[name]
    (tmp_path / "file").touch()
    filled = [argument.format(file=tmp_path / "file", folder=tmp_path) for argument in arguments]
    if name == "studies":
        pytest.importorskip("optuna")
    assert run_script(script.main, filled) == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
