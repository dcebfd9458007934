"""The training loop with hindsight and without a replay: resume at any point, bad losses."""

import gymnasium
import pytest
import torch
from test_training import NETWORKS, configure, final_bytes, make, make_agent, records_of, run
from toy_environments import PointEnv, PointGoalEnv

from agents.pombu.agent import EXPLORATION, MODELS, POLICY, POMBU
from rlsuite.agent_registry import agent_class
from rlsuite.errors import UserError
from rlsuite.records.checkpoint import latest_checkpoint, read_checkpoint
from rlsuite.records.postmortem import replay_postmortem
from rlsuite.running.on_policy import OnPolicyTrainer
from rlsuite.vector_env import EnvironmentFacts
from scripts.experiments.training_runs import finished

SHER = {
    "name": "sher",
    "normalizer": {"source": "relabelled"},
    "target_every": 3,
} | NETWORKS
SHER = SHER | {"actor": {"hidden_sizes": [8], "distribution": "squashed_gaussian"}}
CURRICULUM = {"enabled": True, "candidates": 8, "kept": 4}
PPO = {"name": "ppo", "rollout_length": 10, "minibatch_size": 16, "hidden_sizes": [8]}
ITERATING = {
    "name": "pombu",
    "horizon": 10,
    "policy_updates": 3,
    "trajectories": 4,
    "hidden_sizes": [8],
    "dynamics": {"num_members": 2, "hidden_sizes": [8], "max_passes": 10, "capacity": 80},
}


@pytest.mark.parametrize("stop", [104, 200, 260, 396])
def test_a_resumed_run_with_hindsight_ends_with_the_same_bytes(tmp_path, stop):
    """Stopped in mid-episode, at an episode's end, and after the ring of 20 slots has gone round."""
    config = configure(
        SHER,
        steps=600,
        replay={"capacity": 160, "hindsight": {"strategy": "future", "curriculum": CURRICULUM}},
        num_envs=4,
        train_ratio=0.2,
        checkpoint={"every": 1000},
    )

    def trainer(run_dir, checkpoint=None):
        env = PointGoalEnv(4, length=9)
        agent = agent_class(config.agent_name).build(EnvironmentFacts.of(env), config.agent, seed=0)
        found = make(config, run_dir, agent=agent, env=env, checkpoint=checkpoint)
        found.make_evaluation_env = lambda: PointGoalEnv(2, length=9)
        return found

    whole = trainer(tmp_path / "whole")
    run(whole)
    parts = trainer(tmp_path / "parts")
    run(parts, should_stop=lambda: parts.worker.steps >= stop)
    assert parts.worker.steps == stop
    assert 0 < parts.updates < whole.updates
    run(trainer(tmp_path / "parts", read_checkpoint(latest_checkpoint(tmp_path / "parts"))))
    assert final_bytes(tmp_path / "whole", 600) == final_bytes(tmp_path / "parts", 600)
    assert any("success_rate" in record for record in records_of(tmp_path / "parts", "train"))
    assert "success_rate" in records_of(tmp_path / "parts", "evaluate")[-1]


@pytest.mark.parametrize("schedule", ["constant", "linear", "adaptive"])
@pytest.mark.parametrize("stop", [28, 40, 92], ids=["within the first rollout", "after one", "within a later one"])
def test_a_resumed_on_policy_run_ends_with_the_same_bytes(tmp_path, stop, schedule):
    config = configure(PPO | {"schedule": schedule, "decay_rollouts": 4 * (schedule == "linear")}, warmup_random=False)
    build = lambda *place, **more: make(config, *place, kind=OnPolicyTrainer, env=PointEnv(4, length=7), **more)  # noqa: E731
    whole = build(tmp_path / "whole")
    assert run(whole)
    assert whole.updates == 3  # 120 steps, 40 a rollout
    first = build(tmp_path / "parts")
    assert not run(first, lambda: first.worker.steps >= stop)
    checkpoint = read_checkpoint(tmp_path / "parts" / "checkpoints" / str(stop))
    assert run(build(tmp_path / "parts", agent=make_agent(config, seed=99), checkpoint=checkpoint))
    assert final_bytes(tmp_path / "whole", 120) == final_bytes(tmp_path / "parts", 120)


