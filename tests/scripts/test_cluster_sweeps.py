"""Sweeps through submitit, whose local executor does what Slurm's does: they end, fail and go on as they should."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from paths import ROOT

from rlsuite.cli import run_script
from rlsuite.records.checkpoint import latest_checkpoint
from scripts import train_agent

TINY = ["agent=ddpg", "env=InvertedPendulum", "preset=debug", "num_threads=1", "evaluate.every=0"]


def command_in(folder, *arguments):
    """Return the command of a sweep in `folder`/runs whose launcher writes into `folder`."""
    launcher = ["hydra/launcher=submitit_local", f"hydra.launcher.submitit_folder={folder}/jobs"]
    train = str(ROOT / "scripts" / "train_agent.py")
    return [sys.executable, train, "-m", *TINY, *arguments, f"run_dir={folder}/runs", *launcher]


def start(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = command_in(folder, *arguments)
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_sweep_continues_runs_only_where_all_may_have_begun(capsys, tmp_path, monkeypatch):
    assert run_script(train_agent.main, ["-m", *TINY, "seed=0,1", f"resume={tmp_path}"]) == 2
    assert "use resume=auto for all that have begun" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_script(train_agent.main, ["-m", *TINY, "seed=0,1"]) == 2
    assert "leave out torchrun" in capsys.readouterr().err


@pytest.mark.slow
def test_a_member_that_fails_makes_the_sweep_fail_and_costs_no_other(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    used = tmp_path / "runs" / "000-InvertedPendulum-ddpg-s0"
    used.mkdir(parents=True)
    (used / "config.yaml").write_text("")
    sweep = start(tmp_path, "steps=100", "seed=0,1")
    _, said = sweep.communicate()
    assert sweep.returncode == 2
    assert "holds a run without any checkpoint" in said.strip().splitlines()[-1]
    assert latest_checkpoint(tmp_path / "runs" / "001-InvertedPendulum-ddpg-s1").name == "100"


@pytest.mark.slow
def test_a_job_told_to_end_saves_and_goes_on_when_it_is_queued_again(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    arguments = ("steps=3000", "seed=0,1", "resume=auto", "checkpoint.every=100000", "log.every=100")
    sweep = start(tmp_path, *arguments)
    runs = [tmp_path / "runs" / f"00{seed}-InvertedPendulum-ddpg-s{seed}" for seed in (0, 1)]
    while not all(began(run) for run in runs):
        assert sweep.poll() is None, sweep.stderr.read()
        time.sleep(0.2)
    workers = [child for child in psutil.Process(sweep.pid).children(recursive=True) if not child.children()]
    for worker in workers:
        worker.send_signal(signal.SIGTERM)
    assert sweep.wait() == 0
    stopped = [int(latest_checkpoint(run).name) for run in runs]
    assert min(stopped) < 3000
    again = start(tmp_path, *arguments)
    assert again.wait() == 0
    assert [latest_checkpoint(run).name for run in runs] == ["3000", "3000"]
    steps = [json.loads(line)["step"] for line in (runs[0] / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)


def began(run: Path) -> bool:
    """Say whether a run has logged something."""
    log = run / "metrics.jsonl"
    return log.exists() and log.stat().st_size > 0
