"""train_peer.py as a user runs it: a peer's run directory beside one of ours."""

import json
import sys
import time

import pytest
import yaml

import rlsuite.running.training
from rlsuite.cli import run_script
from rlsuite.running.signals import GracefulStop
from rlsuite.scoring import evaluate
from rlsuite.statistics.curves import make_curves
from rlsuite.statistics.runs import read_run, read_runs
from scripts import train_agent, train_peer

pytest.importorskip("stable_baselines3")
TINY = ["env=InvertedPendulum", "steps=150", "num_threads=1", "evaluate.every=60", "evaluate.episodes=2", "seed=4"]


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("peer", ["ddpg", "sac", "td3"])
def test_a_peer_leaves_a_run_that_plots_beside_ours(peer, tmp_path):
    folder = tmp_path / peer
    assert run_script(train_peer.main, [f"peer={peer}", *TINY, f"run_dir={folder}"]) == 0
    rows = records(folder)
    assert [row["step"] for row in rows] == [60, 120, 150]
    assert 0 < rows[0]["train_s"] < rows[1]["train_s"] < rows[2]["train_s"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["agent"]["trained_on"] == "InvertedPendulum-v5"
    assert config["agent"]["action_noise_std"] == (None if peer == "sac" else 0.1)
    assert config["agent"]["learning_starts"] == 100
    run = read_run(folder)
    assert (run.task, run.label, run.seed, run.with_evaluation) == ("InvertedPendulum", f"sb3-{peer}", 4, False)
    # Nothing is overwritten.
    assert run_script(train_peer.main, [f"peer={peer}", *TINY, f"run_dir={folder}"]) == 2
    assert records(folder) == rows


@pytest.mark.parametrize("peer", ["ppo", "trpo"])
def test_peers_that_learn_from_rollouts(peer, tmp_path):
    if peer == "trpo":
        pytest.importorskip("sb3_contrib")
    folder = tmp_path / peer
    assert run_script(train_peer.main, [f"peer={peer}", *TINY, f"run_dir={folder}"]) == 0
    assert [row["step"] for row in records(folder)] == [2048]  # a whole rollout, and it is evaluated at its end
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["agent"]["action_noise_std"] is None
    assert config["agent"]["learning_starts"] == 0
    assert run_script(train_peer.main, [f"peer={peer}", *TINY, "learning_starts=3", f"run_dir={tmp_path / 'x'}"]) == 2


@pytest.mark.parametrize("peer", ["dqn", "ppo"])
def test_peers_of_choices(peer, tmp_path):
    choices = ["env=gymnasium", "env.id=CartPole-v1", *TINY[1:]]
    folder = tmp_path / peer
    assert run_script(train_peer.main, [f"peer={peer}", *choices, f"run_dir={folder}"]) == 0
    rows = records(folder)
    assert [row["step"] for row in rows] == ([60, 120, 152] if peer == "dqn" else [2048])
    assert all(5 < row["mean"] <= 500 for row in rows)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["agent"]["action_noise_std"] is None


@pytest.mark.parametrize(
    ("peer", "env_id", "instead"),
    [("sac", "CartPole-v1", "dqn"), ("td3", "CartPole-v1", "dqn"), ("dqn", "Pendulum-v1", "sac")],
)
def test_a_peer_that_cannot_act_there_is_refused(peer, env_id, instead, tmp_path, capsys):
    arguments = [f"peer={peer}", "env=gymnasium", f"env.id={env_id}", *TINY[1:], f"run_dir={tmp_path / peer}"]
    assert run_script(train_peer.main, arguments) == 2
    assert f"use peer={instead}" in capsys.readouterr().err
    assert not (tmp_path / peer / "config.yaml").exists()


def test_ours_and_the_peer_are_evaluated_alike_and_drawn_together(tmp_path, monkeypatch):
    asked = {}

    def spy(name):
        def evaluate_and_note(policy, env, *, seed, **keys):
            asked.setdefault(name, set()).add((seed, env.spec_id, env.num_envs, env.max_episode_steps))
            return evaluate(policy, env, seed=seed, **keys)

        return evaluate_and_note

    monkeypatch.setattr(train_peer, "evaluate", spy("peer"))
    monkeypatch.setattr(rlsuite.running.training, "evaluate", spy("ours"))
    assert run_script(train_peer.main, ["peer=td3", *TINY, f"run_dir={tmp_path / 'peer'}"]) == 0
    small = ["preset=debug", *TINY, "agent=td3", "num_envs=1", "learning_starts=100"]
    assert run_script(train_agent.main, [*small, f"run_dir={tmp_path / 'ours'}"]) == 0
    assert asked["peer"] == asked["ours"]
    curves = make_curves(read_runs([str(tmp_path)]))
    assert {curve.label: curve.steps.tolist() for curve in curves} == {"sb3-td3": [60, 120, 150], "td3": [60, 120, 150]}


def test_seconds_of_training_leave_evaluations_out(tmp_path, monkeypatch):
    def slow(*arguments, **names):
        time.sleep(0.5)
        return evaluate(*arguments, **names)

    monkeypatch.setattr(train_peer, "evaluate", slow)
    assert run_script(train_peer.main, ["peer=td3", *TINY, f"run_dir={tmp_path / 'run'}"]) == 0
    for place, row in enumerate(records(tmp_path / "run"), start=1):
        assert row["time_s"] - row["train_s"] >= 0.5 * place - 0.01


def test_options_reach_the_training_environment_and_contact_forces_are_exact():
    config = train_peer.read_arguments(["peer=td3", "env=Ant", "env.reset_noise_scale=0.2"])
    assert config.run.env.options == {"contact_forces": "exact", "reset_noise_scale": 0.2}
    assert config.training_id == "Ant-v5"
    model = train_peer.make_peer(config)
    assert model.get_env().get_attr("unwrapped")[0]._reset_noise_scale == 0.2
    assert train_peer.read_arguments(["peer=td3", "train_on=rlsuite"]).training_id == "rlsuite/Humanoid"
    foreign = train_peer.read_arguments(["peer=td3", "env=gymnasium", "env.id=Pendulum-v1"])
    assert foreign.training_id == "Pendulum-v1"


def test_a_signal_ends_the_run_softly(tmp_path, capsys):
    stop = GracefulStop()
    stop.requested = True
    config = train_peer.read_arguments(["peer=td3", *TINY, f"run_dir={tmp_path / 'run'}"])
    assert train_peer.train(config, stop) == 0
    assert "stopped (a peer cannot be resumed) at step 1" in capsys.readouterr().out


def test_bad_input_is_one_line(tmp_path, capsys, monkeypatch):
    for arguments, word in (
        ([], "peer="),
        (["peer=td4"], "td3"),
        (["peer=td3", "env=Hoper"], "Hopper"),
        (["peer=td3", "stepps=3"], "steps"),
        (["peer=td3", "train_ratio=2"], "train_ratio"),
        (["peer=td3", "steps=0"], "steps"),
        (["peer=td3", "evaluate.every=0"], "evaluate.every"),
        (["peer=td3", "train_on=mujoco"], "gymnasium"),
        (["peer=td3", "learning_starts=soon"], "learning_starts"),
        (["peer=td3", "env=Hopper", "env.nothing=1"], "nothing"),
        (["peer=td3", "env=gymnasium", "env.id=Nowhere-v1"], "Nowhere"),
        (["peer=td3,sac"], "one value"),
    ):
        assert run_script(train_peer.main, [*arguments, f"run_dir={tmp_path / 'run'}"]) == 2, arguments
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert word in error
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    assert run_script(train_peer.main, ["peer=td3", *TINY, f"run_dir={tmp_path / 'run'}"]) == 2
    assert "pip install stable-baselines3" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
