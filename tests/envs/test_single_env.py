"""The single view that other libraries use through Gymnasium's registry."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import envs
from envs import catalogue
from rlsuite.errors import UserError

TASKS = envs.task_names()


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.filterwarnings("ignore:.*Box observation space:UserWarning")
@pytest.mark.filterwarnings("ignore:.*symmetric and normalized:UserWarning")
@pytest.mark.filterwarnings("error:.*WARN.*:UserWarning")
def test_passes_gymnasiums_checker(name):
    check_env(gymnasium.make(f"rlsuite/{name}").unwrapped, skip_render_check=True)


def test_registered_limits_and_options():
    for name in TASKS:
        spec = gymnasium.spec(f"rlsuite/{name}")
        limit = 100 if "Manipulate" in name else 50  # of the tasks with goals
        if name.startswith("FixedHorizon"):
            limit = 1000 if name.endswith("Long") else 200
        limit = {"Point3D": 30, "LearningToRun": 1000}.get(name, limit)
        if getattr(catalogue.task_class(name), "ends_itself", False):
            limit = None
        if f"{name}-v5" in gymnasium.registry:
            limit = gymnasium.spec(f"{name}-v5").max_episode_steps
        assert spec.max_episode_steps == limit
    env = gymnasium.make("rlsuite/Hopper", healthy_z_range=(0.2, 9.0))
    assert env.unwrapped.vector.task.healthy_z_range == (0.2, 9.0)
    with pytest.raises(UserError, match="did you mean 'healthy_z_range'"):
        gymnasium.make("rlsuite/Hopper", healthy_range=(0.2, 9.0))


@pytest.mark.parametrize("name", [name for name in TASKS if catalogue.family(name) == "general"])
def test_limits_known_before_a_task_is_imported_are_its_classes(name):
    kind = catalogue.task_class(name)
    limit = None if getattr(kind, "ends_itself", False) else kind.max_episode_steps
    assert catalogue.limit(name) == limit


def test_the_package_imports_no_task():
    """Forty rooms of tasks must not cost whoever wants one of them."""
    code = "import sys, envs; print(*(name for name in sys.modules if name.startswith(('envs.', 'renderers'))))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    families = ("envs.locomotion", "envs.goals", "envs.painting", "envs.adapters", "renderers")
    assert "envs.catalogue" in loaded
    assert [name for name in loaded if name.startswith(families)] == []


def test_time_limit_is_gymnasiums():
    env = gymnasium.make("rlsuite/Reacher")
    env.reset(seed=0)
    env.action_space.seed(0)
    flags = [env.step(env.action_space.sample())[2:4] for _ in range(50)]
    assert flags == [(False, False)] * 49 + [(False, True)]


def test_no_reset_within_a_step_and_info_of_plain_numbers():
    env = gymnasium.make("rlsuite/Humanoid").unwrapped
    reference = gymnasium.make("Humanoid-v5").unwrapped
    env.action_space.seed(0)
    reference.action_space.seed(0)
    _, info = env.reset(seed=0)
    assert set(info) == set(reference.reset(seed=0)[1])
    for _ in range(60):
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert terminated  # long fallen, and still falling: nothing was reset
    assert observation.dtype == np.float64
    assert isinstance(reward, float)
    assert not truncated
    assert set(info) == set(reference.step(reference.action_space.sample())[4])
    assert isinstance(info["x_velocity"], float)
    assert info["tendon_length"].shape == (2,)


def test_same_episode_as_environment_zero_of_a_vector():
    single = gymnasium.make("rlsuite/Ant").unwrapped
    vector = envs.make_vector("Ant", 3, dtype=torch.float64)
    alone, _ = single.reset(seed=8)
    together, _ = vector.reset(seed=8)
    np.testing.assert_array_equal(alone, together[0].numpy())
    vector.action_space.seed(0)  # some actions throw the ant out of bounds, and only the vector begins anew then
    for _ in range(10):
        action = vector.action_space.sample()
        alone, reward = single.step(action[0])[:2]
        step = vector.step(action)
        np.testing.assert_array_equal(alone, step[4]["final_obs"][0].numpy())
        assert reward == float(step[1][0])
        assert not step[2][0]


def test_failed_simulation_truncates():
    env = gymnasium.make("rlsuite/HalfCheetah").unwrapped
    last, _ = env.reset(seed=0)
    env.vector.simulation.field("qvel")[0, 1] = float("nan")
    observation, reward, terminated, truncated, info = env.step(np.zeros(6))
    np.testing.assert_array_equal(observation, last)
    assert (reward, terminated, truncated, info["failed"]) == (0.0, False, True, True)
    observation, _ = env.reset()
    assert np.isfinite(env.step(np.zeros(6))[0]).all()
    with pytest.raises(ValueError, match="expected \\(6,\\)"):
        env.step(np.zeros(5))


def test_make_vec():
    env = gymnasium.make_vec("rlsuite/Hopper", num_envs=3, vectorization_mode="vector_entry_point", frame_skip=2)
    assert isinstance(env.unwrapped, envs.VectorEnv)
    assert (env.num_envs, env.max_episode_steps, env.task.frame_skip) == (3, 1000, 2)
    observation, _ = env.reset(seed=0)
    assert observation.shape == (3, 11)
    sync = gymnasium.make_vec("rlsuite/Hopper", num_envs=2, vectorization_mode="sync")
    assert sync.reset(seed=0)[0].shape == (2, 11)


def test_pictures():
    env = gymnasium.make("rlsuite/HalfCheetah", render_mode="rgb_array", width=64, height=48)
    env.reset(seed=0)
    try:
        picture = env.render()
    except UserError:
        pytest.skip("no OpenGL here")
    assert picture.shape == (48, 64, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 5
    vector = envs.make_vector("HalfCheetah", 2, render_mode="rgb_array")
    vector.reset(seed=0)
    vector.step(torch.ones(2, 6))
    state = vector.state()
    assert vector.render(0).shape == (480, 480, 3)
    assert not np.array_equal(vector.render(0), vector.render(1))
    assert all(torch.equal(value, vector.state()[name]) for name, value in state.items())
    vector.close()
    with pytest.raises(ValueError, match="render_mode='rgb_array'"):
        envs.make_vector("HalfCheetah", 1).render()


def test_floors_have_no_end_where_a_runner_gets():
    env = envs.make_vector("HalfCheetah", 1, render_mode="rgb_array", num_threads=1)
    env.reset(seed=0)
    pictures = []
    for place in (0.0, 84.0):  # the model's floor ends at 40 m; a whole number of its squares apart
        env.simulation.field("qpos")[:, 0] = place
        try:
            pictures.append(env.render().astype(int))
        except UserError:
            pytest.skip("no OpenGL here")
    env.close()
    below = slice(300, 480)  # the horizon lies above
    assert np.abs(pictures[0][below] - pictures[1][below]).mean() < 20.0
    assert pictures[1][below].std() > 30.0  # squares


@pytest.mark.parametrize("algorithm", ["PPO", "TD3"])
def test_trains_under_stable_baselines(algorithm):
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    env = gymnasium.make("rlsuite/Hopper")
    if algorithm == "PPO":
        model = stable_baselines3.PPO("MlpPolicy", env, n_steps=128, batch_size=64, n_epochs=2, device="cpu")
    else:
        model = stable_baselines3.TD3("MlpPolicy", env, learning_starts=100, batch_size=32, device="cpu")
    model.learn(256)
    assert model.num_timesteps >= 256
