"""blend_policies.py: a student's run that trains on, the same each time, and one-line refusals."""

import json

import pytest
import torch

from rlsuite.cli import run_script
from rlsuite.config.compose import read_config
from rlsuite.records.checkpoint import read_checkpoint, resolve_checkpoint
from scripts import blend_policies, train_agent

TINY = ["preset=debug", "num_threads=1", "evaluate.every=0", "agent.rollout_length=8", "num_envs=2", "steps=32"]
BLEND = ["rounds=2", "round_length=5", "num_envs=2", "passes=1", "num_threads=1", "steps=64", "device=cpu"]


def run(script, *arguments):
    return run_script(script.main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    assert run(train_agent, "agent=ppo", "env=InvertedPendulum", *TINY, f"run_dir={folder}") == 0
    return folder


def weights(folder):
    return read_checkpoint(resolve_checkpoint(folder), parts=["agent"]).parts["agent"]


def test_the_student_is_a_run_that_trains_on(teacher, tmp_path, capsys):
    for name in ("a", "b"):
        arguments = [f"run={teacher},{teacher}", f"run_dir={tmp_path / name}", "agent.hidden_sizes=[48,48]"]
        arguments += ["env.reset_noise_scale=0.02"]
        assert run(blend_policies, *arguments, *BLEND) == 0
    told = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert len(told["differences"]) == 2
    assert told["run_dir"] == str(tmp_path / "b")
    assert read_config(tmp_path / "a")["agent"]["hidden_sizes"] == [48, 48]
    assert read_config(tmp_path / "a")["env"]["options"]["reset_noise_scale"] == 0.02
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], tensor) for name, tensor in other.items())
    assert run(train_agent, f"resume={tmp_path / 'a'}") == 0
    trained = weights(tmp_path / "a")
    assert resolve_checkpoint(tmp_path / "a").name.endswith("64")
    assert any(not torch.equal(trained[name], tensor) for name, tensor in one.items())


def refused(capsys, *arguments):
    capsys.readouterr()
    assert run(blend_policies, *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_refusals(teacher, tmp_path, capsys):
    assert "run= is missing" in refused(capsys, f"run_dir={tmp_path / 'x'}")
    assert "run_dir= is missing" in refused(capsys, f"run={teacher}")
    assert "already holds a run" in refused(capsys, f"run={teacher}", f"run_dir={teacher}")
    assert "rounds=1" in refused(capsys, f"run={teacher}", f"run_dir={tmp_path / 'x'}", "rounds=1")
    unknown = refused(capsys, f"run={teacher}", f"run_dir={tmp_path / 'x'}", "agent.hiden_sizes=[4]")
    assert "hiden_sizes" in unknown
    elsewhere = refused(capsys, f"run={teacher}", f"run_dir={tmp_path / 'x'}", "env.id=rlsuite/Hopper")
    assert "the student's task is the teachers'" in elsewhere
    assert not (tmp_path / "x" / "config.yaml").exists()
