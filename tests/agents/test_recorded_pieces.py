"""Pieces of updates that are recorded where the whole cannot be: the same weights, and no wait for the host."""

import dataclasses

import pytest
import torch
from host_waits import NoHostSync

from agents.pombu.agent import POMBU
from agents.pombu.config import DynamicsConfig, POMBUConfig
from agents.ppo import PPO
from agents.ppo_config import PPOConfig
from agents.trpo import TRPO, TRPOConfig
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


FACTS = EnvironmentFacts.of_vectors(3, [-1, -1], [1, 1], num_envs=4)


def make(config, kind=PPO, facts=FACTS):
    return kind(facts, config, seed=1)


def rollout(generator, failed=()):
    def draw(*shape):
        return torch.randn(8, 4, *shape, generator=generator)

    none, fails = torch.zeros(8, 4, dtype=torch.bool), torch.zeros(8, 4, dtype=torch.bool)
    for place in failed:
        fails[place] = True
    ended = torch.rand(8, 4, generator=generator) < 0.1
    return Transition(draw(3), draw(2).tanh(), draw(), ended, none, draw(3), fails)


def assert_same(eager, recorded):
    for ours, theirs in (
        (eager.state_dict(), recorded.state_dict()),
        (optimizer_tensors(eager.optimizers), optimizer_tensors(recorded.optimizers)),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


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
    assert_same(eager, recorded)


@pytest.mark.parametrize("rows", [0, 7])
def test_trpos_recorded_gradient_and_value_leave_what_eager_ones_leave(rows):
    config = TRPOConfig(hidden_sizes=(8,), rollout_length=8, minibatch_size=12, passes=2, curvature_rows=rows)
    eager, recorded = make(config, TRPO), make(config, TRPO)
    taken = []
    recorded.record_pieces(lambda learn, generators: taken.append(learn) or stand_in(learn, generators))
    for seed, failed in enumerate([(), [(2, 1)], ()]):  # what has a failure in it has another shape, and is eager
        wanted, got = (one.update(rollout(torch.Generator().manual_seed(seed), failed)) for one in (eager, recorded))
        assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    assert len(taken) == 2
    assert_same(eager, recorded)


def test_trpos_natural_step_never_waits_for_the_host():
    agent = make(TRPOConfig(hidden_sizes=(8,), rollout_length=8, minibatch_size=8), TRPO)
    taken = []

    def guarded(learn, generators):
        def replay():
            with NoHostSync():
                return learn()

        taken.append(learn)
        return replay

    agent.record_pieces(guarded)
    agent.update(rollout(torch.Generator().manual_seed(0)))
    assert len(taken) == 2


def pombu():
    config = POMBUConfig(
        hidden_sizes=(8,),
        horizon=8,
        trajectories=5,
        policy_updates=2,
        passes=2,
        minibatch_size=16,
        dynamics=DynamicsConfig(num_members=2, hidden_sizes=(8,), batch_size=10, capacity=96, max_passes=4),
    )
    facts = dataclasses.replace(FACTS, known_reward=lambda observation, action, _: observation[..., 0])
    return make(config, POMBU, facts)


def test_pombus_recorded_steps_leave_what_eager_ones_leave():
    eager, recorded = pombu(), pombu()
    taken = []
    recorded.record_pieces(lambda learn, generators: taken.append(learn) or stand_in(learn, generators))
    for seed in range(2):  # in the second iteration Adam's moments begin anew
        batch = rollout(torch.Generator().manual_seed(seed))
        for one in (eager, recorded):
            one.update(batch)
        while eager.busy:
            wanted, got = eager.advance(), recorded.advance()
            assert wanted.keys() == got.keys()
            assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    assert not recorded.busy
    assert len(taken) == 2
    assert_same(eager, recorded)


def test_a_minibatch_never_waits_for_the_host():
    agent = make(CONFIGS[0])
    prepared, usable = agent.prepare(rollout(torch.Generator().manual_seed(0)))
    part = type(prepared)(*(tensor.index_select(0, usable[:8]) for tensor in prepared))
    agent._step(part)  # the optimizer makes its state, as in a warm-up
    with NoHostSync():
        agent._step(part)
