"""Environments of other libraries behind the contract."""

import sys

import gymnasium
import numpy as np
import pytest
import torch

import envs
from envs.adapters.spaces import usable_action_space
from rlsuite.errors import BrokenEnvironmentError, UserError


class Counting(gymnasium.Env):
    """Observes its own step and episode; terminates at step 3; goes non-finite on request."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.steps = 0
        return np.array([0.0, self.episode]), {}

    def step(self, action):
        self.steps += 1
        observation = np.array([self.steps, self.episode], dtype=np.float64)
        if action[0] > 0.9:
            observation[0] = np.nan
        return observation, float(self.steps), self.steps == 3, False, {"steps": self.steps, "word": "x"}


@pytest.fixture(scope="module", autouse=True)
def registered():
    gymnasium.register("rlsuite-tests/Counting-v0", entry_point=Counting, max_episode_steps=3)
    gymnasium.register("rlsuite-tests/Endless-v0", entry_point=Counting)
    yield
    del gymnasium.registry["rlsuite-tests/Counting-v0"], gymnasium.registry["rlsuite-tests/Endless-v0"]


def test_final_observation_and_reset_in_the_same_step():
    env = envs.make_vector("gymnasium:rlsuite-tests/Counting-v0", 2)
    assert env.max_episode_steps == 3
    assert not env.exact_resume
    observation, _ = env.reset(seed=0)
    assert observation.tolist() == [[0, 0], [0, 0]]
    for step in (1, 2, 3, 1, 2, 3):
        observation, reward, terminated, truncated, info = env.step(torch.zeros(2, 1))
        episode = float(env.state()["episode"][0])
        last = step == 3
        assert info["final_obs"].tolist() == [[step, episode - last]] * 2
        assert observation.tolist() == [[0, episode] if last else [step, episode]] * 2
        assert reward.tolist() == [step] * 2
        assert terminated.tolist() == truncated.tolist() == [last] * 2
        assert info["steps"].tolist() == [step] * 2
        assert "word" not in info
        assert not info["failed"].any()


def test_non_finite_observation_ends_one_episode():
    env = envs.make_vector("gymnasium:rlsuite-tests/Endless-v0", 2)
    assert env.max_episode_steps is None
    env.reset(seed=0)
    env.step(torch.zeros(2, 1))
    observation, reward, terminated, truncated, info = env.step(torch.tensor([[1.0], [0.0]]))
    assert info["failed"].tolist() == truncated.tolist() == [True, False]
    assert terminated.tolist() == [False, False]
    assert reward.tolist() == [0, 2]
    assert info["final_obs"].tolist() == [[1, 0], [2, 0]]
    assert observation.tolist() == [[0, 1], [2, 0]]
    assert env.failures[0].env_index == 0
    with pytest.raises(ValueError, match="environment 1 is not finite"):
        env.step(torch.tensor([[0.0], [float("nan")]]))


def test_seeds_do_not_depend_on_number_of_environments():
    few, many = (envs.make_vector("gymnasium:Pendulum-v1", count) for count in (2, 4))
    short, long = few.reset(seed=3)[0], many.reset(seed=3)[0]
    assert torch.equal(short, long[:2])
    assert not torch.equal(long[0], long[1])
    assert torch.equal(few.reset(seed=3)[0], short)
    assert not torch.equal(few.reset()[0], short)
    state = few.state()
    few.load_state(state)
    resumed = few.observation()
    few.load_state(state)
    assert torch.equal(few.observation(), resumed)


def test_gymnasium_task_agrees_with_ours():
    theirs = envs.make_vector("gymnasium:Hopper-v5", 2, dtype=torch.float64, frame_skip=2)
    theirs.reset(seed=0)
    ours = envs.make_vector("Hopper", 2, dtype=torch.float64, frame_skip=2)
    ours.reset(seed=0)
    states = [env.unwrapped.data for env in theirs._envs]
    qpos, qvel = (torch.tensor(np.array([getattr(data, name) for data in states])) for name in ("qpos", "qvel"))
    ours.set_state(torch.arange(2), qpos, qvel)
    action = torch.full((2, 3), 0.25, dtype=torch.float64)
    for a, b in zip(theirs.step(action)[:4], ours.step(action)[:4], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)  # Gymnasium's action is float32


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("gymnasium:Nothing-v1", "doesn't exist"),
        ("gymnasium:no_such_module:Task-v1", "no_such_module"),
        ("bullet:Hopper", "unknown environment"),
    ],
)
def test_unusable_environments_are_one_line_errors(env_id, message):
    with pytest.raises(UserError, match=message) as caught:
        envs.make_vector(env_id, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("low", "high"), [(-np.inf, np.inf), (0.0, 0.0)])
def test_actions_without_bounds_are_a_one_line_error(low, high):
    box = gymnasium.spaces.Box(np.float32(low), np.float32(high), (2,))
    with pytest.raises(UserError, match="actions need finite bounds, the lower below the upper"):
        usable_action_space("Toy-v0", box)


def test_unknown_option_is_a_one_line_error():
    with pytest.raises(UserError, match="frameskip") as caught:
        envs.make_vector("gymnasium:Hopper-v5", 1, frameskip=3)
    assert "\n" not in str(caught.value)


def test_missing_envpool_is_a_one_line_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(UserError, match="pip install envpool"):
        envs.make_vector("envpool:Hopper-v5", 1)


class TestEnvPool:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("envpool")

    def test_every_transition_is_real(self):
        """Each final observation follows from the state before it: replayed in our own simulation."""
        env = envs.make_vector("envpool:Hopper-v5", 3, num_threads=2, dtype=torch.float64, max_episode_steps=12)
        ours = envs.make_vector(
            "Hopper", 3, dtype=torch.float64, max_episode_steps=None, terminate_when_unhealthy=False
        )
        current, _ = env.reset(seed=1)
        ours.reset(seed=0)
        generator = torch.Generator().manual_seed(0)
        ends = 0
        fresh = torch.ones(3, dtype=torch.bool)
        for _ in range(60):
            # Hopper's observation is its state but for x, on which nothing depends.
            qpos = torch.cat([torch.zeros(3, 1, dtype=torch.float64), current[:, :5]], dim=1)
            ids = torch.nonzero(fresh).flatten()
            ours.set_state(ids, qpos[ids], current[ids, 5:])
            action = (torch.rand(3, 3, generator=generator) * 2 - 1).to(torch.float64)
            expected = ours.step(action)
            following, reward, terminated, truncated, info = env.step(action)
            torch.testing.assert_close(info["final_obs"], expected[0], rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(reward, expected[1], rtol=1e-5, atol=1e-5)
            fresh = terminated | truncated
            ends += int(fresh.sum())
            heights = following[fresh, 0]
            assert ((heights - 1.25).abs() < 0.0051).all()
            assert torch.equal(following[~fresh], info["final_obs"][~fresh])
            current = following
        assert ends >= 10

    def test_seeds(self):
        few, many = (envs.make_vector("envpool:HalfCheetah-v5", count) for count in (2, 3))
        short, long = few.reset(seed=3)[0], many.reset(seed=3)[0]
        assert torch.equal(short, long[:2])
        assert not torch.equal(few.reset(seed=4)[0], short)

    def test_a_step_that_raises_is_recorded(self, monkeypatch):
        env = envs.make_vector("envpool:Hopper-v5", 2)
        env.reset(seed=0)

        def step(action):
            raise RuntimeError("the pool has gone")

        monkeypatch.setattr(env._pool, "step", step)
        with pytest.raises(BrokenEnvironmentError, match="EnvPool's step raised RuntimeError: the pool has gone"):
            env.step(torch.zeros(2, 3))
        assert len(env.failures) == 1

    @pytest.mark.parametrize(
        ("env_id", "options", "message"),
        [
            ("HalfCheeta-v5", {}, "did you mean 'HalfCheetah-v5'"),
            ("Hopper-v5", {"frameskip": 2}, "frameskip"),
            ("Hopper-v5", {"render_mode": "rgb_array"}, "cannot be rendered"),
        ],
    )
    def test_errors(self, env_id, options, message):
        with pytest.raises(UserError, match=message):
            envs.make_vector(f"envpool:{env_id}", 1, **options)
