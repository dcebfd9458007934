"""check_resume.py: what it takes for the same bytes, and (slow) five kills of five agents."""

import json
from pathlib import Path

import pytest
import torch

from rlsuite.cli import run_script
from rlsuite.records.checkpoint import Checkpoint
from scripts import check_resume, train_agent
from scripts.train_run import BEGUN


def checkpoint(step=5, **worker):
    agent = {"w": torch.tensor([1.0, float("nan")]), "flags": torch.tensor([True, False]), "count": torch.tensor(3)}
    parts = {"agent": agent, "worker": {"seconds": torch.rand(2), "counts": torch.ones(2), **worker}, "empty": {}}
    return Checkpoint(Path("nowhere"), step, {}, parts)


def test_differences_are_found_to_the_bit_and_the_clock_is_none():
    assert check_resume.differences(checkpoint(), checkpoint()) == []
    assert check_resume.differences(checkpoint(), checkpoint(step=6)) == ["step"]
    assert check_resume.differences(checkpoint(), checkpoint(more=torch.ones(1))) == ["worker.more"]
    assert check_resume.differences(checkpoint(more=torch.ones(1)), checkpoint()) == ["worker.more"]
    for counts in (torch.ones(2).double(), torch.ones(1, 2), torch.tensor([1.0, 1.0000001])):
        assert check_resume.differences(checkpoint(), checkpoint(counts=counts)) == ["worker.counts"]
    zeros = torch.zeros(2)
    assert check_resume.differences(checkpoint(counts=zeros), checkpoint(counts=-zeros)) == ["worker.counts"]


@pytest.mark.parametrize("argument", ["kills=0", "agents=[]", "agents=acer", "seed=-1", "kill=3", "agents=ace,nothing"])
def test_wrong_arguments_are_refused_in_one_line(argument, capsys):
    assert run_script(check_resume.main, [argument]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: ")


def test_a_run_says_when_it_begins_new_and_resumed(tmp_path, capfd):
    tiny = ["agent=ddpg", "env=InvertedPendulum", "preset=debug", "num_threads=1", "evaluate.every=0", "steps=24"]
    for arguments in ([*tiny, f"run_dir={tmp_path / 'run'}"], [f"resume={tmp_path / 'run'}", "steps=32"]):
        assert run_script(train_agent.main, arguments) == 0
        assert capfd.readouterr().out.count(BEGUN) == 1


@pytest.mark.slow
def test_five_kills_leave_no_trace(tmp_path, capfd):
    assert run_script(check_resume.main, ["kills=5", f"folder={tmp_path}"]) == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1]) == {"kills": 5, "identical": 5}
