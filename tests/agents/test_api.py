import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from toy_environments import PointEnv

import agents
import rlsuite
from agents import load, resume, train
from envs.adapters import given
from rlsuite.errors import UserError

SMALL = {
    "steps": 300,
    "num_envs": 2,
    "num_threads": 1,
    "device": "cpu",
    "learning_starts": 100,
    "console": False,
    "settings": {
        "agent.batch_size": 16,
        "replay.capacity": 1000,
        "evaluate.every": 150,
        "evaluate.episodes": 3,
        "log.every": 100,
        "checkpoint.every": 100,
    },
}


class Corridor(gymnasium.Env):
    observation_space = Box(-10.0, 10.0, (1,), np.float32)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, length=1.0):
        self.length = length
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = np.zeros(1, np.float32), 0
        return self.place.copy(), {}

    def step(self, action):
        self.place += 0.1 * np.clip(action, -1.0, 1.0).astype(np.float32)
        self.steps += 1
        return self.place.copy(), float(action[0]), bool(self.place[0] >= self.length), self.steps >= 20, {}


class CopiedPoint(PointEnv):
    """Vector environments whose state can be kept, and that count how often they are stepped."""

    def state(self):
        return {"x": self.x.clone(), "elapsed": self.elapsed.clone(), "generator": self.generator.get_state()}

    def load_state(self, state):
        self.x, self.elapsed = state["x"].clone(), state["elapsed"].clone()
        self.generator.set_state(state["generator"])


def trained(env, folder, **more):
    return train("td3", env, run_dir=folder, **{**SMALL, **more})


def test_ten_lines_train_evaluate_load_and_act(tmp_path):
    seen = []
    run = trained("InvertedPendulum", tmp_path / "run", callbacks=[lambda *said: seen.append(said)])
    assert run.steps == 300
    assert {kind for _, kind, _ in seen} == {"train", "evaluate"}
    assert [step for step, kind, _ in seen if kind == "evaluate"] == [150, 300]
    loaded = load(tmp_path / "run")
    observation = np.zeros(4, np.float32)
    action = loaded.act(observation)
    assert isinstance(action, np.ndarray)
    assert action.shape == (1,)
    assert np.array_equal(action, run.act(observation))
    batch = loaded.act(torch.zeros(5, 4))
    assert isinstance(batch, torch.Tensor)
    assert batch.shape == (5, 1)
    scored = loaded.evaluate(episodes=4)
    assert np.array_equal(scored.returns, run.evaluate(episodes=4).returns)
    assert len(scored.returns) == 4
    with pytest.raises(UserError, match=r"shape \(3,\) came where \(4,\)"):
        loaded.act(np.zeros(3))


@pytest.mark.parametrize(
    "env", [Corridor, lambda: Corridor(length=1.0), Corridor(0.5)], ids=["class", "function", "object"]
)
def test_an_environment_may_be_a_python_object(env, tmp_path):
    whole = trained(env, tmp_path / "whole")
    assert len(whole.evaluate(episodes=3).returns) == 3
    half = trained(env, tmp_path / "half", callbacks=[lambda step, kind, numbers: step < 200])
    assert half.steps == 200
    resumed = resume(tmp_path / "half", env=env, console=False)
    assert resumed.steps == 300
    if isinstance(env, Corridor):
        assert env.steps == 0  # copies were stepped


def test_vector_environments_may_be_given(tmp_path):
    env = CopiedPoint(3)
    run = trained(env, tmp_path / "object", num_envs=3, settings={**SMALL["settings"], "evaluate.episodes": 3})
    assert run.config.num_envs == 3
    assert env.steps == 0
    function = trained(lambda num_envs: CopiedPoint(num_envs), tmp_path / "function")
    assert len(function.evaluate(episodes=5).returns) == 5
    with pytest.raises(UserError, match="has 3 environments where 2 are wanted; give a function of num_envs"):
        trained(env, tmp_path / "other")


