"""PPO and TRPO learn from a rollout's mirror image as from environments of its own, and refuse where there is none."""

import gymnasium
import pytest
import torch
from test_ppo import rollout_of

from agents.ppo import PPO
from agents.ppo_config import PPOConfig
from agents.trpo import TRPO, TRPOConfig
from rlsuite.config.compose import compose_train
from rlsuite.errors import UserError
from rlsuite.replay.buffer import Transition
from rlsuite.symmetry import Mirror
from rlsuite.vector_env import EnvironmentFacts

MIRROR = Mirror((0, 2, 1), (1, 0))
SIZES = {"hidden_sizes": (8, 8), "minibatch_size": 5}


def agent_of(kind, numbers, mirrored, **others):
    facts = EnvironmentFacts.of_vectors(3, [-1.0, -1.0], [1.0, 1.0], num_envs=2, mirror=lambda: MIRROR)
    return kind(facts, numbers(mirrored=mirrored, **SIZES, **others), seed=0)


@pytest.mark.parametrize(("kind", "numbers"), [(PPO, PPOConfig), (TRPO, TRPOConfig)])
def test_an_update_equals_that_of_a_rollout_doubled_by_hand(kind, numbers):
    agent, twin = agent_of(kind, numbers, True), agent_of(kind, numbers, False)
    batch = rollout_of(agent)
    twin.stream.load_state_dict(agent.stream.state_dict())
    doubled = Transition(
        observation=torch.cat([batch.observation, batch.observation[..., [0, 2, 1]]], dim=1),
        action=torch.cat([batch.action, batch.action[..., [1, 0]]], dim=1),
        reward=batch.reward.repeat(1, 2),
        terminated=batch.terminated.repeat(1, 2),
        truncated=batch.truncated.repeat(1, 2),
        next_observation=torch.cat([batch.next_observation, batch.next_observation[..., [0, 2, 1]]], dim=1),
        failed=batch.failed.repeat(1, 2),
    )
    agent.update(batch)
    twin.update(doubled)
    for name, tensor in twin.state_dict().items():
        assert torch.equal(agent.state_dict()[name], tensor), name
    mean = agent.normalizer.mean.flatten()
    assert mean[1].item() == pytest.approx(mean[2].item(), abs=1e-6)  # both sides are standardized alike


def test_switches_are_mirrored_too():
    facts = EnvironmentFacts(
        observation_space=gymnasium.spaces.Box(-9.0, 9.0, (3,)),
        action_space=gymnasium.spaces.MultiBinary(2),
        num_envs=2,
        mirror=lambda: MIRROR,
    )
    agent = PPO(facts, PPOConfig(mirrored=True, **SIZES), seed=0)
    batch = rollout_of(agent)
    beside = agent.images.beside(batch)
    assert torch.equal(beside.action[:, 2:], batch.action[..., [1, 0]])
    assert all(torch.isfinite(value) for value in agent.update(batch).values())


def test_a_task_without_a_symmetry_is_refused():
    config, _ = compose_train(["agent=ppo", "env=Hopper", "agent.mirrored=true"])
    facts = EnvironmentFacts.of_vectors(3, [-1.0], [1.0])
    with pytest.raises(UserError, match="env=Hopper has no left-right symmetry; use false"):
        PPO.check(config, facts)
