"""Off-policy agents of continuous actions that see pictures: the eye learns with the critics, and by them alone."""

import copy

import gymnasium
import numpy as np
import pytest
import torch

from agents.actor_critic import ActorCritic
from agents.actor_critic_config import ActorCriticConfig
from agents.assembly import make_agent
from agents.plain import plain_policy
from rlsuite.config.compose import compose_train
from rlsuite.errors import UserError
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.eye import EyeConfig
from rlsuite.nn.vision.conv_net import ConvNetConfig
from rlsuite.replay.buffer import Batch
from rlsuite.vector_env import EnvironmentFacts

SIDE = 12


def facts(num_envs=2):
    low, high = np.full(1, -2.0, np.float32), np.full(1, 2.0, np.float32)
    return EnvironmentFacts(
        observation_space=gymnasium.spaces.Box(0, 255, (3, SIDE, SIDE), np.uint8),
        action_space=gymnasium.spaces.Box(low, high, dtype=np.float32),
        num_envs=num_envs,
    )


def make(**numbers):
    small = {
        "actor": ActorConfig(hidden_sizes=(16,)),
        "critic": CriticConfig(hidden_sizes=(16,)),
        "vision": EyeConfig(network=ConvNetConfig(widths=(4, 4), hidden=0), features=8, shift=0),
        "batch_size": 8,
        "precision": "float32",
    }
    return ActorCritic(facts(), ActorCriticConfig(**small | numbers), seed=0)


def minibatch(rows, generator):
    pictures = torch.randint(256, (2, rows, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return Batch(
        observation=pictures[0],
        action=4 * torch.rand(rows, 1, generator=generator) - 2,
        reward=torch.randn(rows, generator=generator),
        discount=torch.full((rows,), 0.9),
        next_observation=pictures[1],
        weight=torch.ones(rows),
        index=torch.arange(rows),
    )


def test_the_eyes_step_is_the_critics_gradient(generator):
    """The first step of Adam is the learning rate times the gradient's sign, here of a loss written out."""
    agent, batch = make(), minibatch(8, generator)
    twin = copy.deepcopy(agent)
    features = twin.eye(batch.observation)
    with torch.no_grad():
        after = twin.eye(batch.next_observation).unsqueeze(0)
        joined = torch.cat([after, twin.target_actors(after)], dim=-1)
        target = batch.reward + 0.9 * twin.critics.value(twin.target_critics(joined))[0]
    value = twin.critics(torch.cat([features, batch.action / 2], dim=1).unsqueeze(0))[0, :, 0]
    loss = (value - target).square().mean()
    names = dict(twin.eye.named_parameters())
    gradients = torch.autograd.grad(loss, list(names.values()))
    before = {name: value.detach().clone() for name, value in agent.eye.named_parameters()}
    agent.learn_critics(batch)
    rate = agent.config.critic_learning_rate
    for (name, new), gradient in zip(agent.eye.named_parameters(), gradients, strict=True):
        clear = gradient.abs() > 1e-4
        assert torch.allclose((new - before[name])[clear], -rate * gradient.sign()[clear], atol=0.05 * rate), name
    assert sum((gradient.abs() > 1e-4).sum() for gradient in gradients) > 100


def test_actors_do_not_move_the_eye(generator):
    agent, batch = make(), minibatch(8, generator)
    seen, _ = agent.learn_critics(batch)
    assert not seen.now.requires_grad
    before = copy.deepcopy(agent.eye.state_dict())
    agent.learn_actors(seen, due=True)
    assert all(torch.equal(value, before[name]) for name, value in agent.eye.state_dict().items())


def test_acting_sees_without_shifts_and_states_are_whole(generator):
    agent = make(vision=EyeConfig(network=ConvNetConfig(widths=(4,), hidden=0), features=8, shift=2), num_pairs=2)
    pictures = torch.randint(256, (5, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    action = agent.act(pictures, False)
    assert action.shape == (5, 1)
    assert torch.equal(agent.act(pictures, False), action)
    agent.update(minibatch(16, generator))
    assert not torch.equal(agent.act(pictures, False), action)
    other = make(vision=agent.config.vision, num_pairs=2)
    other.load_state_dict(agent.state_dict())
    assert torch.equal(other.act(pictures, False), agent.act(pictures, False))
    with pytest.raises(UserError, match=r"clone_policy\.py"):
        plain_policy(agent)


@pytest.mark.parametrize("name", ["ddpg", "td3", "sac", "ace", "flash_sac"])
def test_every_such_agent_takes_pictures(name, generator):
    config, _ = compose_train([f"agent={name}", "env=Reacher", "preset=debug", "device=cpu", "camera.size=16"])

    class Pictures:
        single_observation_space = facts().observation_space
        single_action_space = facts().action_space
        num_envs, max_episode_steps, goals, known_reward, angles, renderer = 2, 50, None, None, (), None

    agent = make_agent(config, Pictures())
    found = agent.update(minibatch(agent.sample_size, generator))
    assert all(value.isfinite().all() for value in found.values())
    action = agent.act(minibatch(config.num_envs, generator).observation, True)
    assert action.abs().max() <= 2.0


def test_embeddings_are_of_vectors():
    config, _ = compose_train(["agent=td3", "env=Reacher", "camera.size=16", "agent.embedding.size=8"])
    with pytest.raises(UserError, match=r"agent\.embedding\.size=8: embeddings are of vectors"):
        ActorCritic.check(config, facts())
