"""Point 3-D: where it goes, what it is paid, how long an episode is."""

import pytest
import torch

import envs


def make(number=4):
    return envs.make_vector("Point3D", number, num_threads=1, dtype=torch.float64)


def test_a_step_adds_the_clipped_action_and_costs_the_distance_that_is_left():
    env = make()
    observation, _ = env.reset(seed=0)
    assert observation.shape == (4, 3)
    assert (observation.abs() <= 1.0).all()
    for scale in (0.05, 0.1, 3.0):
        action = scale * (2.0 * torch.rand(4, 3, dtype=torch.float64) - 1.0)
        following, reward, terminated, _, _ = env.step(action)
        torch.testing.assert_close(following, observation + action.clamp(-0.1, 0.1), rtol=0, atol=1e-12)
        torch.testing.assert_close(reward, -following.norm(dim=1))
        torch.testing.assert_close(env.known_reward(observation, action, following), reward)
        assert not terminated.any()
        observation = following


def test_rewards_of_members_next_observations_at_once():
    following = torch.tensor([[[3.0, 4.0, 0.0]], [[0.0, 0.0, 0.5]]])  # two members, one row
    reward = make(1).known_reward(torch.zeros(1, 3), torch.zeros(1, 3), following)
    assert reward.flatten().tolist() == pytest.approx([-5.0, -0.5])


def test_bounds_starts_and_episodes_of_30_steps():
    env = make(500)
    assert env.single_action_space.low.tolist() == pytest.approx([-0.1] * 3)
    observation, _ = env.reset(seed=1)
    assert abs(float(observation.mean())) < 0.06  # uniform in [-1, 1]
    assert abs(float(observation.std()) - 3**-0.5) < 0.03
    for step in range(1, 31):
        *_, truncated, info = env.step(torch.zeros(500, 3))
        assert truncated.all() == (step == 30)
    torch.testing.assert_close(info["final_obs"], observation)
    assert not torch.equal(env.observation(), observation)  # the next episode's


def test_state_resumes_to_the_bit():
    env = make()
    env.reset(seed=0)
    env.step(torch.full((4, 3), 0.05))
    state = env.state()
    first = [env.step(torch.full((4, 3), 0.07))[0] for _ in range(35)]
    env.load_state(state)
    second = [env.step(torch.full((4, 3), 0.07))[0] for _ in range(35)]
    assert torch.equal(torch.stack(first), torch.stack(second))
