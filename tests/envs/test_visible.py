"""Environments of tasks with goals seen as a policy reads them: the same, without the achieved goal's columns."""

import torch

import envs
from envs.visible import VisibleObservation, visible

KEYS = {"num_threads": 1, "flat": True, "max_episode_steps": 2}


def test_the_achieved_goal_is_cut_off_everywhere():
    whole, seen = envs.make_vector("FetchReach", 3, **KEYS), visible(envs.make_vector("FetchReach", 3, **KEYS))
    assert isinstance(seen, VisibleObservation)
    size = whole.goals.visible_size
    assert size == whole.single_observation_space.shape[0] - 3
    assert seen.single_observation_space.shape == (size,)
    assert seen.observation_space.shape == (3, size)
    assert (seen.goals, seen.known_reward) == (None, None)
    expected, _ = whole.reset(seed=1)
    found, _ = seen.reset(seed=1)
    assert torch.equal(found, expected[:, :size])
    action = torch.full((3, 4), 0.5)
    for _ in range(2):
        expected, reward, *_, told = whole.step(action)
        found, own_reward, *_, info = seen.step(action)
        assert torch.equal(found, expected[:, :size])
        assert torch.equal(seen.observation(), found)
        assert torch.equal(info["final_obs"], told["final_obs"][:, :size])
        assert torch.equal(own_reward, reward)
    whole.close()
    seen.close()


def test_it_goes_on_from_its_state_bit_for_bit():
    env, other = visible(envs.make_vector("FetchReach", 2, **KEYS)), visible(envs.make_vector("FetchReach", 2, **KEYS))
    env.reset(seed=2)
    other.reset(seed=3)
    env.step(torch.zeros(2, 4))
    other.load_state(env.state())
    assert torch.equal(other.observation(), env.observation())
    assert torch.equal(other.step(torch.ones(2, 4))[0], env.step(torch.ones(2, 4))[0])
    env.close()
    other.close()


def test_without_goals_environments_are_their_own_view():
    env = envs.make_vector("Reacher", 1, num_threads=1)
    assert visible(env) is env
    env.close()
