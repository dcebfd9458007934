"""Post-mortems of updates: written when numbers go bad, loaded and replayed later."""

import json

import pytest
import torch
from safetensors.torch import load_file

from agents.assembly import make_agent, make_env
from rlsuite.agent_registry import agent_class
from rlsuite.config.schema import to_plain, train_config
from rlsuite.errors import UserError
from rlsuite.records.postmortem import nonfinite, replay_postmortem, save_postmortem
from rlsuite.replay.buffer import Batch
from rlsuite.running.rollout import RolloutWorker
from rlsuite.running.rollout_buffer import RolloutBuffer
from rlsuite.vector_env import EnvironmentFacts
from scripts import replay_failure

FACTS = EnvironmentFacts.of_vectors(3, [-1.0, 0.0], [1.0, 4.0], num_envs=6)


def make(name="ddpg", **keys):
    plain = {
        "agent": {"name": name, "batch_size": 4, "actor": {"hidden_sizes": [5]},
                  "critic": {"hidden_sizes": [5]}} | keys,
        "env": {"id": "rlsuite/Hopper"},
    }  # fmt: skip
    config = train_config(plain)
    return config, agent_class(name).build(FACTS, config.agent, seed=0)


def batch(size, bad=None):
    rows = Batch(
        torch.randn(size, 3), torch.randn(size, 2), torch.randn(size), torch.full((size,), 0.9),
        torch.randn(size, 3), torch.ones(size), torch.arange(size),
    )  # fmt: skip
    return rows if bad is None else rows._replace(**{bad: torch.full_like(getattr(rows, bad), float("nan"))})


def save(folder, config, agent, rows):
    names = ["critic_loss"]
    return save_postmortem(folder, step=7, seed=3, names=names, agent=agent, batch=rows, config=to_plain(config))


@pytest.mark.parametrize("name", ["ddpg", "ace"])
def test_a_bad_batch_is_named_when_replayed(tmp_path, name):
    config, agent = make(name)
    path = save(tmp_path / "failures", config, agent, batch(agent.sample_size, bad="reward"))
    assert path == tmp_path / "failures" / "update-7"
    found = replay_postmortem(path, lambda config: FACTS)
    assert found["batch"] == ["reward"]
    assert found["agent"] == []
    assert "critic_loss" in found["metrics"]
    assert "td_error" in found["metrics"]


def test_bad_weights_are_named_when_replayed(tmp_path):
    config, agent = make()
    agent.critics.network.layers[0].bias.data[0, 0, 1] = float("inf")
    found = replay_postmortem(save(tmp_path, config, agent, batch(4)), lambda config: FACTS)
    assert found["batch"] == []
    assert found["agent"] == ["critics.network.layers.0.bias"]
    assert "critic_loss" in found["metrics"]


def test_a_sound_update_replays_soundly(tmp_path):
    config, agent = make(num_critics=2, policy_delay=2)
    agent.update(batch(4))
    assert replay_postmortem(save(tmp_path, config, agent, batch(4)), lambda config: FACTS) == {
        "batch": [],
        "agent": [],
        "metrics": [],
    }


def imagining(folder, bad=None):
    """Leave a record of an agent that imagines, one rollout of its models' data in it."""
    plain = {
        "agent": {"name": "pombu", "horizon": 30, "trajectories": 3, "passes": 1,
                  "policy_updates": 1, "hidden_sizes": [4], "dynamics": {"max_passes": 5, "hidden_sizes": [4]}},
        "env": {"id": "rlsuite/Point3D"}, "num_envs": 2, "steps": 600, "learning_starts": 0, "warmup_random": False,
    }  # fmt: skip
    config = train_config(plain)
    env = make_env(config, 2)
    agent = make_agent(config, env)
    worker, buffer = RolloutWorker(env, agent, seed=0), RolloutBuffer(30, env.observation(), torch.zeros(2, 3))
    while not buffer.full:
        buffer.add(worker.step())
    if bad is not None:
        bad(agent)
    names = ["objective"]
    return save_postmortem(
        folder, step=60, seed=0, names=names, agent=agent, batch=buffer.take(), config=to_plain(config)
    )


def test_an_agent_that_imagines_is_replayed_with_the_tasks_known_reward(tmp_path, capsys):
    path = imagining(tmp_path)
    assert replay_failure.main([f"{path}.json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"batch": [], "agent": [], "metrics": []}


def test_its_pieces_are_done_until_one_is_not_finite(tmp_path, capsys):
    def spoil(agent):
        agent.policy.log_std.data.fill_(float("nan"))

    path = imagining(tmp_path, spoil)
    assert replay_failure.main([str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["agent"] == ["policy.log_std"]
    assert "objective" in found["metrics"]


def test_the_record_holds_all_that_was_there(tmp_path):
    config, agent = make()
    rows = batch(4)
    path = save(tmp_path, config, agent, rows)
    record = json.loads(path.with_suffix(".json").read_text())
    assert (record["kind"], record["step"], record["seed"], record["nonfinite"]) == ("update", 7, 3, ["critic_loss"])
    assert train_config(record["config"]) == config
    tensors = load_file(path.with_suffix(".safetensors"))
    assert torch.equal(tensors["batch.observation"], rows.observation)
    for name, value in agent.state_dict().items():
        assert torch.equal(tensors[f"agent.{name}"], value)


def damage_json(path):
    path.with_suffix(".json").write_text("{")


def other_record(path):
    path.with_suffix(".json").write_text('{"kind": "environment"}')


def missing_tensors(path):
    path.with_suffix(".safetensors").unlink()


def damage_tensors(path):
    path.with_suffix(".safetensors").write_bytes(b"garbage")


def other_sizes(path):
    record = json.loads(path.with_suffix(".json").read_text())
    record["config"]["agent"]["actor"]["hidden_sizes"] = [9]
    path.with_suffix(".json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    "damage",
    [damage_json, other_record, missing_tensors, damage_tensors, other_sizes],
)
def test_a_damaged_record_is_one_line(tmp_path, damage):
    path = save(tmp_path, *make(), batch(4))
    damage(path)
    with pytest.raises(UserError) as caught:
        replay_postmortem(path, lambda config: FACTS)
    assert "\n" not in str(caught.value)


def test_nonfinite_names_what_holds_a_nan_or_an_infinity():
    tensors = {
        "fine": torch.ones(3),
        "nan": torch.tensor([0.0, float("nan")]),
        "infinite": torch.tensor(float("-inf")),
        "whole": torch.arange(3),
        "bytes": torch.zeros(2, dtype=torch.uint8),
    }
    assert nonfinite(tensors) == ["nan", "infinite"]
