import time

import numpy as np
import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.records.monitor import Monitor

wandb = pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")


def offline_runs(folder):
    return sorted((folder / "wandb").glob("offline-run-*"))


def written(runs):
    return b"".join(path.read_bytes() for run in runs for path in run.glob("*.wandb"))


def test_everything_logged_is_told_and_a_run_goes_on_as_the_same(tmp_path):
    folder = tmp_path / "run"
    with Monitor(folder, total_steps=100, console=False, wandb="tests") as monitor:
        monitor.about_run({"agent": {"name": "td3"}, "steps": 100}, "typed", ["abc"])
        monitor.record(10, "train", {"critic_loss": 0.5}, {"returns": torch.tensor([1.0, 2.0])})
        monitor.image(10, "frame", np.zeros((4, 5, 3), np.uint8))
        monitor.clip(10, "film", [np.zeros((4, 5, 3), np.uint8)] * 7, 5.0)
    identity = (folder / "wandb.id").read_text()
    with Monitor(folder, total_steps=100, console=False, resume_step=10, wandb="tests") as monitor:
        monitor.record(20, "evaluate", {"mean": 1.0})
        monitor.run_ended(20)
    assert (folder / "wandb.id").read_text() == identity
    found = offline_runs(folder)
    assert 1 <= len(found) <= 2
    assert all(identity in run.name for run in found)
    words = (b"losses/critic_loss", b"return/evaluation", b"environment_steps", b"typed")
    end = time.monotonic() + 60  # a process of its own writes, and on a busy machine it takes its time
    while missing := [word for word in words if word not in written(found)]:
        assert time.monotonic() < end, missing
        time.sleep(0.2)


def test_a_failure_of_it_does_not_end_the_run(tmp_path, monkeypatch):
    with Monitor(tmp_path / "run", total_steps=100, console=False, wandb="tests") as monitor:
        writer = monitor._writers[1]
        monkeypatch.setattr(writer._run, "log", lambda *_: 1 / 0)
        notes = []
        writer._note = notes.append
        monitor.record(10, "train", {"critic_loss": 0.5})
        monitor.record(20, "train", {"critic_loss": 0.4})
    assert len(notes) == 1
    assert "metrics.jsonl goes on" in notes[0]
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_foreign_id_is_refused(tmp_path):
    (tmp_path / "wandb.id").write_text("../../somebody")
    with pytest.raises(UserError, match="holds no id of a run; delete it"):
        Monitor(tmp_path, total_steps=100, console=False, wandb="tests")
