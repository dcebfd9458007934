"""train_agent.py in processes that are killed or terminated, with other threads, and made again: to the same bytes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from paths import ROOT

from rlsuite.cli import run_script
from scripts import train_agent

LONG = ["preset=debug", "steps=1200", "checkpoint.every=300", "log.every=60", "evaluate.every=600", "num_threads=1"]
RUNS = {
    "ddpg": ["agent=ddpg", "env=InvertedPendulum", "replay.prioritized=true", "replay.n_step=3"],
    "ace": ["agent=ace", "env=Hopper", "agent.num_pairs=3", "agent.exploration.hold=3", "agent.embedding.size=16"],
    "pombu": ["agent=pombu", "env=Point3D", "agent.alpha_factor=1.5", "agent.dynamics.max_passes=20"],
    "flash_sac": [
        "agent=flash_sac",
        "env=InvertedPendulum",
        "replay.prioritized=true",
        "replay.priority_age_decay=0.99",
    ],
    "sher": ["agent=sher", "env=FetchPush", "replay.capacity=600", "replay.hindsight.curriculum.enabled=true"],
}


def cli(*arguments):
    return run_script(train_agent.main, [str(argument) for argument in arguments])


def start(arguments, folder):
    command = [sys.executable, str(ROOT / "scripts" / "train_agent.py"), *arguments]
    with open(folder.with_suffix(".log"), "w") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder.parent)


def wait_for_step(process, folder, step):
    """Wait until the run has logged `step` or more; fail if it ends before."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, folder.with_suffix(".log").read_text()
        lines = (folder / "metrics.jsonl").read_text().splitlines() if (folder / "metrics.jsonl").exists() else []
        if len(lines) > 1 and json.loads(lines[-2])["step"] >= step:
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"step {step} was not reached: {folder.with_suffix('.log').read_text()}")


def digests(folder, step=1200):
    parts = ("agent", "optimizers", "replay", "environment")
    files = [folder / "checkpoints" / str(step) / f"{part}.safetensors" for part in parts]
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The finished reference runs, all made at once in processes of their own."""
    folders = {name: tmp_path_factory.mktemp(name) / "whole" for name in RUNS}
    processes = [start([*RUNS[name], *LONG, f"run_dir={folders[name]}"], folders[name]) for name in RUNS]
    for process, folder in zip(processes, folders.values(), strict=True):
        assert process.wait(240) == 0, folder.with_suffix(".log").read_text()
    return {name: digests(folder) for name, folder in folders.items()}


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_resumes_to_the_same_bytes(uninterrupted, tmp_path, name):
    folder = tmp_path / "killed"
    process = start([*RUNS[name], *LONG, f"run_dir={folder}"], folder)
    wait_for_step(process, folder, 420)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert (folder / "checkpoints" / "latest").read_text().strip() in ("300", "600", "900")
    assert not (folder / "checkpoints" / "1200").exists()
    assert cli(f"resume={folder}") == 0  # in another process than the one that was killed
    assert digests(folder) == uninterrupted[name]


def test_sigterm_saves_exits_0_and_resumes_to_the_same_bytes(uninterrupted, tmp_path):
    folder = tmp_path / "terminated"
    process = start([*RUNS["ddpg"], *LONG, f"run_dir={folder}"], folder)
    wait_for_step(process, folder, 360)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == 0
    step = int((folder / "checkpoints" / "latest").read_text())
    assert 360 <= step < 1200
    assert f"saved at step {step}; next:\n  python scripts/train_agent.py resume={folder}" in (
        folder.with_suffix(".log").read_text()
    )
    assert cli(f"resume={folder}") == 0
    assert digests(folder) == uninterrupted["ddpg"]


# The killed runs above are the others made again.
@pytest.mark.parametrize(
    "name", ["ddpg", *(pytest.param(name, marks=pytest.mark.slow) for name in RUNS if name != "ddpg")]
)
def test_a_run_made_again_is_identical(uninterrupted, tmp_path, name):
    folder = tmp_path / "again"
    assert cli(*RUNS[name], *LONG, f"run_dir={folder}") == 0
    assert digests(folder) == uninterrupted[name]


def test_sigterm_ends_the_whole_sweep(tmp_path):
    folder = tmp_path / "sweep"
    process = start(["-m", *RUNS["ddpg"], *LONG, "seed=0,1", f"run_dir={folder}"], folder)
    deadline = time.monotonic() + 60
    while not list(folder.glob("*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(60) == 0
    assert len(list(folder.glob("*/config.yaml"))) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["agent=ddpg", "env=Hopper"],  # MKL alone would sum the actor's 11 inputs otherwise on two threads
        ["agent=ddpg", "env=InvertedPendulum"],  # and the critic's 5
        ["agent=ddpg", "env=HalfCheetah"],
        ["agent=ace", "env=Hopper"],
    ],
    ids=" ".join,
)
def test_the_thread_count_changes_nothing(tmp_path, arguments):
    found = []
    for threads in (1, 2):
        folder = tmp_path / str(threads)
        keys = ["preset=debug", "steps=280", "evaluate.every=0", f"num_threads={threads}", f"run_dir={folder}"]
        assert cli(*arguments, *keys) == 0
        found.append(digests(folder, 280))
    assert found[0] == found[1]
