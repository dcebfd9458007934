"""Tasks of a fixed horizon with known rewards: indices, rewards by hand, noise, no termination."""

import gymnasium
import mujoco
import pytest
import torch

import envs
from envs.catalogue import build
from rlsuite.errors import UserError

LONG = [name for name in envs.task_names() if name.startswith("FixedHorizon") and name.endswith("Long")]
NOISY = [f"FixedHorizonHalfCheetah{noise}" for noise in ("NoisyObservation", "NoisyAction")]
NAMES = [name for name in envs.task_names() if name.startswith("FixedHorizon") and name not in (*LONG, *NOISY)]
# Observation size, where the forward velocity is in it (arXiv:1911.12574, environments).
SIZES = {"HalfCheetah": (17, 8), "Swimmer": (8, 3), "Hopper": (11, 5), "Walker2d": (17, 8), "Ant": (27, 13)}


@pytest.mark.parametrize("name", NAMES)
def test_the_reward_is_the_known_function_of_observation_and_action(name):
    body = name.removeprefix("FixedHorizon")
    size, index = SIZES[body]
    env = envs.make_vector(name, 4, num_threads=1, dtype=torch.float64)
    observation, _ = env.reset(seed=0)
    assert observation.shape == (4, size)
    assert env.max_episode_steps == 200
    generator = torch.Generator().manual_seed(0)
    low, high = (
        torch.from_numpy(bound).double() for bound in (env.single_action_space.low, env.single_action_space.high)
    )
    for _ in range(20):
        action = torch.lerp(low, high, torch.rand(4, len(low), generator=generator, dtype=torch.float64))
        following, reward, terminated, _, info = env.step(action)
        torch.testing.assert_close(env.known_reward(observation, action, following), reward, rtol=0, atol=1e-10)
        torch.testing.assert_close(info["x_velocity"], observation[:, index], rtol=0, atol=1e-12)
        assert not terminated.any()
        observation = following
    # The velocity's place: moving the body forward by dt changes nothing but is what the simulator calls qvel[0].
    torch.testing.assert_close(observation[:, index], env.simulation.field("qvel")[:, 0])


@pytest.mark.parametrize("name", NAMES)
def test_the_angles_are_the_hinges(name):
    env = envs.make_vector(name, 1, num_threads=1)
    model = env.simulation.model
    hinges = model.jnt_qposadr[model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE]
    # Ant's torso turns as a quaternion, which is no angle.
    assert env.angles == tuple(hinges - build(name).first_position)


def test_angles_outside_the_observation_are_refused(monkeypatch):
    monkeypatch.setattr(type(build("FixedHorizonHopper")), "angles", (3, 11))
    with pytest.raises(UserError, match=r"angles=\(3, 11\): use places in its observation of 11"):
        envs.make_vector("FixedHorizonHopper", 1, num_threads=1)


def test_rewards_by_hand():
    observation = torch.zeros(1, 11)
    observation[0, 0], observation[0, 5] = 1.5, 2.0
    action = torch.tensor([[1.0, -1.0, 0.5]])
    # 2 - 0.1 * 2.25 - 3 * 0.2^2 + 1
    assert build("FixedHorizonHopper").reward(observation, action, None).item() == pytest.approx(2.655)
    cheetah = torch.zeros(1, 17)
    cheetah[0, 8] = 3.0
    assert build("FixedHorizonHalfCheetah").reward(cheetah, torch.ones(1, 6), None).item() == pytest.approx(2.4)
    swimmer = torch.zeros(1, 8)
    swimmer[0, 3] = 0.5
    assert build("FixedHorizonSwimmer").reward(swimmer, torch.ones(1, 2), None).item() == pytest.approx(0.4998)


def test_episodes_have_200_steps_and_the_long_variant_1000():
    for limit in (200, 1000):
        env = envs.make_vector("FixedHorizonHopper", 2, num_threads=1, max_episode_steps=limit)
        env.reset(seed=0)
        for step in range(1, limit + 1):
            *_, terminated, truncated, _ = env.step(torch.zeros(2, 3))
            assert not terminated.any()
            assert truncated.all() == (step == limit)


def test_noise_on_observations_is_uniform_anew_each_step_and_the_reward_knows_none():
    noisy = envs.make_vector("FixedHorizonHalfCheetah", 50, num_threads=1, dtype=torch.float64, observation_noise=0.1)
    plain = envs.make_vector("FixedHorizonHalfCheetah", 50, num_threads=1, dtype=torch.float64)
    first, _ = noisy.reset(seed=0)
    state = noisy.state()
    plain.reset(seed=0)
    plain.load_state({name: value for name, value in state.items() if not name.startswith("memory")})
    differences = []
    for _ in range(5):
        action = torch.zeros(50, 6)
        one, two = noisy.step(action), plain.step(action)
        torch.testing.assert_close(one[1], two[1])
        differences.append(one[0] - two[0])
    difference = torch.stack(differences)
    assert difference.abs().max() <= 0.1
    assert abs(float(difference.std()) - 0.1 / 3**0.5) < 0.003
    assert not torch.equal(differences[0], differences[1])
    noisy.load_state(state)  # noise, too, resumes to the bit
    torch.testing.assert_close(noisy.step(torch.zeros(50, 6))[0], plain_first(noisy, state), rtol=0, atol=0)
    assert first.shape == (50, 17)


def plain_first(env, state):
    env.load_state(state)
    return env.step(torch.zeros(50, 6))[0]


def test_noise_on_actions():
    env = envs.make_vector("FixedHorizonHalfCheetah", 30, num_threads=1, action_noise=0.1)
    env.reset(seed=0)
    env.step(torch.full((30, 6), 0.5))
    control = env.simulation.field("ctrl")
    assert ((control - 0.5).abs() <= 0.1).all()
    assert float(control.std()) > 0.03


def test_every_body_has_a_long_relative_that_differs_in_its_time_limit_alone():
    assert sorted(LONG) == sorted(f"{name}Long" for name in NAMES)
    for name in LONG:
        env, plain = (envs.make_vector(each, 1, num_threads=1) for each in (name, name.removesuffix("Long")))
        assert (env.max_episode_steps, plain.max_episode_steps) == (1000, 200)
        assert envs.task_options(name) == envs.task_options(name.removesuffix("Long"))
        assert env.spec_id == f"rlsuite/{name}"
        assert gymnasium.spec(f"rlsuite/{name}").max_episode_steps == 1000
        torch.testing.assert_close(env.reset(seed=3)[0], plain.reset(seed=3)[0])


def test_noisy_relatives_of_the_cheetah():
    plain = envs.task_options("FixedHorizonHalfCheetah")
    for name, option in zip(NOISY, ("observation_noise", "action_noise"), strict=True):
        assert envs.task_options(name) == plain | {option: 0.1}
        env = envs.make_vector(name, 2, num_threads=1, **{option: 0.01})  # the paper's weaker ones
        assert getattr(env.task, option) == 0.01
        assert env.max_episode_steps == 200
        assert env.known_reward is not None


def test_registered_and_refused():
    assert gymnasium.spec("rlsuite/FixedHorizonAnt").max_episode_steps == 200
    with pytest.raises(UserError, match=r"env\.observation_noise=-1"):
        envs.make_vector("FixedHorizonAnt", 1, observation_noise=-1.0)
