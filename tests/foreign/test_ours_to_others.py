"""The suite's tasks under Gymnasium's own wrappers, and copied."""

import copy

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers.vector import NormalizeReward, RecordEpisodeStatistics

import envs

LIMIT = 7


def made(task, **options):
    options = {"num_envs": 3, "vectorization_mode": "vector_entry_point", **options}
    return gymnasium.make_vec(f"rlsuite/{task}", max_episode_steps=LIMIT, **options)


def rolled(env, steps=20, seed=4):
    env.reset(seed=seed)
    env.action_space.seed(0)
    return [env.step(env.action_space.sample()) for _ in range(steps)]


@pytest.mark.parametrize("task", ["HalfCheetah", "FetchReach"])
def test_episode_statistics_are_those_of_the_rewards(task):
    plain, env = rolled(made(task)), RecordEpisodeStatistics(made(task))
    steps = rolled(env)
    for one, other in zip(plain, steps, strict=True):
        np.testing.assert_array_equal(one[1], other[1])
        assert isinstance(other[1], np.ndarray)
    rewards = np.array([step[1] for step in plain], np.float64)
    for index, step in enumerate(steps):
        ends = (index + 1) % LIMIT == 0
        assert step[3].tolist() == [ends] * 3
        assert ("episode" in step[4]) == ends
        if ends:
            np.testing.assert_allclose(
                step[4]["episode"]["r"], rewards[index + 1 - LIMIT : index + 1].sum(axis=0), rtol=1e-6
            )
            assert step[4]["episode"]["l"].tolist() == [LIMIT] * 3
    assert list(env.length_queue) == [LIMIT] * 6
    np.testing.assert_allclose(list(env.return_queue)[:3], rewards[:LIMIT].sum(axis=0), rtol=1e-6)


def test_rewards_are_normalized_as_gymnasiums_own_are():
    discount, epsilon = 0.9, 1e-8
    plain, steps = rolled(made("HalfCheetah")), rolled(NormalizeReward(made("HalfCheetah"), gamma=discount))
    accumulated, seen = np.zeros(3), []
    for step, normalized in zip(plain, steps, strict=True):
        accumulated = accumulated * discount + step[1]
        seen.append(accumulated.copy())
        # Gymnasium's running moments begin with a count of 1e-4 at mean 0 and variance 1.
        rows = np.concatenate(seen)
        total = len(rows) + 1e-4
        mean = rows.sum() / total
        variance = (((rows - mean) ** 2).sum() + 1e-4 * (1.0 + mean**2)) / total
        np.testing.assert_allclose(normalized[1], step[1] / np.sqrt(variance + epsilon), rtol=1e-4)
        accumulated[step[2] | step[3]] = 0.0


def test_the_vector_view_is_numpy_throughout_and_shows_the_environment_behind_it():
    env = made("FetchReach")
    observation, _ = env.reset(seed=0)
    assert {type(part) for part in observation.values()} == {np.ndarray}
    info = env.step(env.action_space.sample())[4]
    assert isinstance(info["final_obs"]["desired_goal"], np.ndarray)
    assert isinstance(info["is_success"], np.ndarray)
    assert env.spec_id == "rlsuite/FetchReach"
    assert env.max_episode_steps == LIMIT
    with pytest.raises(AttributeError):
        env.nothing  # noqa: B018


def test_frames_are_collected():
    env = gymnasium.make("rlsuite/HalfCheetah", render_mode="rgb_array_list", width=32, height=24)
    assert env.render_mode == "rgb_array_list"
    try:
        env.reset(seed=0)
        for _ in range(3):
            env.step(env.action_space.sample())
    except envs.UserError:
        pytest.skip("no OpenGL here")
    frames = env.render()
    assert [frame.shape for frame in frames] == [(24, 32, 3)] * 4
    env.close()


def values(step):
    observation = step[0] if isinstance(step[0], dict) else {"": step[0]}
    return [*observation.values(), *(np.asarray(part) for part in step[1:4])]


@pytest.mark.parametrize(
    "task", ["Hopper", "FetchReach", "HandReach", "Painting", "FixedHorizonHalfCheetahNoisyAction"]
)
def test_a_copied_environment_goes_on_alike_and_apart(task):
    env = gymnasium.make(f"rlsuite/{task}", **({"size": 16, "num_pictures": 8} if task == "Painting" else {}))
    env.action_space.seed(1)
    env.reset(seed=5)
    actions = [env.action_space.sample() for _ in range(8)]
    for action in actions[:3]:
        env.step(action)
    copied = copy.deepcopy(env)
    ours = [values(env.step(action)) for action in actions[3:]]
    theirs = [values(copied.step(action)) for action in actions[3:]]  # after: neither has moved the other
    for one, other in zip(ours, theirs, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    for one, other in zip(values(env.reset()), values(copied.reset()), strict=True):
        np.testing.assert_array_equal(one, other)  # the random stream, too
    env.close()
    copied.step(actions[0])


def test_a_copy_of_a_fresh_environment_works():
    copied = copy.deepcopy(gymnasium.make("rlsuite/Reacher"))
    assert copied.reset(seed=0)[0].shape == (10,)
