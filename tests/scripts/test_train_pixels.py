"""Training on pictures from the command line: resume after kill -9, refusals, a pixel student of a state teacher."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from paths import ROOT

from envs.perception.catalogue import PERCEPTIONS
from envs.perception.weights import choose_perceivers, save_perceiver
from rlsuite.cli import run_script
from rlsuite.methods import choose
from scripts import benchmark, clone_policy, evaluate_agent, train_agent

pytest.importorskip("mujoco_warp", reason="mujoco-warp is not installed (extra: cameras)")

TOYS = Path(__file__).resolve().parents[1] / "envs" / "perception"
TINY = ["agent=td3", "env=Reacher", "preset=debug", "num_threads=1", "device=cpu", "num_envs=2", "steps=120"]
TINY += ["learning_starts=40", "checkpoint.every=40", "evaluate.every=0", "replay.capacity=500", "agent.batch_size=4"]
TINY += ["agent.vision.network.widths=[4,4]", "agent.vision.features=8"]
RIFE = ["camera.size=32", "camera.every=2", "perception=[interpolation/rife]"]
PIXELS = ["camera.size=16", "camera.every=2", "camera.stack=2", "perception=[toy/gain,toy/late]"]
# The toys stand in this process's catalogue alone; another one is told of them before it begins.
PRELUDE = (
    f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(TOYS)!r}]\n"
    "import envs\nfrom envs.perception.catalogue import PERCEPTIONS\nfrom toy_perceivers import TOYS\n"
    "PERCEPTIONS.update(TOYS)\nfrom scripts import train_agent\nsys.exit(train_agent.main())\n"
)


@pytest.fixture(autouse=True)
def _toys(monkeypatch):
    monkeypatch.syspath_prepend(str(TOYS))
    for name in ("gain", "late"):
        monkeypatch.setitem(PERCEPTIONS, f"toy/{name}", f"toy_perceivers:{name.title()}")


def weights(path, gain=0.9):
    (method,) = choose_perceivers(["gain"])
    perceiver = method.build()
    perceiver.network["gain"].data.fill_(gain)
    save_perceiver(path, perceiver, method)
    return f"gain.weights={path}"


def cli(*arguments, main=train_agent.main):
    return run_script(main, [str(argument) for argument in arguments])


def refused(capsys, *arguments, main=train_agent.main):
    capsys.readouterr()
    assert cli(*arguments, main=main) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def digests(folder):
    parts = ("agent", "optimizers", "replay", "environment")
    files = [folder / "checkpoints" / "120" / f"{part}.safetensors" for part in parts]
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rife_weights(path, seed=1):
    tiny = {"rife.network.widths": [8, 8, 8], "rife.network.context": 2, "rife.network.timed": False}
    (method,) = choose(PERCEPTIONS, ["rife"], tiny)
    save_perceiver(path, method.build(seed=seed), method)
    return f"rife.weights={path}"


# Keys, the class whose weights are a file's, what writes that file, and what makes other weights of it.
CASES = {
    "toys": (PIXELS, "Gain", weights, {"gain": 0.8}),
    "rife": (RIFE, "RIFE", rife_weights, {"seed": 2}),
}


def killed_at_its_first_checkpoint(folder, given):
    """Begin a training in a process of its own, and end that by SIGKILL once step 40 is saved."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PRELUDE, *given, f"run_dir={folder}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240
    while not (folder / "checkpoints" / "40" / "manifest.json").exists():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "checkpoints" / "120").exists()


