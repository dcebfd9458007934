"""torchrun and resume=auto from the command line: what is begun goes on, with the same ranks and with others."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from paths import ROOT

from rlsuite.cli import run_script
from rlsuite.records.checkpoint import latest_checkpoint, read_checkpoint
from scripts import check_resume, train_agent

TINY = ["agent=ddpg", "env=InvertedPendulum", "preset=debug", "num_threads=1", "learning_starts=16"]
TINY += ["checkpoint.every=16", "evaluate.every=0", "log.every=16"]


def cli(*arguments):
    return run_script(train_agent.main, [str(argument) for argument in arguments])


def torchrun(*arguments):
    """Begin a training on two ranks."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*launcher, str(ROOT / "scripts" / "train_agent.py"), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process):
    out, error = process.communicate()
    assert process.returncode == 0, error[-2000:]
    return out


def weights(folder):
    agent = read_checkpoint(latest_checkpoint(folder), parts=["agent"]).parts["agent"]
    return {name: value for name, value in agent.items() if name.startswith(("actors", "critics", "normalizer"))}


# -- resume=auto --------------------------------------------------------------------------------------------


def test_auto_begins_a_run_and_then_continues_it_to_the_same_bytes(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert cli(*TINY, "steps=48", f"run_dir={whole}") == 0
    for steps in (32, 48, 48):
        assert cli(*TINY, f"steps={steps}", "resume=auto", f"run_dir={parts}") == 0
    found, wanted = (read_checkpoint(latest_checkpoint(folder)) for folder in (parts, whole))
    assert check_resume.differences(wanted, found) == []


def test_auto_begins_again_where_a_run_came_to_no_checkpoint(tmp_path):
    folder = tmp_path / "run"
    assert cli(*TINY, "steps=32", f"run_dir={folder}") == 0
    subprocess.run(["rm", "-r", folder / "checkpoints"], check=True)
    assert cli(*TINY, "steps=32", "resume=auto", f"run_dir={folder}") == 0
    assert latest_checkpoint(folder).name == "32"
    assert (folder / "metrics.jsonl.abandoned").exists()  # what the first attempt had logged


def test_auto_needs_a_place_and_refuses_what_would_change_nothing(tmp_path, capsys):
    assert cli(*TINY, "steps=32", "resume=auto") == 2
    assert "add run_dir=" in capsys.readouterr().err
    folder = tmp_path / "run"
    assert cli(*TINY, "steps=32", f"run_dir={folder}") == 0
    assert cli(*TINY, "steps=32", "agent.target_rate=0.5", "resume=auto", f"run_dir={folder}") == 2
    assert "agent.target_rate=0.5" in capsys.readouterr().err
    for other in ("env=Hopper", "agent=td3"):
        assert cli(*TINY, "steps=64", other, "resume=auto", f"run_dir={folder}") == 2
        said = f"holds a run of agent=ddpg env=InvertedPendulum, not of {other}; say those, or choose another run_dir="
        assert said in capsys.readouterr().err


# -- torchrun -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_ranks_then_one_then_two_carry_the_weights_exactly(tmp_path):
    folder = tmp_path / "run"
    ended(torchrun(*TINY, "steps=48", f"run_dir={folder}"))
    assert read_checkpoint(latest_checkpoint(folder), parts=[]).metadata["ranks"] == 2
    before = weights(folder)
    # With no update due, what is saved again is what was loaded.
    assert cli(f"resume={folder}", "steps=52", "train_ratio=0", "agent.normalize_observations=true") == 0
    between = weights(folder)
    networks = [name for name in before if not name.startswith("normalizer")]
    assert networks
    assert all(torch.equal(before[name], between[name]) for name in networks)
    assert read_checkpoint(latest_checkpoint(folder), parts=[]).metadata["ranks"] == 1
    ended(torchrun(f"resume={folder}", "steps=56"))
    after = weights(folder)
    assert all(torch.equal(before[name], after[name]) for name in networks)
    ended(torchrun(f"resume={folder}", "steps=96", "train_ratio=1"))
    assert not all(torch.equal(before[name], weights(folder)[name]) for name in networks)


@pytest.mark.slow
def test_a_signal_to_either_rank_lets_both_save_and_the_run_goes_on_to_the_same_bytes(tmp_path):
    arguments = [*TINY, "steps=1600", "checkpoint.every=100000"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    ended(torchrun(*arguments, f"run_dir={whole}"))
    process = torchrun(*arguments, "resume=auto", f"run_dir={stopped}")
    log = stopped / "metrics.jsonl"
    while not (log.exists() and log.stat().st_size):
        assert process.poll() is None
        time.sleep(0.05)
    ranks = sorted(psutil.Process(process.pid).children(), key=lambda child: child.environ()["RANK"])
    ranks[1].send_signal(signal.SIGTERM)  # the one that writes no log
    out = ended(process)
    assert "saved at step" in out
    assert int(latest_checkpoint(stopped).name) < 1600
    ended(torchrun(*arguments, "resume=auto", f"run_dir={stopped}"))
    found, wanted = (read_checkpoint(latest_checkpoint(folder)) for folder in (stopped, whole))
    assert "replay.1" in wanted.parts
    assert check_resume.differences(wanted, found) == []


@pytest.mark.slow
def test_what_cannot_be_split_is_one_line_of_the_first_rank(tmp_path):
    process = torchrun("agent=painter", "env=Painting", "preset=debug", f"run_dir={tmp_path / 'run'}")
    _, error = process.communicate()
    assert process.returncode != 0
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "agent=painter learns in one process" in lines[0]
