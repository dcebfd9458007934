"""Views of environments: everything forwarded, observations changed once each, resuming bit for bit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import envs
from envs.vector import VectorEnv
from envs.wrapper import ObservationWrapper, VectorWrapper
from rlsuite.vector_env import EnvironmentFacts
from rlsuite.vector_env import VectorEnv as Contract


class Counted(ObservationWrapper):
    """Adds 1,000 times the number of the observation within its episode, and the number of episodes so far."""

    def __init__(self, env):
        super().__init__(env)
        self.place, self.episode = torch.zeros(env.num_envs), torch.zeros(env.num_envs)

    def begin(self, rows, seed):
        self.place[rows] = 0
        self.episode[rows] += 1

    def see(self, observation):
        seen = observation + 1000.0 * self.place[:, None] + 100_000.0 * self.episode[:, None]
        self.place = self.place + 1
        return seen

    def own_state(self):
        return {"place": self.place.clone(), "episode": self.episode.clone()}

    def load_own_state(self, state):
        self.place, self.episode = state["place"].clone(), state["episode"].clone()


def make(num_envs=3, limit=4):
    return envs.make_vector("Reacher", num_envs, num_threads=1, max_episode_steps=limit)


def actions(steps, num_envs=3):
    return 2 * torch.rand(steps, num_envs, 2, generator=torch.Generator().manual_seed(1)) - 1


def rollout(env, given):
    return [env.step(action) for action in given]


def same(one, other):
    assert all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))
    assert one[4].keys() == other[4].keys()
    assert all(torch.equal(one[4][name], other[4][name]) for name in one[4])


def test_a_plain_view_changes_nothing():
    plain, viewed = make(), VectorWrapper(VectorWrapper(make()))
    assert torch.equal(plain.reset(seed=3)[0], viewed.reset(seed=3)[0])
    for one, other in zip(rollout(plain, actions(6)), rollout(viewed, actions(6)), strict=True):
        same(one, other)
    assert torch.equal(plain.observation(), viewed.observation())
    one, other = plain.state(), viewed.state()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert isinstance(viewed, VectorEnv)
    one, other = EnvironmentFacts.of(plain), EnvironmentFacts.of(viewed)
    assert (one.observation_space, one.action_space) == (other.observation_space, other.action_space)
    assert (one.num_envs, one.max_episode_steps, one.angles) == (other.num_envs, other.max_episode_steps, other.angles)
    plain.close()
    viewed.close()


def test_every_attribute_of_the_contract_is_the_environments_own():
    """Class attributes of the contract must not hide what the environment says of itself."""
    marks = {name: object() for name in (*Contract.__annotations__, "renderer")}
    view = VectorWrapper(SimpleNamespace(**marks))
    assert [name for name, mark in marks.items() if getattr(view, name) is not mark] == []
    env = make()
    view = VectorWrapper(env)
    own = [name for name in vars(env) if not name.startswith("_")]
    assert all(getattr(view, name) is getattr(env, name) for name in own)
    view.failures = ["one"]
    assert env.failures == ["one"]
    with pytest.raises(AttributeError):
        _ = view.nothing_of_the_kind
    env.close()


def test_dropping_a_view_leaves_the_environment_open():
    env = make()
    env.reset(seed=0)
    view = VectorWrapper(env)
    del view
    observation, *_ = env.step(actions(1)[0])
    assert observation.isfinite().all()
    env.close()


def test_observations_are_seen_once_and_ends_apart():
    """Episodes of 2 steps: observations 0, 1, 2 of episode 1; the second's end is final_obs, then 0 of episode 2."""
    plain, counted = make(limit=2), Counted(make(limit=2))
    plain.reset(seed=3)
    first, _ = counted.reset(seed=3)
    assert torch.equal(first, plain.observation() + 100_000.0)
    for place, action in enumerate(actions(4)):
        one, other = plain.step(action), counted.step(action)
        number, episode = place % 2 + 1, place // 2 + 1
        assert torch.equal(other[4]["final_obs"], one[4]["final_obs"] + 1000.0 * number + 100_000.0 * episode)
        shift = 100_000.0 * (episode + 1) if number == 2 else 1000.0 * number + 100_000.0 * episode
        assert torch.equal(other[0], one[0] + shift)
        assert torch.equal(counted.observation(), other[0])
        assert all(torch.equal(a, b) for a, b in zip(one[1:4], other[1:4], strict=True))
        other[0].zero_()
        other[4]["final_obs"].zero_()
        assert torch.count_nonzero(counted.observation()) > 0  # what is returned is the caller's own
    plain.close()
    counted.close()


def test_views_of_views_resume_bit_for_bit():
    env = Counted(Counted(make()))
    env.reset(seed=3)
    rollout(env, actions(3))
    state, seen = env.state(), env.observation()
    ahead = rollout(env, actions(6))
    other = Counted(Counted(make()))
    other.reset(seed=8)
    other.load_state({name: tensor.clone() for name, tensor in state.items()})
    assert torch.equal(other.observation(), seen)
    for one, two in zip(ahead, rollout(other, actions(6)), strict=True):
        same(one, two)
    with pytest.raises(ValueError, match="not of environments seen through a Counted"):
        Counted(make()).load_state(make().state())
    assert np.array_equal(env.single_action_space.low, other.single_action_space.low)
    env.close()
    other.close()