def test_a_run_on_an_object_resumes_bit_for_bit_when_the_environments_can(tmp_path):
    def point(num_envs):
        return CopiedPoint(num_envs)

    whole = trained(point, tmp_path / "whole")
    trained(point, tmp_path / "half", callbacks=[lambda step, kind, numbers: step < 200])
    resumed = resume(tmp_path / "half", env=point, console=False)
    for name, tensor in whole.agent.state_dict().items():
        assert torch.equal(torch.as_tensor(tensor), torch.as_tensor(resumed.agent.state_dict()[name])), name


def test_what_cannot_be_used_is_said_in_one_line(tmp_path):
    trained(Corridor, tmp_path / "run", steps=100, settings={**SMALL["settings"], "evaluate.every": 0})
    given._given.clear()
    with pytest.raises(UserError, match=r"python:Corridor was given as a Python object; give it again"):
        load(tmp_path / "run")
    load(tmp_path / "run", env=Corridor)
    with pytest.raises(UserError, match="or pretrained= and a name"):
        load()
    with pytest.raises(UserError, match="already holds a run"):
        trained(Corridor, tmp_path / "run")
    with pytest.raises(UserError, match="give the class or function"):
        trained(gymnasium.make_vec("Pendulum-v1", 2), tmp_path / "vec")
    with pytest.raises(UserError, match="give a name, a Gymnasium environment"):
        trained(3, tmp_path / "three")
    with pytest.raises(UserError, match="unknown"):
        trained("InvertedPendulum", tmp_path / "key", stepz=3)
    trained("InvertedPendulum", tmp_path / "named", steps=100)
    with pytest.raises(UserError, match="which has a name; leave env out"):
        load(tmp_path / "named", env=Corridor)


class Nan(Corridor):
    """Its name would be read as a number."""


class Wide(Corridor):
    observation_space = Box(-10.0, 10.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}


class Lost(Corridor):
    def step(self, action):
        if self.total > 55:
            raise OSError("robot lost")
        self.total += 1
        return super().step(action)

    total = 0


def test_an_object_that_breaks_or_has_changed_is_said_as_python_says_it(tmp_path):
    folder, off = tmp_path / "a run", {"settings": {**SMALL["settings"], "evaluate.every": 0}}
    with pytest.raises(UserError, match="robot lost") as caught:
        trained(Lost, folder, **off)
    assert str(caught.value).endswith(f"(saved at step 112; to continue: agents.resume('{folder}', env=...))")
    for again in (load, resume):
        with pytest.raises(UserError, match=r"whose shapes differ from the run's .* give the environment that the"):
            again(folder, env=Wide)
    assert resume(folder, env=Corridor, console=False, steps=130).steps == 130


@pytest.mark.parametrize(
    ("agent", "env", "more", "said"),
    [
        ("td3", "Hopper", {"settings": ["steps=3"]}, r"settings=\['steps=3'\]: use a dict of keys"),
        (Corridor, "Hopper", {}, r"agent=<class .*>: give its name, such as \"td3\""),
        ("td3", "Pendulum-v1", {}, r"unknown task 'Pendulum-v1'; for Gymnasium's own write \"gymnasium:Pendulum-v1\"$"),
        ("td3", "Hopper-v4", {}, r"write \"gymnasium:Hopper-v4\", for the suite's \"Hopper\"$"),
    ],
)
def test_wrong_words_from_python_are_one_line(agent, env, more, said, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        train(agent, env, run_dir=tmp_path / "run", **more)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"settings=\[\]: use a dict"):
        resume(tmp_path, settings=[])


def test_a_class_may_have_a_name_that_reads_as_a_number(tmp_path):
    run = trained(Nan, tmp_path / "run", steps=100, settings={**SMALL["settings"], "evaluate.every": 0})
    assert run.config.env.id == "Nan"
    assert load(tmp_path / "run", env=Nan).config.env.id == "Nan"


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert rlsuite.__version__ == version("rlsuite")
    with pytest.raises(AttributeError):
        agents.nothing  # noqa: B018
