"""Environments that cannot be made, or not for this suite: one line at the start that says why."""

import gymnasium
import numpy as np
import pytest
from odd_environments import ID

import envs
from rlsuite.cli import run_script
from rlsuite.errors import UserError


def box(low, high, dtype):
    return gymnasium.spaces.Box(np.full(1, low, dtype), np.full(1, high, dtype), dtype=dtype)


REFUSED = {
    "missing package": (
        {"raises": ImportError("libGL.so.1: cannot open\nmore")},
        "ImportError: libGL.so.1: cannot open$",
    ),
    "missing module": ({"raises": ModuleNotFoundError("No module named 'x'")}, "No module named 'x'"),
    "no server": ({"raises": ConnectionRefusedError(111, "Connection refused")}, "ConnectionRefusedError.*refused"),
    "no word": ({"raises": ValueError()}, f"gymnasium:{ID}: ValueError$"),
    "assertion": ({"raises": AssertionError("no robot")}, "AssertionError: no robot"),
    "unknown option": ({"colour": "red"}, "unexpected keyword argument 'colour'"),
    "float32 without bounds": ({"action_space": box(-np.inf, np.inf, np.float32)}, "need finite bounds"),
    "float32 to its largest": (
        {"action_space": box(np.finfo(np.float32).min, np.finfo(np.float32).max, np.float32)},
        "need finite bounds",
    ),
    "float64 to its largest": ({"action_space": box(-np.finfo(float).max, np.finfo(float).max, np.float64)}, "finite"),
    "float64 to float32's largest": (
        {"action_space": box(-np.finfo(np.float32).max, 1.0, np.float64)},
        "need finite bounds",
    ),
    "float16 to its largest": ({"action_space": box(-65504, 65504, np.float16)}, "need finite bounds"),
    "one side": ({"action_space": box(0.0, np.inf, np.float32)}, "need finite bounds"),
    "whole numbers without bounds": (
        {"action_space": box(np.iinfo(np.int64).min, np.iinfo(np.int64).max, np.int64)},
        "need finite bounds",
    ),
    "nothing between": ({"action_space": box(0.5, 0.5, np.float64)}, "the lower below the upper"),
    "nothing between in float32": ({"action_space": box(1.0, 1.0 + 1e-12, np.float64)}, "the lower below the upper"),
    "no numbers in it": ({"action_space": gymnasium.spaces.Box(-1.0, 1.0, (0,))}, "only one-dimensional Box spaces"),
    "no space": ({"observation_space": None}, "its observation space is None"),
    "no observation_space": ({"leaves_out": "observation_space"}, "it has no observation_space; its __init__ sets it"),
    "no action_space": ({"leaves_out": "action_space"}, r"no action_space; .* self\.action_space = gymnasium.spaces"),
    "video without render_mode": ({"render_mode": "human"}, "use rgb_array"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:.*WARN.*:UserWarning")
def test_refused_in_one_line(name):
    options, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as caught:
        envs.make_vector(f"gymnasium:{ID}", 1, **options)
    assert "\n" not in str(caught.value)


def test_atari_names_its_package(monkeypatch):
    monkeypatch.delitem(gymnasium.registry, "ALE/Breakout-v5", raising=False)
    with pytest.raises(UserError, match=r"pip install ale-py, then env\.id=ale_py:ALE/Breakout-v5"):
        envs.make_vector("gymnasium:ALE/Breakout-v5", 1)


class Plain(gymnasium.Env):
    """Takes no render_mode."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self):
        pass

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}


def test_a_constructor_without_render_mode_works_and_cannot_be_drawn(monkeypatch):
    gymnasium.register("odd/Plain-v0", entry_point=Plain)
    try:
        assert envs.make_vector("gymnasium:odd/Plain-v0", 2).reset(seed=0)[0].tolist() == [[0.0, 0.0]] * 2
        with pytest.raises(UserError, match="its constructor takes no render_mode, so it cannot be drawn"):
            envs.make_vector("gymnasium:odd/Plain-v0", 1, render_mode="rgb_array")
    finally:
        del gymnasium.registry["odd/Plain-v0"]


@pytest.mark.parametrize("env", ["env=gymnasium env.id=Pendulum-v1", "env=Hopper", "env=envpool env.id=Hopper-v5"])
@pytest.mark.parametrize("key", ["num_envs=4", "num_threads=1", "device=cpu"])
def test_a_key_of_the_run_among_the_options_is_named(env, key, capsys):
    from scripts import train_agent

    assert run_script(train_agent.main, ["agent=ddpg", *env.split(), f"env.{key}"]) == 2
    said = capsys.readouterr().err
    assert f"env.{key}: this is no option of the task; write {key}" in said
    assert said.count("\n") == 1
