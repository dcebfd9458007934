"""What one rank makes of a config's totals, and what is refused."""

import pytest

import envs
from agents import catalogue
from agents.assembly import make_agent
from rlsuite.config.compose import compose_train
from rlsuite.errors import UserError
from rlsuite.running.shares import share_of


def composed(*arguments):
    return compose_train(list(arguments))[0]


def test_alone_the_config_is_as_it_was():
    config = composed("agent=ddpg", "env=Hopper")
    assert share_of(config, 1) is config


def test_totals_are_dealt_out_and_what_is_counted_over_all_stays():
    config = composed("agent=ddpg", "env=Hopper", "num_envs=8", "replay.capacity=1001", "agent.batch_size=256")
    share = share_of(config, 4)
    assert (share.num_envs, share.agent.batch_size) == (2, 64)
    assert share.replay.capacity == 2 * 126  # as many slots as one rank alone would have
    assert (share.steps, share.learning_starts, share.train_ratio) == (
        config.steps,
        config.learning_starts,
        config.train_ratio,
    )


@pytest.mark.parametrize("agent", ["ace", "ddpg", "dqn", "her", "ppo", "sac", "sher", "td3", "trpo"])
def test_these_agents_can_be_shared(agent):
    config = composed(f"agent={agent}", "env=Hopper", "num_envs=8")
    name = "minibatch_size" if hasattr(config.agent, "minibatch_size") else "batch_size"
    assert getattr(share_of(config, 2).agent, name) == getattr(config.agent, name) // 2
    assert agent in catalogue.AGENTS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["agent=ddpg", "env=Hopper", "num_envs=5"], "num_envs=5: 2 ranks have equally many each; use a multiple of 2"),
        (["agent=ddpg", "env=Hopper", "agent.batch_size=33"], "agent=ddpg on 2 ranks: agent.batch_size=33"),
        (["agent=flash_sac", "env=Hopper"], "normalizes by the statistics of whole minibatches"),
        (["agent=pombu", "env=FixedHorizonHalfCheetah"], "validated on all real data"),
        (["agent=painter", "env=Painting"], "agent=painter learns in one process"),
        (["agent=scribe", "env=Characters"], "agent=scribe learns in one process"),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_reason(arguments, said):
    with pytest.raises(UserError) as refused:
        share_of(composed(*arguments), 2)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_agent_of_a_checkpoint_has_its_ranks_environments():
    config = composed("agent=ddpg", "env=InvertedPendulum", "num_envs=8", "device=cpu")
    env = envs.make_vector("InvertedPendulum", 1)
    assert make_agent(config, env).exploration.decision.shape == (8,)
    assert make_agent(config, env, saved_by=4).exploration.decision.shape == (2,)
    env.close()
