"""Every task against Gymnasium's own v5 environment: same states, same actions, same numbers.

The tolerance is 1e-10 in absolute and relative terms (values up to 1e5 occur). Where contact forces count
("exact" mode) they are Gymnasium's numbers; "sensor" mode has its own, looser statement below.
"""

import inspect

import gymnasium
import mujoco
import numpy as np
import pytest
import torch

import envs
from envs.catalogue import build
from envs.random import EnvironmentRandom

TASKS = [name for name in envs.task_names() if f"{name}-v5" in gymnasium.registry]
CONTACT_TASKS = ("Humanoid", "HumanoidStandup", "Ant")
TOLERANCE = {"rtol": 1e-10, "atol": 1e-10}
EXTRA_OPTIONS = {
    "Ant": [
        {
            "include_cfrc_ext_in_observation": False,
            "main_body": "front_left_leg",
            "healthy_reward": 0.3,
            "healthy_z_range": (0.4, 0.9),
        },
        {
            "exclude_current_positions_from_observation": False,
            "terminate_when_unhealthy": False,
            "contact_force_range": (-0.5, 2.0),
            "frame_skip": 3,
        },
    ],
    "HalfCheetah": [
        {"exclude_current_positions_from_observation": False, "ctrl_cost_weight": 0.3, "frame_skip": 2},
    ],
    "Hopper": [
        {
            "terminate_when_unhealthy": False,
            "exclude_current_positions_from_observation": False,
            "healthy_reward": 10.1,  # no float32
        },
        {"healthy_state_range": (-3.0, 4.0), "healthy_z_range": (0.9, 1.4), "forward_reward_weight": 2.0},
    ],
    "Humanoid": [
        {
            "include_cinert_in_observation": False,
            "include_qfrc_actuator_in_observation": False,
            "contact_cost_range": (0.001, 0.02),
            "healthy_reward": 5.1,
            "frame_skip": 3,
        },
        {
            "exclude_current_positions_from_observation": False,
            "include_cvel_in_observation": False,
            "include_cfrc_ext_in_observation": False,
            "terminate_when_unhealthy": False,
        },
    ],
    "HumanoidStandup": [
        {
            "exclude_current_positions_from_observation": False,
            "uph_cost_weight": 3.0,
            "impact_cost_weight": 1e-4,
        },
    ],
    "InvertedDoublePendulum": [{"healthy_reward": 10.1, "frame_skip": 2}],
    "InvertedPendulum": [{"frame_skip": 3}],
    "Pusher": [{"reward_near_weight": 1.5, "reward_dist_weight": 0.3, "reward_control_weight": 0.7}],
    "Reacher": [{"reward_dist_weight": 2.0, "reward_control_weight": 0.2}],
    "Swimmer": [{"exclude_current_positions_from_observation": False, "ctrl_cost_weight": 0.1}],
    "Walker2d": [
        {"healthy_z_range": (1.0, 1.5), "healthy_angle_range": (-0.4, 0.3), "ctrl_cost_weight": 0.1},
        {"terminate_when_unhealthy": False, "exclude_current_positions_from_observation": False},
    ],
}


def assert_same(ours, theirs, label):
    ours = {name: np.asarray(value) for name, value in ours.items() if name not in ("final_obs", "failed")}
    assert set(ours) == set(theirs), label
    for name, value in theirs.items():
        np.testing.assert_allclose(np.squeeze(ours[name]), value, **TOLERANCE, err_msg=f"{label}: {name}")


def put(reference, env, qpos, qvel):
    """Set one state in both and compare the start observation."""
    mujoco.mj_resetData(reference.model, reference.data)
    reference.set_state(qpos, qvel)
    ours = env.set_state(torch.tensor([0]), torch.from_numpy(qpos)[None], torch.from_numpy(qvel)[None])
    np.testing.assert_allclose(ours[0].numpy(), reference._get_obs(), **TOLERANCE, err_msg="start")


def follow(name, options, steps, episode_steps):
    """Step both with the same random actions, starting anew at episode ends; return observed rewards."""
    exact = {"contact_forces": "exact"} if name in CONTACT_TASKS else {}
    env = envs.make_vector(name, 1, num_threads=1, dtype=torch.float64, max_episode_steps=None, **options, **exact)
    reference = gymnasium.make(f"{name}-v5", **options).unwrapped
    generator = np.random.default_rng(7)
    env.reset(seed=0)
    terminations = 0
    elapsed = episode_steps
    for step in range(steps):
        if elapsed == episode_steps:
            reference.reset(seed=int(generator.integers(1 << 30)))
            put(reference, env, reference.data.qpos.copy(), reference.data.qvel.copy())
            assert_same(env._packed(env.task.reset_info(env.simulation), None), reference._get_reset_info(), "reset")
            elapsed = 0
        action = generator.uniform(env.single_action_space.low, env.single_action_space.high).astype(np.float64)
        if step % 10 == 0:
            action = action * 1.5  # beyond the bounds: the engine clamps, costs count the given action
        observation, reward, terminated, _, info = reference.step(action)
        _, our_reward, our_terminated, our_truncated, our_info = env.step(torch.from_numpy(action)[None])
        label = f"{name} {options} step {step}"
        np.testing.assert_allclose(
            our_info["final_obs"][0].numpy(), observation, **TOLERANCE, err_msg=f"{label}: observation"
        )
        np.testing.assert_allclose(our_reward.item(), reward, **TOLERANCE, err_msg=f"{label}: reward")
        assert bool(our_terminated) == bool(terminated), label
        assert not our_truncated.any(), label
        assert_same(our_info, info, label)
        elapsed += 1
        if terminated:
            terminations += 1
            elapsed = episode_steps
    return terminations


