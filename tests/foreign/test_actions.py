"""Every action that reaches an environment, or leaves an ONNX file, lies in its Box, in the Box's own dtype."""

import dataclasses

import gymnasium
import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from odd_environments import ID

import envs
from agents.actor_critic import ActorCritic
from agents.actor_critic_config import ActorCriticConfig
from agents.export import difference_in_onnxruntime, export_onnx
from agents.ppo import PPO, PPOConfig
from rlsuite.nn.action_range import ActionBox, ActionRange, policy_bounds
from rlsuite.nn.actors import ActorConfig
from rlsuite.nn.critics import CriticConfig
from rlsuite.running.rollout import RolloutWorker
from rlsuite.scoring import evaluate
from rlsuite.vector_env import EnvironmentFacts


def box(low, high, dtype):
    return gymnasium.spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)


BOXES = {
    "float64 of a tenth": box([-0.1], [0.1], np.float64),
    "float64 of odd numbers": box([-0.3, 1 / 3], [0.7, 2 / 3], np.float64),
    "float32 of odd numbers": box([-0.3, 1 / 3], [0.7, 2 / 3], np.float32),
    "float16": box([-0.1], [0.7], np.float16),
    "whole numbers": box([0, -3], [2, 3], np.int64),
    "bytes": box([0], [255], np.uint8),
    "small whole numbers": box([-128], [127], np.int8),
}


def vector(space, num_envs=3):
    return envs.make_vector(f"gymnasium:{ID}", num_envs, action_space=space)


def agent_for(kind, env, num_envs=3):
    small = {"actor": ActorConfig(hidden_sizes=(4,)), "critic": CriticConfig(hidden_sizes=(4,))}
    config = PPOConfig(hidden_sizes=(4,), initial_log_std=1.0) if kind is PPO else ActorCriticConfig(**small)
    return kind(dataclasses.replace(EnvironmentFacts.of(env), num_envs=num_envs), config)


@pytest.mark.parametrize("kind", [ActorCritic, PPO])
@pytest.mark.parametrize("name", BOXES)
def test_training_and_evaluation_keep_to_the_box(name, kind):
    env = vector(BOXES[name])  # it asserts that its Box contains every action
    agent = agent_for(kind, env)
    worker = RolloutWorker(env, agent, seed=0)
    for step in range(40):
        worker.step(random=step < 10)
    judged = evaluate(lambda observation: agent.act(observation, False), vector(BOXES[name]), seed=0)
    assert judged.lengths.tolist() == [5] * 3
    for edge in (1.0, -1.0):  # saturated policies, whose actions lie on the bounds but for rounding
        evaluate(
            lambda _, e=edge: agent.action_range.to_environment(torch.full((3, agent.action_range.size), e)),
            env,
            seed=0,
        )
    taken = np.concatenate([one.unwrapped.actions for one in env._envs])
    assert taken.dtype == BOXES[name].dtype
    # The bounds are reached where the policy asks for them, but for a last digit.
    np.testing.assert_allclose(taken.min(axis=0), BOXES[name].low, rtol=1e-6)
    np.testing.assert_allclose(taken.max(axis=0), BOXES[name].high, rtol=1e-6)


def test_the_case_that_float32_cannot_hold():
    env = vector(BOXES["float64 of a tenth"], 1)
    assert float(env.single_action_space.high[0]) < 0.1 < float(np.float32(0.1))
    env.reset(seed=0)
    env.step(torch.tensor([[0.1]]))  # more than 0.1 once it is float64
    env.step(np.array([[7.0]]))
    assert [float(action[0]) for action in env._envs[0].unwrapped.actions] == [0.1, 0.1]


def test_whole_numbers_are_rounded_evenly():
    env = vector(box([0], [2], np.int64), 1)
    env.reset(seed=0)
    for wanted in (-0.5, -0.4, 0.5, 0.51, 1.5, 1.6, 2.5):
        env.step(torch.tensor([[wanted]], dtype=torch.float64))
    assert [int(action[0]) for action in env._envs[0].unwrapped.actions] == [0, 0, 0, 1, 2, 2, 2]
    # Uniform over the bounds that a policy sees, each of the three has a third.
    low, high = policy_bounds(np.array([0]), np.array([2]))
    assert (low.tolist(), high.tolist()) == ([-0.5], [2.5])
    draws = torch.lerp(torch.tensor(low), torch.tensor(high), (torch.arange(3000) + 0.5).unsqueeze(1) / 3000)
    assert ActionBox(np.array([0]), np.array([2]))(draws).unique(return_counts=True)[1].tolist() == [1000] * 3


FLOATS = [np.float16, np.float32, np.float64]


@given(
    st.sampled_from(FLOATS).flatmap(
        lambda dtype: arrays.arrays(dtype, (2, 3), elements={"min_value": -8, "max_value": 8})
    )
)
def test_whatever_the_bounds_are_a_policy_stays_inside(bounds):
    low, high = np.sort(bounds, axis=0)
    inner_low, inner_high = policy_bounds(low, high)
    assert (inner_low.astype(np.float64) >= low).all()
    assert (inner_high.astype(np.float64) <= high).all()
    assert (np.nextafter(inner_high, np.float32(9)) > high).all()  # the outermost
    span = ActionRange(torch.from_numpy(inner_low), torch.from_numpy(inner_high))
    space = gymnasium.spaces.Box(low, high, dtype=low.dtype.type)
    for edge in (-1.0, -0.3, 1.0, 5.0):
        action = ActionBox(low, high)(span.to_environment(torch.full((3,), edge)))
        assert space.contains(action.numpy())


class Edge(torch.nn.Module):
    """A policy that asks for the upper bound, or more."""

    def __init__(self, space):
        super().__init__()
        low, high = policy_bounds(space.low, space.high)
        self.action_range = ActionRange(torch.from_numpy(low), torch.from_numpy(high))
        self.one = torch.nn.Parameter(torch.ones(()))

    def greedy(self, observation):
        return self.action_range.to_environment((observation[:, :1].float() * self.one).clamp(-1.0, 1.0) * 1.000001)


@pytest.mark.parametrize("name", ["float64 of odd numbers", "whole numbers"])
def test_what_leaves_an_onnx_file_lies_in_the_box(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    space = BOXES[name]
    agent, path = Edge(space), tmp_path / "policy.onnx"
    export_onnx(agent, 2, path, action_space=space)
    observation = torch.linspace(-2, 2, 41).unsqueeze(1).repeat(1, 2)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (actions,) = session.run(None, {"observation": observation.numpy()})
    assert actions.dtype == space.dtype
    assert all(space.contains(action) for action in actions)
    np.testing.assert_allclose(actions[0], space.low, rtol=1e-6)
    np.testing.assert_allclose(actions[-1], space.high, rtol=1e-6)
    assert difference_in_onnxruntime(agent, path, observation, action_space=space) < 1e-6
