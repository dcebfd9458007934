"""DDPG, TD3 and ACE reach a stated return on a point that must be steered to the origin, in seconds."""

import pytest
import torch
from toy_environments import PointEnv

from agents.ace import ACE
from agents.actor_critic import ActorCritic
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.embedding import EmbeddingConfig
from rlsuite.nn.exploration import ExplorationConfig
from rlsuite.replay.config import ReplayConfig
from rlsuite.replay.sampler import Replay
from rlsuite.running.rollout import RolloutWorker
from rlsuite.scoring import evaluate
from rlsuite.vector_env import EnvironmentFacts

BASE = {
    "batch_size": 64,
    "discount": 0.9,
    "target_rate": 0.05,
    "actor_learning_rate": 2e-3,
    "critic_learning_rate": 2e-3,
    "actor": ActorConfig(hidden_sizes=(32, 32)),
    "critic": CriticConfig(hidden_sizes=(32, 32)),
    "exploration": ExplorationConfig(std=0.3),
}
AGENTS = {
    "ddpg": (ActorCritic, {}, {}),
    "td3": (ActorCritic, {"num_critics": 2, "policy_delay": 2, "target_noise": 0.2}, {}),
    "ace": (ACE, {"num_pairs": 3, "collect_with": "members"}, {}),
    "ace training as an ensemble": (ACE, {"num_pairs": 3, "train_with_ensemble": True}, {}),
    "ace with embeddings": (ACE, {"num_pairs": 2, "embedding": EmbeddingConfig(size=8, hidden_sizes=(32,))}, {}),
    "ddpg, prioritized 3-step": (ActorCritic, {}, {"prioritized": True, "n_step": 3}),
    "ddpg, layer norm": (ActorCritic, {"critic": CriticConfig(hidden_sizes=(32, 32), block="layer_norm")}, {}),
    "ddpg, batch norm": (ActorCritic, {"critic": CriticConfig(hidden_sizes=(32, 32), block="batch_norm")}, {}),
    "ddpg, hyperspherical": (ActorCritic, {"critic": CriticConfig(hidden_sizes=(32, 32), block="hyperspherical")}, {}),
    "ace, hyperspherical categorical twins": (
        ACE,
        {
            "num_pairs": 2,
            "num_critics": 2,
            "critic": CriticConfig(
                hidden_sizes=(32, 32),
                block="hyperspherical",
                loss="categorical",
                num_atoms=41,
                value_min=-12.0,
                value_max=2.0,
            ),
        },
        {},
    ),
    "ddpg, categorical": (
        ActorCritic,
        {
            "critic": CriticConfig(
                hidden_sizes=(32, 32), loss="categorical", num_atoms=41, value_min=-12.0, value_max=2.0
            )
        },
        {},
    ),
    "ddpg, categorical, rewards scaled by returns": (
        ActorCritic,
        {
            "critic": CriticConfig(hidden_sizes=(32, 32), loss="categorical", num_atoms=41),
            "reward_scaling": "returns",
        },
        {},
    ),
}


def train(cls, keys, replay_keys, *, updates, seed=0):
    """Train on PointEnv with one update for two environment steps; return the agent."""
    env = PointEnv(4)
    config = cls.Config(**(BASE | keys))
    agent = cls(EnvironmentFacts.of(env), config, seed=seed)
    worker = RolloutWorker(env, agent, seed=seed)
    replay_config = ReplayConfig(capacity=5000, **replay_keys)
    replay = Replay(replay_config, worker.observation, torch.zeros(4, 1), discount=config.discount, seed=seed)
    for _ in range(50):
        replay.add(worker.step(random=True))
    for step in range(updates):
        if step % 2 == 0:
            replay.add(worker.step())
        batch = replay.sample(agent.sample_size)
        replay.update_priorities(batch.index, agent.update(batch)["td_error"])
    return agent


def score(policy):
    return float(evaluate(policy, PointEnv(64), seed=1).returns.mean())


def test_the_toy_tells_policies_apart():
    assert -18.0 < score(lambda observation: torch.zeros(len(observation), 1)) < -12.0
    assert score(lambda observation: torch.full((len(observation), 1), 0.5)) < -20.0
    assert score(lambda observation: (-observation[:, :1] / 0.3).clamp(-1.0, 2.0)) > -2.2


@pytest.mark.parametrize("name", AGENTS)
def test_it_learns_to_reach_the_origin(name):
    # Batch normalization scores the actor by running statistics, which move by 0.01 an update: it needs longer.
    agent = train(*AGENTS[name], updates=1200 if "batch norm" in name else 600)
    assert score(lambda observation: agent.act(observation, False)) > -3.0
