"""Pieces of updates that are recorded where the whole cannot be: the same weights, and no wait for the host."""

import pytest
import torch
from host_waits import NoHostSync

from agents.ppo import PPO
from agents.ppo_config import PPOConfig
from rlsuite.optim.state import optimizer_tensors
from rlsuite.replay.buffer import Transition
from rlsuite.running.cuda_graph import stand_in
from rlsuite.vector_env import EnvironmentFacts

CONFIGS = [
    PPOConfig(hidden_sizes=(8,), rollout_length=8, minibatch_size=8, passes=2),
    PPOConfig(hidden_sizes=(8,), rollout_length=8, minibatch_size=12, passes=3, schedule="adaptive", value_clip=0.2),
    PPOConfig(
        hidden_sizes=(8,),
        rollout_length=8,
        minibatch_size=8,
        passes=2,
        schedule="linear",
        decay_rollouts=9,
        anneal_clip=True,
    ),
]


def make(config):
    facts = EnvironmentFacts.of_vectors(3, [-1, -1], [1, 1], num_envs=4)
    return PPO(facts, config, seed=1)


def rollout(generator):
    def draw(*shape):
        return torch.randn(8, 4, *shape, generator=generator)

    none = torch.zeros(8, 4, dtype=torch.bool)
    ended = torch.rand(8, 4, generator=generator) < 0.1
    return Transition(draw(3), draw(2).tanh(), draw(), ended, none, draw(3), none)


@pytest.mark.parametrize("config", CONFIGS)
def test_recorded_minibatches_leave_what_eager_ones_leave(config):
    eager, recorded = make(config), make(config)
    taken = []
    recorded.record_pieces(lambda learn, generators: taken.append(generators) or stand_in(learn, generators))
    for seed in range(3):
        batch = rollout(torch.Generator().manual_seed(seed))
        wanted, got = eager.update(batch), recorded.update(batch)
        assert wanted.keys() == got.keys()
        assert all(torch.equal(torch.as_tensor(wanted[name]), torch.as_tensor(got[name])) for name in wanted)
    assert len(taken) == (0 if config.anneal_clip else 1)  # of minibatches that are whole, once
    for ours, theirs in (
        (eager.state_dict(), recorded.state_dict()),
        (optimizer_tensors(eager.optimizers), optimizer_tensors(recorded.optimizers)),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_minibatch_never_waits_for_the_host():
    agent = make(CONFIGS[0])
    prepared, usable = agent.prepare(rollout(torch.Generator().manual_seed(0)))
    part = type(prepared)(*(tensor.index_select(0, usable[:8]) for tensor in prepared))
    agent._step(part)  # the optimizer makes its state, as in a warm-up
    with NoHostSync():
        agent._step(part)