@pytest.mark.parametrize("stop", [40, 120], ids=["no evaluation is due", "at the end"])
@pytest.mark.parametrize("stage", [MODELS, POLICY, EXPLORATION], ids=["models", "policy", "exploration"])
def test_a_run_stopped_within_an_iteration_ends_with_the_same_bytes_and_evaluations(tmp_path, stop, stage):
    config = configure(
        ITERATING, warmup_random=False, evaluate={"every": 80, "episodes": 3}, checkpoint={"every": 1000}
    )

    def trainer(name, checkpoint=None):
        env = PointEnv(4, length=10)
        env.known_reward = lambda observation, action, following: -following[..., 0].abs()
        agent = POMBU(EnvironmentFacts.of(env), config.agent)
        return make(config, tmp_path / name, kind=OnPolicyTrainer, agent=agent, env=env, checkpoint=checkpoint)

    assert run(trainer("whole"))
    first = trainer("parts")
    assert not run(first, lambda: first.worker.steps >= stop and first.agent.stage == stage)
    assert first.agent.stage == stage
    assert not finished(tmp_path / "parts", config)
    assert run(trainer("parts", read_checkpoint(latest_checkpoint(tmp_path / "parts"))))
    assert finished(tmp_path / "parts", config)
    assert final_bytes(tmp_path / "whole", 120) == final_bytes(tmp_path / "parts", 120)
    evaluations = [
        [(record["step"], record["mean"]) for record in records_of(tmp_path / name, "evaluate")]
        for name in ("whole", "parts")
    ]
    assert evaluations[0] == evaluations[1]
    assert [step for step, _ in evaluations[0]] == [80, 120]


class ChoiceEnv(PointEnv):
    """The point pushed by one of three choices."""

    def __init__(self, num_envs, length=7):
        super().__init__(num_envs, length=length)
        self.single_action_space = gymnasium.spaces.Discrete(3)

    def step(self, actions):
        return super().step(torch.tensor([-1.0, 0.0, 2.0])[actions])


DQN = {"name": "dqn", "batch_size": 16, "hidden_sizes": [8], "target_every": 3, "normalize_observations": True}
PRIORITIZED = {"capacity": 60, "n_step": 3, "prioritized": True}


@pytest.mark.parametrize("stop", [28, 40, 92])
@pytest.mark.parametrize("name", ["dqn", "ppo"])
def test_a_resumed_run_of_choices_ends_with_the_same_bytes(tmp_path, name, stop):
    """Of DQN also after the ring of 16 slots has gone round."""
    on_policy = name == "ppo"
    keys = {"warmup_random": False} if on_policy else {"replay": PRIORITIZED, "learning_starts": 20}
    config = configure(PPO if on_policy else DQN, **keys)
    kind = {"kind": OnPolicyTrainer} if on_policy else {}

    def build(folder, **more):
        env = ChoiceEnv(4)
        agent = agent_class(name).build(EnvironmentFacts.of(env), config.agent, seed=0)
        found = make(config, folder, agent=agent, env=env, **kind, **more)
        found.make_evaluation_env = lambda: ChoiceEnv(2)
        return found

    whole = build(tmp_path / "whole")
    assert run(whole)
    assert whole.updates > 0
    first = build(tmp_path / "parts")
    assert not run(first, lambda: first.worker.steps >= stop)
    checkpoint = read_checkpoint(tmp_path / "parts" / "checkpoints" / str(stop))
    assert run(build(tmp_path / "parts", checkpoint=checkpoint))
    assert final_bytes(tmp_path / "whole", 120) == final_bytes(tmp_path / "parts", 120)


def test_a_diverged_on_policy_update_leaves_a_post_mortem(tmp_path):
    config = configure(PPO | {"learning_rate": 1e30}, warmup_random=False)
    with pytest.raises(UserError, match="became non-finite"):
        run(make(config, tmp_path, kind=OnPolicyTrainer))
    (record,) = (tmp_path / "failures").glob("update-*.json")
    assert replay_postmortem(record.with_suffix(""), lambda config: EnvironmentFacts.of(PointEnv(4)))["agent"]
