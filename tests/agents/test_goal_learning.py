"""SHER and DDPG reach sparse goals in a plane with hindsight, and not without, in seconds."""

import pytest
import torch
from toy_environments import PointGoalEnv

from agents.actor_critic import ActorCritic
from agents.sher import SHER
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.exploration import ExplorationConfig
from rlsuite.nn.normalizer import NormalizerConfig
from rlsuite.replay.config import CurriculumConfig, HindsightConfig, ReplayConfig
from rlsuite.replay.sampler import Replay
from rlsuite.running.rollout import RolloutWorker
from rlsuite.scoring import evaluate
from rlsuite.vector_env import EnvironmentFacts

BASE = {
    "batch_size": 128,
    "discount": 0.95,
    "target_rate": 0.05,
    "actor_learning_rate": 2e-3,
    "critic_learning_rate": 2e-3,
    "clip_targets": True,
    "critic": CriticConfig(hidden_sizes=(64, 64)),
    "normalizer": NormalizerConfig(source="relabelled", prior_rows=1, clip=5.0, epsilon=0.0, minimum_std=0.01),
}
SOFT = {
    "actor": ActorConfig(hidden_sizes=(64, 64), distribution="squashed_gaussian", log_std="tanh"),
    "initial_temperature": 0.03,
    "temperature_learning_rate": 0.0,
    "exploration": ExplorationConfig(std=0.0, random_probability=0.05),
}
HARD = {
    "actor": ActorConfig(hidden_sizes=(64, 64)),
    "action_penalty": 0.1,
    "exploration": ExplorationConfig(std=0.2, random_probability=0.3),
}
FUTURE = HindsightConfig(strategy="future")
ARMS = {
    "sher": (SHER, SOFT, FUTURE, (0.9, 1.0)),
    "sher, value of actions": (SHER, SOFT | {"value": "action"}, FUTURE, (0.9, 1.0)),
    "sher, learned temperature": (SHER, SOFT | {"temperature_learning_rate": 1e-3}, FUTURE, (0.9, 1.0)),
    "sher with curriculum": (
        SHER,
        SOFT,
        HindsightConfig(strategy="future", curriculum=CurriculumConfig(enabled=True)),
        (0.9, 1.0),
    ),
    "ddpg": (ActorCritic, HARD, FUTURE, (0.9, 1.0)),
    "ddpg, final": (ActorCritic, HARD, HindsightConfig(strategy="final"), (0.8, 1.0)),
    "sher without relabelling": (
        SHER,
        SOFT,
        HindsightConfig(strategy="future", relabelled_per_original=0.0),
        (0.0, 0.3),
    ),
}


SLOW = ("ddpg, final", "sher, learned temperature")


@pytest.mark.parametrize("arm", [pytest.param(arm, marks=pytest.mark.slow) if arm in SLOW else arm for arm in ARMS])
def test_reaches_sparse_goals(arm):
    kind, keys, hindsight, (low, high) = ARMS[arm]
    env = PointGoalEnv(16)
    config = kind.Config(**(BASE | keys))
    agent = kind.build(EnvironmentFacts.of(env), config, seed=0)
    worker = RolloutWorker(env, agent, seed=0)
    replay = Replay(
        ReplayConfig(capacity=20_000, hindsight=hindsight),
        worker.observation,
        torch.zeros(16, 2),
        discount=config.discount,
        seed=0,
        goals=env.goals,
    )
    for round_ in range(16):
        for _ in range(env.length):
            replay.add(worker.step(random=round_ == 0))
        agent.observe_relabelled(replay.fresh_observations())
        for _ in range(50):
            agent.update(replay.sample(agent.sample_size))
    result = evaluate(lambda observation: agent.act(observation, False), PointGoalEnv(100), seed=5)
    assert low <= result.successes.mean() <= high
