"""Checkpoints under fire: a kill, and a full disk, at every single file system call of a save."""

import builtins
import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import pytest
import safetensors.torch
from checkpoint_samples import assert_says, names, one_line, save

from rlsuite.records.checkpoint import CheckpointWriteError, latest_checkpoint, list_checkpoints, read_checkpoint

CALLS = [(os, "mkdir"), (os, "rename"), (os, "replace"), (os, "fsync"), (os, "unlink"), (os, "rmdir"),
         (os, "chmod"), (safetensors.torch, "save_file"), (builtins, "open")]  # fmt: skip


class KilledError(BaseException):
    pass


class Failing:
    """Lets `allowed` file system calls pass; the next one, and if `forever` all after it, raise `error`."""

    def __init__(self, monkeypatch, allowed, error, calls, forever):
        self.left, self.error, self.forever, self.hit = allowed, error, forever, False
        for module, name in calls:
            monkeypatch.setattr(module, name, self.wrap(getattr(module, name)))

    def wrap(self, function):
        def call(*arguments, **options):
            self.left -= 1
            if self.left == -1 or (self.forever and self.left < 0):
                self.hit = True
                raise self.error
            return function(*arguments, **options)

        return call


SITUATIONS = {
    "a new step, pruning": (20, {"keep": 1, "keep_agents": 1}),
    "the same step": (10, {"keep": 2}),
    "an earlier step": (5, {"keep": 1}),
}


@pytest.fixture
def quick_disk(monkeypatch):
    """Thousands of saves follow: count the calls of fsync, and leave the real disk alone."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("situation", SITUATIONS)
def test_killed_at_every_file_system_call(tmp_path, situation):
    value, options = SITUATIONS[situation]
    for allowed in range(200):
        run_dir = tmp_path / str(allowed)
        for older in (2, 10):
            save(run_dir, older, keep=2)
        with pytest.MonkeyPatch.context() as monkeypatch:
            failing = Failing(monkeypatch, allowed, KilledError(), CALLS, forever=True)
            with contextlib.suppress(KilledError):
                save(run_dir, value, **options)
        checkpoint = read_checkpoint(latest_checkpoint(run_dir))
        assert_says(checkpoint, checkpoint.step)
        assert checkpoint.step in (10, value)
        folder, named = run_dir / "checkpoints", (run_dir / "checkpoints" / "latest").read_text().strip()
        assert any((folder / name / "manifest.json").exists() for name in (named, f".replaced-{named}"))
        for path in list_checkpoints(run_dir):
            assert_says(read_checkpoint(path, parts=["agent"]), int(path.name.removeprefix(".replaced-")))
        save(run_dir, 30)  # the next run finds its way and leaves no litter
        assert [name for name in names(run_dir) if "abandoned" not in name] == ["30", "latest"]
        if not failing.hit:
            break
    assert 15 < allowed < 199


def full_disk():
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.usefixtures("quick_disk")
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("forever", [True, False])
def test_disk_full_at_every_write(tmp_path, situation, forever):
    value, options = SITUATIONS[situation]
    writes = [call for call in CALLS if call[1] in ("mkdir", "fsync", "rename", "replace", "save_file", "open")]
    for allowed in range(200):
        run_dir = tmp_path / str(allowed)
        for older in (2, 10):
            save(run_dir, older, keep=2)
        raised = None
        with pytest.MonkeyPatch.context() as monkeypatch:
            failing = Failing(monkeypatch, allowed, full_disk(), writes, forever)
            try:
                save(run_dir, value, **options)
            except CheckpointWriteError as error:
                raised = str(error)
        checkpoint = read_checkpoint(latest_checkpoint(run_dir))
        assert_says(checkpoint, checkpoint.step)
        if raised is not None:
            assert "\n" not in raised
            assert "No space left on device" in raised
            assert re.search(r"\d+ bytes needed, \d+ bytes free", raised)
            assert checkpoint.step in (10, value)
            assert (run_dir / "checkpoints/2/replay.safetensors").exists()  # nothing was pruned
            assert not list(run_dir.glob("checkpoints/.tmp-*"))
            assert forever or (run_dir / "checkpoints/10/manifest.json").exists()
        if not failing.hit:
            break
    assert 8 < allowed < 199


def test_safetensors_own_error_type(tmp_path, monkeypatch):
    def fail(*arguments):
        raise safetensors.SafetensorError("Error while serializing: I/O error:\nNo space left on device (os error 28)")

    save(tmp_path, 10)
    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(CheckpointWriteError, match="No space left on device") as error:
        save(tmp_path, 20)
    one_line(error)
    assert names(tmp_path) == ["10", "latest"]
    assert_says(read_checkpoint(latest_checkpoint(tmp_path)), 10)


def test_too_little_space_is_refused_before_writing(tmp_path, monkeypatch):
    save(tmp_path, 10)
    usage = namedtuple("Usage", "total used free")(1000, 0, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(safetensors.torch, "save_file", None)  # must not be reached
    with pytest.raises(CheckpointWriteError, match=r"too full.*1000 bytes free"):
        save(tmp_path, 20)
    assert names(tmp_path) == ["10", "latest"]


def test_run_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointWriteError, match="Not a directory"):
        save(tmp_path / "file" / "run", 1)


REAL_FAULTS = """
import resource, sys, torch
from pathlib import Path
from rlsuite.records.checkpoint import CheckpointWriteError, save_checkpoint
run_dir, what = Path(sys.argv[1]), sys.argv[2]
def save(value, size):
    parts = {name: {"w": torch.full((size,), float(value))} for name in ("agent", "replay", "optimizers")}
    save_checkpoint(run_dir, value, parts, {"value": value}, keep=2, keep_agents=2)
if what == "limit":
    save(1, 1000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    for size in (4096, 100_000):
        try:
            save(2, size)
        except CheckpointWriteError as error:
            print(size, error)
value = 1
while what == "loop":
    save(value, 200_000)
    print(value, flush=True)
    value += 1
"""


def test_a_real_file_size_limit(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", REAL_FAULTS, tmp_path, "limit"], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()  # 4,096 floats still fit
    assert len(lines) == 1
    assert re.match(r"100000 could not save checkpoint .*File too large .*bytes needed", lines[0])
    assert names(tmp_path) == ["1", "2", "latest"]
    assert_says(read_checkpoint(latest_checkpoint(tmp_path)), 2)


def test_kill_minus_nine(tmp_path):
    for trial in range(2):
        run_dir = tmp_path / str(trial)
        process = subprocess.Popen(
            [sys.executable, "-c", REAL_FAULTS, run_dir, "loop"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(3 + trial):
            saved = int(process.stdout.readline())
        time.sleep(0.005 * trial)
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        checkpoint = read_checkpoint(latest_checkpoint(run_dir))
        assert_says(checkpoint, checkpoint.step)
        assert checkpoint.step >= int(rest[-1] if rest else saved)  # nothing that was announced is lost
