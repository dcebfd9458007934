"""Success is told by an episode's last info, whatever other environments and earlier steps tell."""

import numpy as np
import pytest
import torch
from odd_environments import ID

import envs
from agents.actor_critic import ActorCritic
from agents.actor_critic_config import ActorCriticConfig
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.running.rollout import RolloutWorker
from rlsuite.scoring import cut_note, evaluate
from rlsuite.vector_env import EnvironmentFacts


def zero(observation):
    return torch.zeros(len(observation), 1)


def even(env):
    """Return whether an episode is one that succeeds: those of an even number of steps."""
    return env.last % 2 == 0


def told_last(env, action, step):
    return (*step[:4], {"is_success": even(env)} if step[2] else {})


def told_only_where_it_is_true(env, action, step):
    return (*step[:4], {"is_success": True} if step[2] and even(env) else {})


def told_always_true_at_first(env, action, step):
    return (*step[:4], {"is_success": np.array([even(env) if step[2] else True])})


def told_early_only(env, action, step):
    return (*step[:4], {} if step[2] else {"is_success": True})


def never_told(env, action, step):
    return (*step[:4], {"other": 1.0})


def vector(returns, num_envs=12):
    return envs.make_vector(f"gymnasium:{ID}", num_envs, length=None, returns=returns)


@pytest.mark.parametrize("returns", [told_last, told_only_where_it_is_true, told_always_true_at_first])
def test_evaluation_counts_the_last_info_of_each_episode(returns):
    result = evaluate(zero, vector(returns), seed=3)
    assert len(set(result.lengths.tolist())) > 3  # they end at different times
    assert result.successes is not None
    assert result.successes.tolist() == [length % 2 == 0 for length in result.lengths.tolist()]
    assert result.scalars()["success_rate"] == pytest.approx(np.mean(result.lengths % 2 == 0))


def test_what_earlier_infos_tell_is_no_success():
    assert evaluate(zero, vector(told_early_only), seed=3).summary()["success_rate"] == 0.0


def test_nothing_told_is_no_rate():
    result = evaluate(zero, vector(never_told), seed=3)
    assert result.successes is None
    assert "success_rate" not in result.summary()


def worker_of(returns):
    small = {"actor": ActorConfig(hidden_sizes=(4,)), "critic": CriticConfig(hidden_sizes=(4,))}
    agent = ActorCritic(EnvironmentFacts.of_vectors(2, [-1], [1], num_envs=5), ActorCriticConfig(**small))
    return RolloutWorker(vector(returns, 5), agent, seed=1)


@pytest.mark.parametrize("returns", [told_last, told_only_where_it_is_true, told_always_true_at_first])
def test_the_training_log_counts_the_last_info_of_each_episode(returns):
    ended = []

    def noted(env, action, step):
        if step[2]:
            ended.append(even(env))
        return returns(env, action, step)

    worker = worker_of(noted)
    for _ in range(60):
        worker.step()
    found = worker.drain()
    assert found["success_rate"] == pytest.approx(np.mean(ended))
    assert 0.0 < found["success_rate"] < 1.0
    # A resumed run knows that success is told, before it is told again.
    other = worker_of(never_told)
    other.load_state(worker.state())
    assert other.tells_success
    older = {name: value for name, value in worker.state().items() if name != "tells_success"}
    worker_of(never_told).load_state(older)


def test_the_training_log_of_an_environment_that_never_tells_has_no_rate():
    worker = worker_of(never_told)
    for _ in range(20):
        worker.step()
    assert set(worker.drain()) == {"return_mean", "length_mean"}


def test_episodes_that_never_end_are_counted_and_named():
    env = envs.make_vector(
        f"gymnasium:{ID}", 3, length=None, returns=lambda env, action, step: (*step[:2], env.endless(step), False, {})
    )
    for index, one in enumerate(env._envs):
        one.unwrapped.endless = (lambda step: False) if index else (lambda step: step[2])
    result = evaluate(zero, env, seed=0, max_steps=50)
    assert result.cut == result.summary()["cut"] == result.scalars()["cut"] == 2
    assert result.lengths.tolist()[1:] == [50, 50]
    assert cut_note(result).startswith("2 of 3 episodes did not end within 50 steps and count as far as they went")
    assert "cut" not in evaluate(zero, vector(never_told), seed=0).summary()
