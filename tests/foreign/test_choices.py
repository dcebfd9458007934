"""Discrete, MultiDiscrete and MultiBinary actions: what reaches the environment, who refuses, whole runs."""

import json
import re

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from odd_environments import ID, Odd

import envs
from agents.export import export_onnx
from agents.ppo import PPO, PPOConfig
from rlsuite.cli import run_script
from rlsuite.errors import UserError
from rlsuite.records.checkpoint import latest_checkpoint
from rlsuite.running.rollout import RolloutWorker
from rlsuite.scoring import evaluate
from rlsuite.vector_env import EnvironmentFacts
from scripts import evaluate_agent, export_policy, train_agent

SPACES = {
    "one": spaces.Discrete(3),
    "one from minus two": spaces.Discrete(3, start=-2),
    "several": spaces.MultiDiscrete([2, 4]),
    "several of a shape and a start": spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[1, 0], [5, -1]]),
    "several small": spaces.MultiDiscrete([2, 3], dtype=np.int32),
    "switches": spaces.MultiBinary(3),
    "switches of a shape": spaces.MultiBinary([2, 2]),
}


def vector(space, num_envs=3):
    return envs.make_vector(f"gymnasium:{ID}", num_envs, action_space=space)


@pytest.mark.parametrize("name", SPACES)
def test_every_choice_reaches_the_environment_as_its_space_has_it(name):
    env, space = vector(SPACES[name]), SPACES[name]  # it asserts that its space contains every action
    facts = EnvironmentFacts.of(env)
    agent = PPO(facts, PPOConfig(hidden_sizes=(4,), rollout_length=4), seed=0)
    worker = RolloutWorker(env, agent, seed=0)
    for step in range(150):
        worker.step(random=step % 2 == 0)
    taken = {np.asarray(action).tobytes() for one in env._envs for action in one.unwrapped.actions}
    size = int(np.prod(space.nvec)) if isinstance(space, spaces.MultiDiscrete) else 2 ** int(np.prod(space.shape))
    assert len(taken) == (3 if isinstance(space, spaces.Discrete) else size)
    judged = evaluate(lambda seen: agent.act(seen, False), vector(space), seed=0)
    assert judged.lengths.tolist() == [5] * 3


def test_a_wrong_choice_is_brought_inside_and_a_wrong_shape_refused():
    env = vector(spaces.Discrete(3, start=5), 2)
    env.reset(seed=0)
    env.step(torch.tensor([[7], [-4]]))
    assert [int(one.unwrapped.actions[0]) for one in env._envs] == [7, 5]
    with pytest.raises(ValueError, match=r"expected \(2, 1\)"):
        env.step(torch.zeros(2, 2))


@pytest.mark.parametrize("name", SPACES)
def test_an_exported_policy_gives_actions_of_the_space(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    env, space = vector(SPACES[name]), SPACES[name]
    agent = PPO(EnvironmentFacts.of(env), PPOConfig(hidden_sizes=(4,), last_layer_gain=1.0), seed=0)
    path = export_onnx(agent, 2, tmp_path / "policy.onnx", action_space=space)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    observation = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    (actions,) = session.run(None, {"observation": observation.numpy()})
    assert all(space.contains(action) for action in actions)
    assert len(np.unique(actions.reshape(20, -1), axis=0)) > 1
    expected = agent.greedy(observation).numpy().reshape(20, *space.shape) + getattr(space, "start", 0)
    np.testing.assert_array_equal(actions, expected)


REFUSED = {
    ("ace", "one"): "use agent=ppo or dqn$",
    ("sac", "one"): "use agent=ppo or dqn$",
    ("td3", "several"): "agent=td3 is for continuous actions; use agent=ppo$",
    ("pombu", "switches"): "use agent=ppo$",
    ("dqn", "several"): r"its actions are MultiDiscrete.*chooses one of several \(Discrete\); use agent=ppo$",
    ("dqn", "switches"): "use agent=ppo$",
    ("dqn", "box"): "use agent=ppo, ace, sac or td3$",
}


@pytest.mark.parametrize(("agent", "name"), REFUSED)
def test_who_cannot_act_says_who_can(agent, name, capsys):
    space = SPACES.get(name, gymnasium.spaces.Box(-1.0, 1.0, (1,)))
    gymnasium.register("odd/Choice-v0", entry_point=Odd, kwargs={"action_space": space})
    try:
        line = [f"agent={agent}", "env=gymnasium", "env.id=odd/Choice-v0", "device=cpu", "num_threads=1"]
        assert run_script(train_agent.main, [*line, "preset=debug"]) == 2
    finally:
        del gymnasium.registry["odd/Choice-v0"]
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert re.search(REFUSED[agent, name], said), said


def test_no_choice_at_all_is_refused():
    with pytest.raises(UserError, match="action space is Text"):
        vector(spaces.Text(3))


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_train_evaluate_export_and_resume(agent, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    line = [f"agent={agent}", "env=gymnasium", "env.id=CartPole-v1", "preset=debug", "steps=600", "num_threads=1"]
    line += ["device=cpu", "evaluate.every=0", "checkpoint.every=400", "replay.prioritized=true"][
        : 4 - (agent == "ppo")
    ]
    run = tmp_path / "run"
    assert run_script(train_agent.main, [*line, f"run_dir={run}"]) == 0
    assert run_script(evaluate_agent.main, [f"run={run}", "episodes=2", "device=cpu", "num_threads=1"]) == 0
    assert json.loads(capsys.readouterr().out.strip().splitlines()[-1])["mean"] > 0.0
    assert run_script(export_policy.main, [f"run={run}", "device=cpu"]) == 0
    assert json.loads(capsys.readouterr().out.strip().splitlines()[-1])["largest_difference"] == 0.0
    assert run_script(train_agent.main, [f"resume={run}", "steps=700"]) == 0
    assert latest_checkpoint(run).name in ("700", "704")
