"""Agents that see embeddings: updates against plain formulas, ensembles of members, acting, resuming."""

import copy

import pytest
import torch
from ddpg_reference import random_batch, transition

from agents.ace import ACE
from agents.actor_critic import ActorCritic
from agents.sher import SHER
from rlsuite.errors import UserError
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.embedding import EmbeddingConfig
from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors
from rlsuite.vector_env import EnvironmentFacts

LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])
SMALL = {
    "batch_size": 8,
    "precision": "float32",
    "actor": ActorConfig(hidden_sizes=(8,)),
    "critic": CriticConfig(hidden_sizes=(8,)),
    "embedding": EmbeddingConfig(size=5, hidden_sizes=(8,), learning_rate=1e-2),
}
STOCHASTIC = {"actor": ActorConfig(hidden_sizes=(8,), distribution="squashed_gaussian"), "num_critics": 2}
AGENTS = {
    "ddpg": (ActorCritic, {}),
    "td3": (ActorCritic, {"num_critics": 2, "policy_delay": 2, "target_noise": 0.2}),
    "sac": (ActorCritic, STOCHASTIC),
    "ace": (ACE, {"num_pairs": 3, "bootstrap_from": "neighbours"}),
    "ace, trained as an ensemble": (ACE, {"num_pairs": 2, "train_with_ensemble": True}),
    "sher with V": (SHER, STOCHASTIC),
}


def make(cls=ActorCritic, seed=0, **keys):
    agent = cls.build(EnvironmentFacts.of_vectors(3, LOW, HIGH, num_envs=2), cls.Config(**(SMALL | keys)), seed=seed)
    agent.normalizer.update(torch.randn(50, 3, generator=torch.Generator().manual_seed(9)) * 2 + 1)
    return agent


def batch_of(agent, seed):
    return random_batch(agent.sample_size, 3, LOW, HIGH, seed=seed)


def seen_by(agent, observation):
    """A single set's [observation, z_s] by the networks themselves."""
    rows = agent.normalize(observation)
    state = agent.embedding.slow.of_state(rows[None])[0]
    return torch.cat([rows, state / state.abs().mean(-1, keepdim=True)], dim=-1)


def judged(agent, critics, seen, action):
    embedded = agent.embedding.slow.of_action(torch.cat([seen[:, 3:], action], dim=-1)[None])[0]
    return critics(torch.cat([seen, action, embedded], dim=-1)[None])[0, :, 0]


def test_temporal_differences_in_plain_torch():
    agent, batch = make(), batch_of(make(), 0)
    seen, after = seen_by(agent, batch.observation), seen_by(agent, batch.next_observation)
    next_action = agent.target_actors(after[None])[0]
    target = batch.reward + batch.discount * judged(agent, agent.target_critics, after, next_action)
    wanted = (judged(agent, agent.critics, seen, agent.action_range.to_policy(batch.action)) - target).abs()
    torch.testing.assert_close(agent.update(batch)["td_error"], wanted.detach(), rtol=1e-4, atol=1e-5)


def test_the_actors_gradient_goes_through_the_actions_embedding():
    agent = make()
    seen = seen_by(agent, torch.randn(6, 3))
    action = agent.actors(seen[None])
    wanted = torch.autograd.grad(judged(agent, agent.critics, seen, action[0]).mean(), agent.actor_parameters)
    got = torch.autograd.grad(agent.actor_value(seen[None], agent.actors(seen[None])).mean(), agent.actor_parameters)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", AGENTS)
def test_the_embedding_learns_from_its_own_loss_alone(name):
    cls, keys = AGENTS[name]
    agent = make(cls, **keys)
    batch, alone = batch_of(agent, 0), copy.deepcopy(agent.embedding)
    adam = torch.optim.Adam(alone.learned.parameters(), lr=1e-2)
    rows = [agent.normalizer(tensor) for tensor in (batch.observation, batch.next_observation)]
    loss = alone.loss(rows[0], agent.action_range.to_policy(batch.action), rows[1])
    loss.backward()
    adam.step()
    metrics = agent.update(batch)
    torch.testing.assert_close(metrics["embedding_loss"], loss.detach())
    for got, wanted in zip(agent.embedding.learned_parameters, alone.learned.parameters(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", AGENTS)
def test_the_slow_copy_follows_with_the_others(name):
    cls, keys = AGENTS[name]
    agent = make(cls, target_rate=0.1, **keys)
    for step in range(2):
        before = [parameter.clone() for parameter in agent.embedding.slow_parameters]
        agent.update(batch_of(agent, step))
    learned = agent.embedding.learned_parameters
    for slow, start, now in zip(agent.embedding.slow_parameters, before, learned, strict=True):
        torch.testing.assert_close(slow, start + 0.1 * (now - start))


@pytest.mark.parametrize("name", AGENTS)
def test_a_saved_agent_goes_on_to_the_same_numbers(name):
    cls, keys = AGENTS[name]
    first, second = make(cls, **keys), make(cls, seed=5, **keys)

    def live(agent, steps):
        for step in steps:
            observation = torch.randn(2, 3, generator=torch.Generator().manual_seed(step))
            agent.act(observation, True)
            agent.observe(transition(observation))
            agent.update(batch_of(agent, step))

    live(first, range(3))
    second.load_state_dict(first.state_dict())
    load_optimizer_tensors(second.optimizers, optimizer_tensors(first.optimizers))
    live(first, range(3, 6))
    live(second, range(3, 6))
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


@pytest.mark.parametrize("normalized", [True, False])
def test_members_keep_embeddings_of_their_own(normalized):
    members = [make(seed=seed, normalize_observations=normalized) for seed in range(3)]
    ensemble = ACE.from_members(members, ACE.Config(**SMALL, num_pairs=3, normalize_observations=normalized))
    observation = torch.randn(4, 3)
    proposals = ensemble.propose(observation, False)
    scores = ensemble.mean_scores(observation, proposals, 3)
    for place, member in enumerate(members):
        torch.testing.assert_close(proposals[place], member.propose(observation, False)[0])
    for row, action in enumerate(proposals):
        values = [judged(member, member.critics, seen_by(member, observation), action) for member in members]
        torch.testing.assert_close(scores[row], torch.stack(values).mean(0))


def test_members_of_different_embeddings_are_refused():
    other = make(embedding=EmbeddingConfig(size=6))
    with pytest.raises(UserError, match=r"members differ in agent\.embedding"):
        ACE.from_members([make(), other], ACE.Config(**SMALL, num_pairs=2))


def test_members_may_have_learned_at_different_rates():
    slower = make(embedding=EmbeddingConfig(size=5, hidden_sizes=(8,), learning_rate=1e-3))
    ensemble = ACE.from_members([make(), slower], ACE.Config(**SMALL, num_pairs=2))
    assert ensemble.propose(torch.randn(4, 3), False).shape == (2, 4, 2)


def test_learning_rates_fall_together():
    agent = make(final_learning_rate_share=0.0)
    agent.anneal(0.75)
    assert float(agent.optimizers["embedding"].param_groups[0]["lr"]) == pytest.approx(0.25e-2)
