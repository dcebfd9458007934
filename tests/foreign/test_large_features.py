"""A feature that is huge beside its changes, such as a clock's, keeps them on its way to the networks."""

import numpy as np
import pytest
import torch
from odd_environments import ID

import envs
from agents.actor_critic import ActorCritic
from agents.actor_critic_config import ActorCriticConfig
from agents.export import difference_in_onnxruntime, export_onnx
from agents.ppo import PPO, PPOConfig
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.normalizer import RunningNormalizer
from rlsuite.replay.config import ReplayConfig
from rlsuite.replay.sampler import Replay
from rlsuite.running.rollout import RolloutWorker
from rlsuite.running.rollout_buffer import RolloutBuffer
from rlsuite.vector_env import EnvironmentFacts

CLOCK = 1.7e9
LENGTH = 40


def clock(env, action, step):
    return (np.array([CLOCK + env.steps, step[0][1]]), *step[1:])


def vector(**options):
    return envs.make_vector(
        f"gymnasium:{ID}",
        2,
        length=LENGTH,
        **{"returns": clock, "starts": lambda env, first: (np.array([CLOCK, 0.0]), {})} | options,
    )


def ddpg():
    small = {"actor": ActorConfig(hidden_sizes=(8,)), "critic": CriticConfig(hidden_sizes=(8,))}
    return ActorCritic(EnvironmentFacts.of_vectors(2, [-1], [1], num_envs=2), ActorCriticConfig(batch_size=16, **small))


def test_a_clock_keeps_its_variance_in_replay_and_networks():
    env, agent = vector(), ddpg()
    worker = RolloutWorker(env, agent, seed=0)
    assert worker.observation.dtype == torch.float64 == torch.as_tensor(env.single_observation_space.low).dtype
    replay = Replay(ReplayConfig(capacity=200), worker.observation, torch.zeros(2, 1), discount=0.99, seed=0)
    for _ in range(2 * LENGTH):
        transition = worker.step()
        assert transition.reward.dtype == torch.float32
        replay.add(transition)
    mean, variance = agent.normalizer.mean[0, 0], agent.normalizer.variance[0, 0]
    assert float(mean[0]) - CLOCK == pytest.approx((LENGTH - 1) / 2, abs=1e-5)
    assert float(variance[0]) == pytest.approx((LENGTH**2 - 1) / 12, rel=1e-6)
    seen = agent.normalize(replay.sample(64).observation)
    assert seen.dtype == torch.float32
    assert float(seen[:, 0].std()) == pytest.approx(1.0, abs=0.3)
    assert (
        float((seen[:, 0] - seen[:, 1]).abs().max()) < 1e-4
    )  # the other column is twice the steps: the same, but small
    metrics = agent.update(replay.sample(agent.sample_size))
    assert all(value.isfinite().all() for value in metrics.values())


def test_an_on_policy_agent_learns_from_it():
    env = vector()
    config = PPOConfig(hidden_sizes=(8,), rollout_length=LENGTH, minibatch_size=20)
    agent = PPO(EnvironmentFacts.of_vectors(2, [-1], [1], num_envs=2), config)
    worker = RolloutWorker(env, agent, seed=0)
    for _ in range(2):
        buffer = RolloutBuffer(LENGTH, worker.observation, torch.zeros(2, 1))
        while not buffer.full:
            buffer.add(worker.step())
        assert all(value.isfinite() for value in agent.update(buffer.take()).values())
    assert float(agent.normalizer.variance[0, 0, 0]) == pytest.approx((LENGTH**2 - 1) / 12, rel=1e-6)


@pytest.mark.parametrize("form", ["not normalized", "normalized"])
@pytest.mark.parametrize("kind", ["ddpg", "ppo"])
def test_agents_act_on_either_dtype(kind, form):
    normalize, facts = form == "normalized", EnvironmentFacts.of_vectors(2, [-1], [1])
    if kind == "ppo":
        agent = PPO(facts, PPOConfig(hidden_sizes=(8,), normalize_observations=normalize))
    else:
        small = {"actor": ActorConfig(hidden_sizes=(8,)), "critic": CriticConfig(hidden_sizes=(8,))}
        agent = ActorCritic(facts, ActorCriticConfig(normalize_observations=normalize, **small))
    observation = torch.randn(1, 2)
    single, double = agent.act(observation, False), agent.act(observation.double(), False)
    assert single.dtype == double.dtype == torch.float32
    torch.testing.assert_close(single, double)


# First observations, their dtype, and the dtype that they are kept in.
KEPT = {
    "small": (np.array([3.0, -900.0]), torch.float32),
    "declared float32": (np.array([CLOCK, 0.0], np.float32), torch.float32),
    "large": (np.array([0.0, -20_000.0]), torch.float64),
    "whole numbers": (np.array([1_700_000_000, 0]), torch.float64),
}


@pytest.mark.parametrize("name", KEPT)
def test_only_large_features_are_kept_in_float64(name):
    first, dtype = KEPT[name]
    env = vector(starts=lambda env, _: (first, {}))
    assert env.reset(seed=0)[0].dtype == dtype
    observation, reward, _, _, info = env.step(torch.zeros(2, 1))
    assert observation.dtype == info["final_obs"].dtype == dtype
    assert reward.dtype == torch.float32
    env.load_state(env.state())
    assert env.observation().dtype == dtype


def test_the_normalizer_takes_the_mean_off_before_the_cast():
    normalizer = RunningNormalizer(1)
    rows = CLOCK + torch.arange(5, dtype=torch.float64).unsqueeze(1)
    normalizer.update(rows)
    expected = (torch.arange(5.0) - 2.0) / 2.0001**0.5
    torch.testing.assert_close(normalizer(rows)[:, 0], expected)
    normalizer.update(rows)  # nor does a later batch lose it
    torch.testing.assert_close(normalizer(rows)[:, 0], expected)


def test_an_exported_policy_takes_it_in_float64(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    agent = ddpg()
    rows = torch.stack([CLOCK + torch.arange(9.0, dtype=torch.float64), torch.arange(9.0, dtype=torch.float64)], dim=1)
    agent.normalizer.update(rows)
    path = export_onnx(agent, 2, tmp_path / "policy.onnx", dtype=torch.float64)
    assert difference_in_onnxruntime(agent, path, rows) < 1e-5
    assert float(agent.greedy(rows).detach().std()) > 1e-3  # rows are told apart