@pytest.mark.parametrize("name", TASKS)
def test_thousand_steps_with_default_options(name):
    terminations = follow(name, {}, 1000, 250)
    ends = ("Ant", "Hopper", "Humanoid", "InvertedDoublePendulum", "InvertedPendulum", "Walker2d")
    assert (terminations > 0) == (name in ends)


@pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name, sets in EXTRA_OPTIONS.items() for options in sets]
)
def test_other_options(name, options):
    follow(name, options, 1000, 250)


@pytest.mark.parametrize("name", TASKS)
def test_options_and_defaults_are_gymnasiums(name):
    reference = gymnasium.make(f"{name}-v5").unwrapped
    parameters = inspect.signature(type(reference).__init__).parameters.values()
    theirs = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    ours = envs.task_options(name)
    assert set(ours) - {"contact_forces"} == set(theirs)
    for option, default in theirs.items():
        if option == "default_camera_config":
            camera, given = dict(default or {}), dict(ours[option] or {})
            assert set(camera) == set(given)
            assert all(np.array_equal(camera[key], given[key]) for key in camera)
        else:
            assert ours[option] == default, option
    assert gymnasium.spec(f"{name}-v5").max_episode_steps == envs.make_vector(name, 1).max_episode_steps
    assert reference.action_space == envs.make_vector(name, 1).single_action_space


@pytest.mark.parametrize("name", CONTACT_TASKS)
def test_sensor_contact_forces_change_little(name):
    """With contact_forces="sensor" physics is the same bits; only numbers made of contact forces differ.

    They are the forces at the first Runge-Kutta stage of the last substep, where Gymnasium's are those of
    the last stage: two readings of one contact a fraction of a substep apart. Stated: the mean contact
    cost over a thousand steps agrees within a tenth, and everything else to 1e-10.
    """
    num_envs, steps = 4, 250
    pair = [
        envs.make_vector(name, num_envs, num_threads=1, dtype=torch.float64, contact_forces=mode)
        for mode in ("sensor", "exact")
    ]
    for env in pair:
        env.reset(seed=3)
    low, high = (
        torch.from_numpy(pair[0].single_action_space.low),
        torch.from_numpy(pair[0].single_action_space.high),
    )
    generator = torch.Generator().manual_seed(0)
    costs = torch.zeros(2)
    key = "reward_impact" if name == "HumanoidStandup" else "reward_contact"
    # Humanoid's observation ends in 13 bodies of 6 forces, as Ant's does.
    forces = 13 * 6
    for _ in range(steps):
        action = low + (high - low) * torch.rand(num_envs, len(low), generator=generator)
        sensor, exact = (env.step(action) for env in pair)
        torch.testing.assert_close(sensor[0][:, :-forces], exact[0][:, :-forces], rtol=0, atol=0)
        assert torch.equal(sensor[2], exact[2])
        without = [step[1] - step[4][key] for step in (sensor, exact)]
        torch.testing.assert_close(without[0], without[1], rtol=1e-10, atol=1e-10)
        costs += torch.tensor([sensor[4][key].mean(), exact[4][key].mean()])
    assert costs[1] < 0
    assert abs(costs[0] / costs[1] - 1) < 0.1


@pytest.mark.parametrize("name", TASKS)
def test_start_states_have_gymnasiums_distribution(name):
    """Kolmogorov-Smirnov distance of each start coordinate to Gymnasium's, and equal constants."""
    count = 300
    reference = gymnasium.make(f"{name}-v5").unwrapped
    theirs = np.empty((count, reference.model.nq + reference.model.nv))
    for index in range(count):
        reference.reset(seed=index)
        theirs[index] = reference.state_vector()
    random = EnvironmentRandom(count, 5)
    facts = envs.make_vector(name, 1).simulation.facts
    ours = torch.cat(build(name).initial_state(facts, random, torch.arange(count)), dim=1).numpy()
    for column in range(theirs.shape[1]):
        a, b = np.sort(ours[:, column]), np.sort(theirs[:, column])
        if np.ptp(b) == 0:
            np.testing.assert_array_equal(a, b)
            continue
        grid = np.concatenate([a, b])
        distance = np.abs(np.searchsorted(a, grid, "right") - np.searchsorted(b, grid, "right")).max() / count
        assert distance < 0.17, column  # p < 1e-3.5 for one coordinate of equal distributions
        assert abs(a.std() / b.std() - 1) < 0.2, column
