"""The rollout worker against an environment that plays a written script."""

import pytest
import torch
from toy_environments import FailingEnv, PointEnv, ScriptedEnv

from rlsuite.running.rollout import RolloutWorker

F, T = False, True
#             step 0        1           2           3
REWARD = [[1.0, 10.0], [2.0, 20.0], [4.0, 40.0], [8.0, 80.0]]
TERMINATED = [[F, F], [T, F], [F, F], [F, T]]
TRUNCATED = [[F, T], [F, F], [F, F], [T, F]]


class StubAgent:
    """Acts by a constant and keeps what it is shown."""

    def __init__(self):
        self.seen, self.asked = [], []

    def act(self, observation, explore):
        self.asked.append((observation.clone(), explore))
        return torch.full((len(observation), 1), 0.25)

    def observe(self, transition):
        self.seen.append(transition)


def make(env=None):
    env = env or ScriptedEnv(REWARD, TERMINATED, TRUNCATED)
    agent = StubAgent()
    return env, agent, RolloutWorker(env, agent, seed=3)


def test_transitions_hold_the_true_next_observation():
    env, agent, worker = make()
    assert env.seed == 3
    transitions = [worker.step() for _ in range(4)]
    for number, transition in enumerate(transitions):
        assert transition.next_observation[:, 0].tolist() == [10 * (number + 1) + 0.5, 10 * (number + 1) + 1.5]
        assert transition.reward.tolist() == REWARD[number]
        assert transition.terminated.tolist() == TERMINATED[number]
        assert transition.truncated.tolist() == TRUNCATED[number]
        assert not transition.failed.any()
        assert transition.action.tolist() == [[0.25], [0.25]]
    # The observation of step 1: environment 0 goes on from 10.5, environment 1 (truncated) begins anew at 11.
    assert transitions[1].observation[:, 0].tolist() == [10.5, 11.0]
    assert transitions[2].observation[:, 0].tolist() == [20.0, 21.5]
    assert agent.seen == transitions
    assert all(explore for _, explore in agent.asked)
    assert torch.equal(agent.asked[2][0], transitions[2].observation)


def test_episode_statistics_by_hand():
    _, _, worker = make()
    counted = []
    for _ in range(4):
        worker.step()
        counted.append((worker.steps, worker.episodes))
    assert counted == [(2, 1), (4, 2), (6, 2), (8, 4)]
    # Episodes: environment 1 alone step 0 (10); environment 0 steps 0-1 (3); then steps 2-3 (12) and 1-3 (140).
    assert worker.drain() == {"return_mean": (10 + 3 + 12 + 140) / 4, "length_mean": (1 + 2 + 2 + 3) / 4}
    assert worker.drain() == {}
    assert worker.episodes == 4


def test_draining_in_between_changes_no_total():
    _, _, worker = make()
    worker.step()
    assert worker.drain() == {"return_mean": 10.0, "length_mean": 1.0}
    worker.step()
    assert worker.drain() == {"return_mean": 3.0, "length_mean": 2.0}
    assert worker.episodes == 2


def test_random_actions_fill_the_bounds_and_ask_nobody():
    env, agent, worker = make(PointEnv(400))
    actions = torch.cat([worker.step(random=True).action for _ in range(5)])
    assert agent.asked == []
    assert -1.0 <= actions.min() < -0.98
    assert 1.98 < actions.max() <= 2.0
    assert actions.mean().item() == pytest.approx(0.5, abs=0.06)
    assert len(agent.seen) == 5
    assert env.steps == 5


def test_equal_seeds_draw_equal_random_actions():
    first, second, other = (RolloutWorker(PointEnv(3), StubAgent(), seed=seed) for seed in (1, 1, 2))
    one, two, three = (worker.step(random=True).action for worker in (first, second, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_time_is_taken_apart():
    _, _, worker = make()
    worker.step()
    assert worker.step_seconds > 0
    assert worker.act_seconds > 0


def test_state_round_trip_goes_on_identically():
    env, _, worker = make(PointEnv(3, length=4))
    for _ in range(6):
        worker.step(random=True)
    saved = {name: value.clone() for name, value in worker.state().items()}
    saved_env = env.state()
    other_env, _, other = make(PointEnv(3, length=4))
    other.step(random=True)
    other_env.load_state(saved_env)
    other.load_state(saved)
    assert (other.steps, other.episodes) == (worker.steps, worker.episodes) == (18, 3)
    for _ in range(5):
        for one, two in zip(worker.step(random=True), other.step(random=True), strict=True):
            assert torch.equal(one, two)
    assert worker.drain() == other.drain()


def test_environments_that_cannot_resume_begin_new_episodes():
    env, _, worker = make(PointEnv(2))
    for _ in range(5):
        worker.step(random=True)
    saved = {name: value.clone() for name, value in worker.state().items()}
    env, _, other = make(PointEnv(2))
    env.exact_resume = False
    fresh = other.observation.clone()
    other.load_state(saved)
    assert torch.equal(other.observation, fresh)
    assert not other.episode_return.any()
    assert not other.episode_length.any()
    assert other.steps == 10


def test_failed_episodes_are_in_no_mean_of_the_rollouts():
    _, _, worker = make(FailingEnv(50))
    for _ in range(100):
        worker.step()
    episodes, found = worker.episodes, worker.drain()
    assert (found["return_mean"], found["length_mean"]) == (-20.0, 20.0)
    assert 0 < found["failed_episodes"] < episodes == worker.episodes  # they count among the episodes ended


def test_returns_of_episodes_go_on_growing_past_what_float32_can_count():
    _, _, worker = make(ScriptedEnv([[1.0]] * 2, [[F], [T]], [[F], [F]]))
    worker.episode_return += 16_777_216.0
    for _ in range(2):
        worker.step()
    assert worker.drain()["return_mean"] == 16_777_218.0


def test_a_state_of_before_failed_episodes_counted_apart_is_taken():
    _, _, worker = make(PointEnv(3, length=4))
    for _ in range(6):
        worker.step(random=True)
    old = worker.state() | {"ended": worker.ended[:4].clone(), "episode_return": worker.episode_return.float()}
    _, _, other = make(PointEnv(3, length=4))
    other.load_state(old)
    assert other.drain() == worker.drain()