@pytest.mark.parametrize("name", [pytest.param("toys", marks=pytest.mark.slow), "rife"])
def test_a_killed_run_resumes_to_the_same_bytes_and_other_weights_are_refused(name, tmp_path, capsys):
    pixels, kind, made, other = CASES[name]
    names = pixels[-1].removeprefix("perception=").strip("[]").split(",")
    path = tmp_path / "weights.safetensors"
    given = [*TINY, *pixels, made(path)]
    assert cli(*given, f"run_dir={tmp_path / 'whole'}") == 0
    killed = tmp_path / "killed"
    killed_at_its_first_checkpoint(killed, given)
    made(path, **other)
    assert f"other weights of {kind}" in refused(capsys, f"resume={killed}")
    moved = made(tmp_path / "moved.safetensors")
    assert cli(f"resume={killed}", moved) == 0
    assert digests(killed) == digests(tmp_path / "whole")
    kept = yaml.safe_load((killed / "config.yaml").read_text())
    assert kept["camera"]["every"] == 2
    assert [entry["name"] for entry in kept["perception"]] == names
    assert "toy_perceivers" not in (killed / "config.yaml").read_text()  # names, no import paths
    capsys.readouterr()
    assert cli(killed, "episodes=2", "num_threads=1", main=evaluate_agent.main) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["returns"]) == 2
    assert "camera.every= cannot change" in refused(capsys, f"resume={killed}", "camera.every=3", "steps=200")


def test_what_cannot_be_seen_is_refused_before_anything_is_made(tmp_path, capsys):
    folder = f"run_dir={tmp_path / 'none'}"
    pendulum = ["env=gymnasium", "env.id=Pendulum-v1"]
    assert "camera.size=64: gymnasium:Pendulum-v1 is no sim" in refused(capsys, *pendulum, "camera.size=64", folder)
    painting = refused(capsys, "agent=painter", "env=Painting", "camera.size=64", folder)
    assert "camera.size=64: rlsuite/Painting is no simulation" in painting
    assert "there are no pictures to perceive" in refused(capsys, "perception=toy/late", folder)
    assert "gain.power=2: gain is not chosen" in refused(capsys, *TINY, "gain.power=2", folder)
    assert "unknown method 'lat'; did you mean 'late'?" in refused(capsys, "camera.size=16", "perception=[lat]", folder)
    missing = ["camera.size=16", "perception=[gain]", "gain.weights=nowhere"]
    assert "nowhere: No such file" in refused(capsys, *missing, folder)
    assert "agent=pombu cannot read env=Point3D: its observations are pictures" in refused(
        capsys, "agent=pombu", "env=Point3D", "preset=debug", "camera.size=16", folder
    )
    assert not (tmp_path / "none").exists()


def test_a_student_of_pixels_is_a_file_that_can_be_evaluated(tmp_path, capsys):
    """Small numbers, where nothing is claimed; what it keeps is in docs/perception.md."""
    run = tmp_path / "teacher"
    assert cli("agent=ppo", "env=Reacher", "preset=debug", "device=cpu", "num_threads=1", f"run_dir={run}") == 0
    small = ["camera.size=16", "camera.stack=2", "states=64", "num_envs=4", "rounds=2", "fit.steps=3"]
    small += ["episodes=2", "num_threads=1", "conv.widths=[4,4]", "conv.hidden=8"]
    capsys.readouterr()
    assert cli(run, *small, main=clone_policy.main) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    path = run / "pixels.safetensors"
    assert found["output"] == str(path)
    assert found["kept"] == pytest.approx(
        (found["student"] - found["random"]) / (found["teacher"] - found["random"]), abs=1e-9
    )
    assert cli(path, "episodes=2", "num_threads=1", main=evaluate_agent.main) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["returns"]) == 2
    assert "is there; add overwrite=true" in refused(capsys, run, *small, main=clone_policy.main)
    assert "a file is no agent" in refused(capsys, path, *small, main=clone_policy.main)
    student = tmp_path / "of_one_that_comes_along.safetensors"
    assert cli("pretrained=InvertedPendulum-ppo", *small, f"output={student}", main=clone_policy.main) == 0
    assert student.exists()
    capsys.readouterr()
    assert "network=u_net ends in" in refused(
        capsys, run, *small[:6], "network=u_net", "overwrite=true", "num_threads=1", main=clone_policy.main
    )
    torch.set_flush_denormal(False)


def test_cameras_are_measured(capsys):
    arguments = ["what=cameras", "env=Reacher", "size=16", "num_envs=9", "rounds=1", "seconds=0.01"]
    try:
        assert benchmark.main(arguments) == 0
    except Exception as error:
        pytest.skip(f"no OpenGL here: {error}")
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["processor_ratio_mujoco"] > 0
    assert found["cost_of_8"] > 0
