"""What an environment of another library may return, and what becomes of it."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from odd_environments import ID, Odd, part

import envs
from envs.failures import load_failure, replay_failure, save_failure
from rlsuite.errors import BrokenEnvironmentError, UserError

NAN, INF = float("nan"), float("inf")


def vector(num_envs=2, **options):
    env = envs.make_vector(f"gymnasium:{ID}", num_envs, **options)
    env.reset(seed=0)
    return env


def stepped(env, times=2):
    for _ in range(times):
        found = env.step(torch.zeros(env.num_envs, 1))
    return found


# Which of the five values, what is returned there, and the reward and terminated that it means.
READ = {
    "reward of shape (1,)": (1, np.array([2.5]), 2.5, False),
    "reward of shape (1, 1)": (1, np.array([[2.5]]), 2.5, False),
    "reward as a tensor": (1, torch.tensor([2.5]), 2.5, False),
    "reward as an integer": (1, 3, 3.0, False),
    "reward as numpy's float16": (1, np.float16(0.5), 0.5, False),
    "reward as a flag": (1, np.True_, 1.0, False),
    "terminated of shape (1,)": (2, np.array([True]), 1.0, True),
    "terminated as numpy's flag": (2, np.False_, 1.0, False),
    "terminated as 1": (2, 1, 1.0, True),
    "observation as a list": (0, [2.0, 4.0], 1.0, False),
    "observation as a tensor": (0, torch.tensor([2.0, 4.0]), 1.0, False),
    "observation of integers": (0, np.array([2, 4]), 1.0, False),
    "no info": (4, None, 1.0, False),
}


@pytest.mark.parametrize("name", READ)
def test_unusual_values_are_read(name):
    place, value, reward, terminated = READ[name]
    _, got, ended, truncated, info = stepped(vector(returns=part(place, value)))
    assert got.tolist() == [reward] * 2
    assert got.dtype == torch.float32
    assert ended.tolist() == [terminated] * 2
    assert not truncated.any()
    assert info["final_obs"].tolist() == [[2.0, 4.0]] * 2


# What is not finite ends one episode, and is recorded.
FAILED = {
    "observation": (0, np.array([NAN, 1.0])),
    "observation beyond float32": (0, np.array([1e300, 1.0])),
    "reward": (1, NAN),
    "reward without end": (1, 10**400),
    "reward of shape (1,)": (1, np.array([INF])),
}


@pytest.mark.parametrize("name", FAILED)
def test_values_that_are_not_finite_end_the_episode_and_are_recorded(name, tmp_path):
    env = vector(returns=part(*FAILED[name]))
    _, reward, terminated, truncated, info = stepped(env)
    assert (reward.tolist(), terminated.tolist(), truncated.tolist()) == ([0.0] * 2, [False] * 2, [True] * 2)
    assert info["final_obs"].tolist() == [[1.0, 2.0]] * 2  # the last good one
    first, second = env.failures
    assert (first.env_index, second.env_index, first.episode_step) == (0, 1, 1)
    assert first.message == f"gymnasium:{ID}: observation or reward is not finite"
    save_failure(first, tmp_path / "record")
    replay = replay_failure(load_failure(tmp_path / "record"))
    assert replay.after == ["reward" if "reward" in name else "next_observation"]
    assert (replay.before, replay.substep) == ([], None)
    assert "does not show its state" in replay.message


# What breaks the contract ends the run, in one line that names the environment.
BROKEN = {
    "observation of another shape": (
        0,
        np.zeros(3),
        r"observation has shape \(3,\); its observation space says \(2,\)",
    ),
    "observation with one axis more": (0, np.zeros((1, 2)), r"observation has shape \(1, 2\)"),
    "observation of size 1, which would be spread": (0, np.zeros(1), r"observation has shape \(1,\)"),
    "observation of words": (0, ["a", "b"], "observation is a list of 2; use a vector of 2 numbers"),
    "ragged observation": (0, [[1.0], [1.0, 2.0]], "observation is a list of 2"),
    "no observation": (0, None, "observation is NoneType None"),
    "observation by name": (0, {"a": 1.0}, "observation is dict"),
    "reward of shape (2,)": (1, np.zeros(2), r"reward has shape \(2,\); use one number"),
    "no reward": (1, None, "reward is NoneType None; use one number"),
    "complex reward": (1, 1j, "reward is complex 1j"),
    "reward in words": (1, "12", "reward is str '12'"),
    "terminated of shape (3,)": (2, np.zeros(3, bool), r"terminated has shape \(3,\)"),
    "no terminated": (2, None, "terminated is NoneType"),
    "truncated in words": (3, "no", "truncated is str 'no'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_values_that_break_the_contract_are_one_line(name):
    place, value, message = BROKEN[name]
    env = vector(returns=part(place, value))
    with pytest.raises(BrokenEnvironmentError, match=message) as caught:
        stepped(env)
    assert str(caught.value).startswith(f"gymnasium:{ID}: environment 0, step 1 of its episode: ")
    assert "\n" not in str(caught.value)
    (failure,) = env.failures
    assert failure.seen["observation"].tolist() == [1.0, 2.0]


INFO_VALUES = {
    "bytes": b"12",
    "huge": 10**400,
    "complex": 1j,
    "none": None,
    "word": "12",
    "nan": NAN,
    "infinite": -INF,
    "array": np.zeros(3),
    "words": np.array(["a"]),
    "named": {"x": 1.0},
    7: 1.0,
}


def test_of_infos_only_numbers_are_kept():
    good = {"flag": True, "float": 0.5, "numpy": np.float32(0.25), "int": np.int64(3), "one": np.array([4.0])}
    env = vector(returns=part(4, OrderedDict(INFO_VALUES | good)))
    info = stepped(env)[4]
    assert {name: value.tolist() for name, value in info.items() if name not in ("final_obs", "failed")} == {
        "flag": [1.0] * 2,
        "float": [0.5] * 2,
        "numpy": [0.25] * 2,
        "int": [3.0] * 2,
        "one": [4.0] * 2,
    }


def test_an_info_cannot_take_the_place_of_what_the_contract_names():
    info = stepped(vector(returns=part(4, {"final_obs": 3.0, "failed": 1.0})))[4]
    assert info["final_obs"].tolist() == [[2.0, 4.0]] * 2
    assert info["failed"].tolist() == [False] * 2


def test_a_term_that_one_environment_tells_is_nan_for_the_others():
    def returns(env, action, step):
        return (*step[:4], {"told": 7.0} if action[0] > 0 else {})

    env = vector(returns=returns)
    told = env.step(torch.tensor([[0.0], [1.0]]))[4]["told"]
    assert torch.isnan(told[0])
    assert told[1] == 7.0
    assert "told" not in env.step(torch.zeros(2, 1))[4]


def test_a_start_that_is_not_finite_is_recorded_and_drawn_again():
    def starts(env, first):
        env.starts_drawn = getattr(env, "starts_drawn", 0) + 1
        return (np.array([NAN, 0.0]), {}) if env.starts_drawn == 2 else first

    env = vector(length=1, starts=starts)
    observation = env.step(torch.zeros(2, 1))[0]
    assert observation.tolist() == [[0.0, 0.0]] * 2
    assert [failure.env_index for failure in env.failures] == [0, 1]
    assert env.failures[0].message == f"gymnasium:{ID}: its reset returned an observation that is not finite"
    assert env.failures[0].seen["next_observation"].isnan().tolist() == [True, False]


def test_no_finite_start_names_the_environment():
    env = envs.make_vector(f"gymnasium:{ID}", 2, starts=lambda env, first: (np.array([0.0, INF]), {}))
    with pytest.raises(
        UserError, match=f"gymnasium:{ID}: environment 0: its reset returned an observation that is not"
    ):
        env.reset(seed=0)
    assert len(env.failures) == 20


# A reset that returns this, and what the line says.
STARTS = {
    "as Gym once did": (np.zeros(2), r"reset returned an array of shape \(2,\).*interface of Gym before 0.26"),
    "a list of two numbers": ([0.0, 0.0], "reset returned a list of 2.*interface of Gym before 0.26"),
    "nothing": (None, "reset returned NoneType None"),
    "another shape": ((np.zeros(5), {}), r"observation has shape \(5,\); its observation space says \(2,\)"),
    "a wide observation": ((np.zeros((2, 1)), {}), r"observation has shape \(2, 1\)"),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_reset_that_breaks_the_contract_is_one_line(name):
    returned, message = STARTS[name]
    env = envs.make_vector(f"gymnasium:{ID}", 2, starts=lambda env, first: returned)
    with pytest.raises(BrokenEnvironmentError, match=message) as caught:
        env.reset(seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("limit", [None, 50])
def test_four_values_of_a_step_are_the_old_interface(limit):
    env = vector(returns=lambda env, action, step: (*step[:3], {}), max_episode_steps=limit)
    with pytest.raises(
        BrokenEnvironmentError, match=r"step returned a tuple of 4; that is the interface of Gym before"
    ):
        stepped(env)


def test_what_a_step_or_reset_raises_is_recorded_with_its_traceback(tmp_path):
    def returns(env, action, step):
        raise RuntimeError("cable\nunplugged")

    env = vector(returns=returns)
    with pytest.raises(BrokenEnvironmentError, match=r"environment 0, step 0 .* its step raised RuntimeError: cable$"):
        stepped(env)
    save_failure(env.failures[0], tmp_path / "record")
    trace = load_failure(tmp_path / "record").trace
    assert "in returns" in trace
    assert "unplugged" in trace

    def starts(env, first):
        raise KeyError

    with pytest.raises(BrokenEnvironmentError, match=r"its reset raised KeyError$"):
        vector(starts=starts)


def test_returned_buffers_that_are_written_again_do_not_change_what_was_returned():
    buffer = np.zeros(2)

    def returns(env, action, step):
        buffer[:] = env.steps
        return (buffer, *step[1:])

    env = vector(1, returns=returns)
    first = env.step(torch.zeros(1, 1))
    env.step(torch.zeros(1, 1))
    assert first[0].tolist() == first[4]["final_obs"].tolist() == [[1.0, 1.0]]


def test_the_environment_itself_keeps_the_contract():
    env = Odd()
    assert env.reset(seed=0)[0].shape == env.observation_space.shape
