"""Hindsight replay against episodes kept in plain lists: whole ones only, goals of the right steps, new rewards."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlsuite.errors import UserError
from rlsuite.goals import GoalSpec
from rlsuite.replay.buffer import ReplayBuffer, Transition
from rlsuite.replay.config import CurriculumConfig, HindsightConfig, ReplayConfig
from rlsuite.replay.curriculum import nearest_neighbour_similarity, select
from rlsuite.replay.episodes import Episodes
from rlsuite.replay.hindsight import Hindsight
from rlsuite.replay.sampler import Replay

GO, ENDS, FAILS = range(3)
SPEC = GoalSpec(
    observation_size=1,
    goal_size=1,
    compute_reward=lambda achieved, desired: -((achieved - desired).abs() > 0.5).float().squeeze(-1),
    is_success=lambda achieved, desired: ((achieved - desired).abs() <= 0.5).squeeze(-1),
)


class Story:
    """Feeds a ring with numbered states: what is achieved in state k of environment n is 1000 n + k.

    Observations are [state, desired goal, achieved goal]; the goal asked for is -1 - number of the episode.
    """

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.state = [1000.0 * env for env in range(num_envs)]
        self.episode = 0.0
        self.goal = [self._next_goal() for _ in range(num_envs)]
        self.running = [[] for _ in range(num_envs)]  # states of the transitions of the running episodes
        self.whole = []  # (states of an episode's transitions), whole episodes only

    def _next_goal(self):
        self.episode += 1.0
        return -1.0 - self.episode

    def _row(self, env):
        return [self.state[env], self.goal[env], self.state[env]]

    def step(self, events):
        before = [self._row(env) for env in range(self.num_envs)]
        after = []
        for env, event in enumerate(events):
            self.running[env].append(self.state[env])
            self.state[env] += 1.0
            after.append(self._row(env))
            if event != GO:
                if event == ENDS:
                    self.whole.append(self.running[env])
                self.running[env] = []
                self.state[env] += 1.0  # the next episode starts elsewhere
                self.goal[env] = self._next_goal()
        ended = torch.tensor([event != GO for event in events])
        return Transition(
            observation=torch.tensor(before),
            action=torch.zeros(self.num_envs, 1),
            reward=torch.full((self.num_envs,), -1.0),
            terminated=torch.zeros(self.num_envs, dtype=torch.bool),
            truncated=ended,
            next_observation=torch.tensor(after),
            failed=torch.tensor([event == FAILS for event in events]),
        )


def make(num_envs, capacity, story, events):
    buffer = ReplayBuffer(capacity, torch.zeros(num_envs, 3), torch.zeros(num_envs, 1), device="cpu")
    episodes = Episodes(buffer)
    for row in events:
        transition = story.step(row)
        buffer.add(transition)
        episodes.added(transition)
    return buffer, episodes


@settings(max_examples=60, deadline=None)
@given(
    num_envs=st.integers(1, 3),
    slots=st.integers(2, 9),
    choices=st.lists(st.lists(st.sampled_from([GO, GO, GO, ENDS, FAILS]), min_size=3, max_size=3), max_size=40),
)
def test_whole_episodes_and_their_bounds_at_any_wrap_around(num_envs, slots, choices):
    story = Story(num_envs)
    buffer, episodes = make(num_envs, slots * num_envs, story, [row[:num_envs] for row in choices])
    # What the ring still holds: the newest `count` steps of every environment.
    kept = {
        float(state)
        for index in buffer.flat_index(
            torch.arange(buffer.count).repeat_interleave(num_envs), torch.arange(num_envs).repeat(buffer.count)
        )
        for state in [buffer.observation.flatten(0, 1)[index, 0]]
    }
    expected = {
        state: [other for other in episode if other in kept]
        for episode in story.whole
        for state in episode
        if state in kept
    }
    whole = episodes.whole()
    states = buffer.observation.flatten(0, 1)[whole, 0]
    assert sorted(states.tolist()) == sorted(expected)
    first, last = episodes.bounds(whole)
    for state, index, low, high in zip(states.tolist(), whole, first, last, strict=True):
        at = lambda tick, index=index: float(  # noqa: E731
            buffer.observation.flatten(0, 1)[episodes.place(tick.reshape(1), index.reshape(1)), 0]
        )
        assert (at(low), at(high)) == (expected[state][0], expected[state][-1])
        assert at(episodes.tick_of(index.reshape(1))) == state


def filled(config, *, episodes=30, length=10, num_envs=2):
    story = Story(num_envs)
    buffer = ReplayBuffer(10_000, torch.zeros(num_envs, 3), torch.zeros(num_envs, 1), device="cpu")
    hindsight = Hindsight(buffer, config, SPEC)
    for _ in range(episodes):
        for step in range(length):
            transition = story.step([ENDS if step == length - 1 else GO] * num_envs)
            buffer.add(transition)
            hindsight.added(transition)
    return buffer, hindsight


def relabelled(config, size=20_000):
    """Return (step of its episode, step after which the new goal was achieved, batch) of a large minibatch."""
    replay = Replay(
        ReplayConfig(capacity=10_000, hindsight=config),
        torch.zeros(2, 3),
        torch.zeros(2, 1),
        discount=0.9,
        seed=3,
        goals=SPEC,
    )
    story = Story(2)
    for _ in range(30):
        for step in range(10):
            replay.add(story.step([ENDS if step == 9 else GO] * 2))
    batch = replay.sample(size)
    new = batch.observation[:, 1] >= 0  # the goals asked for are negative
    # States of an episode are consecutive; 11 a state of ten transitions and a last one.
    step = batch.observation[:, 0] % 1000 % 11
    goal_step = batch.observation[:, 1] % 1000 % 11
    return step, goal_step, new, batch


def test_share_of_relabelled_transitions_is_k_over_k_plus_1():
    *_, new, _ = relabelled(HindsightConfig(strategy="future"), size=100_000)
    assert abs(float(new.float().mean()) - 0.8) < 0.01
    *_, new, _ = relabelled(HindsightConfig(strategy="future", relabelled_per_original=1.0))
    assert abs(float(new.float().mean()) - 0.5) < 0.02
    *_, new, _ = relabelled(HindsightConfig(strategy="future", relabelled_per_original=0.0))
    assert not new.any()


def test_future_is_uniform_over_what_the_episode_achieves_from_this_step_on():
    step, goal_step, new, batch = relabelled(HindsightConfig(strategy="future"), size=100_000)
    for at in range(10):
        chosen = goal_step[new & (step == at)].long()
        counts = torch.bincount(chosen, minlength=11)
        assert not counts[: at + 1].any()  # only what comes after the step, t + 1 .. T
        expected = len(chosen) / (10 - at)
        assert ((counts[at + 1 :] - expected).abs() < 5 * expected**0.5 + 1).all()
    same_env = (batch.observation[:, 1] // 1000) == (batch.observation[:, 0] // 1000)
    same_episode = (batch.observation[:, 1] % 1000 // 11) == (batch.observation[:, 0] % 1000 // 11)
    assert (same_env & same_episode)[new].all()


def test_final_and_episode():
    _, goal_step, new, _ = relabelled(HindsightConfig(strategy="final"))
    assert (goal_step[new] == 10).all()
    step, goal_step, new, _ = relabelled(HindsightConfig(strategy="episode"))
    counts = torch.bincount(goal_step[new & (step == 7)].long(), minlength=11)
    assert counts[0] == 0
    assert (counts[1:] > 0).all()


def test_rewards_are_recomputed_and_everything_else_stays():
    _, _, new, batch = relabelled(HindsightConfig(strategy="future"))
    achieved, goal = batch.next_observation[:, 2], batch.observation[:, 1]
    torch.testing.assert_close(batch.reward, -((achieved - goal).abs() > 0.5).float())
    assert (batch.reward[new] == 0).any()
    assert (batch.reward[~new] == -1).all()
    assert (batch.next_observation[:, 1] == goal).all()
    assert (batch.observation[:, 0] == batch.observation[:, 2]).all()
    assert (batch.next_observation[:, 0] == batch.observation[:, 0] + 1).all()
    assert (batch.discount == 0.9).all()  # a time limit never cuts the bootstrap


def test_fresh_observations_are_of_the_episodes_just_ended_with_goals_as_in_minibatches():
    _, hindsight = filled(HindsightConfig(strategy="future"), episodes=2)
    assert sorted(hindsight.take_fresh().tolist()) == sorted(hindsight.episodes.whole().tolist())
    assert hindsight.take_fresh().numel() == 0
    config = ReplayConfig(capacity=100, hindsight=HindsightConfig(strategy="future"))
    replay = Replay(config, torch.zeros(1, 3), torch.zeros(1, 1), discount=0.9, seed=0, goals=SPEC)
    story = Story(1)
    for step in range(20):
        replay.add(story.step([ENDS if step % 10 == 9 else GO]))
        fresh = replay.fresh_observations()
        assert (fresh is not None) == (step % 10 == 9)
        if fresh is not None:
            assert fresh.shape == (10, 3)
            assert ((fresh[:, 0] >= 11 * (step // 10)) & (fresh[:, 0] < 11 * (step // 10) + 10)).all()


def test_a_failure_leaves_no_half_episode():
    replay = Replay(
        ReplayConfig(capacity=100, hindsight=HindsightConfig(strategy="future")),
        torch.zeros(2, 3),
        torch.zeros(2, 1),
        discount=0.9,
        seed=0,
        goals=SPEC,
    )
    story = Story(2)
    for events in ([GO, GO], [GO, FAILS], [ENDS, GO], [GO, GO], [GO, ENDS]):
        replay.add(story.step(events))
    assert len(replay) == 3 + 3  # neither the two steps before the failure nor the two of the running episode
    states = set(replay.sample(500).observation[:, 0].tolist())
    assert states == {0.0, 1.0, 2.0, 1003.0, 1004.0, 1005.0}


def test_nothing_to_learn_from_before_an_episode_ends_and_no_goals_are_clear_errors():
    config = ReplayConfig(capacity=100, hindsight=HindsightConfig(strategy="future"))
    replay = Replay(config, torch.zeros(1, 3), torch.zeros(1, 1), discount=0.9, seed=0, goals=SPEC)
    replay.add(Story(1).step([GO]))
    assert len(replay) == 0
    with pytest.raises(UserError, match="none has ended; use warmup_episodes=1"):
        replay.sample(4)
    with pytest.raises(UserError, match="the environment has no goals; use none"):
        Replay(config, torch.zeros(1, 3), torch.zeros(1, 1), discount=0.9, seed=0)
    for wrong, message in (
        ({"n_step": 3}, "replay.n_step=3"),
        ({"prioritized": True}, "replay.prioritized=true"),
    ):
        with pytest.raises(UserError, match=message):
            ReplayConfig(hindsight=HindsightConfig(strategy="future"), **wrong)
    with pytest.raises(UserError, match=r"replay\.hindsight\.strategy=futur"):
        HindsightConfig(strategy="futur")


def test_state_and_resume_draw_the_same_minibatches():
    config = ReplayConfig(
        capacity=60, hindsight=HindsightConfig(strategy="future", curriculum=CurriculumConfig(enabled=True))
    )

    def fresh():
        return Replay(config, torch.zeros(2, 3), torch.zeros(2, 1), discount=0.9, seed=0, goals=SPEC)

    one, story = fresh(), Story(2)
    for step in range(57):
        one.add(story.step([ENDS if step % 10 == 9 else GO, ENDS if step % 7 == 6 else GO]))
    one.sample(64)
    two = fresh()
    two.load_state({name: tensor.clone() for name, tensor in one.state().items()})
    for step in range(57, 90):
        transition = story.step([ENDS if step % 10 == 9 else GO, ENDS if step % 7 == 6 else GO])
        one.add(transition)
        two.add(transition)
        for ours, theirs in zip(one.sample(64), two.sample(64), strict=True):
            assert torch.equal(ours, theirs)


def test_interrupted_episodes_become_whole_where_they_stop():
    config = ReplayConfig(capacity=100, hindsight=HindsightConfig(strategy="final"))
    replay = Replay(config, torch.zeros(1, 3), torch.zeros(1, 1), discount=0.9, seed=0, goals=SPEC)
    story = Story(1)
    for _ in range(4):
        replay.add(story.step([GO]))
    assert len(replay) == 0
    replay.mark_interrupted()
    assert len(replay) == 4
    batch = replay.sample(50)
    assert set(batch.observation[:, 1].tolist()) == {-2.0, 4.0}  # as asked for, or what was achieved last


# -- curriculum -------------------------------------------------------------------------------------------------


def test_only_the_nearest_neighbour_covers_by_hand():
    """Goals 0, 1 and 3: 0 and 1 are each other's nearest, 1 is 3's; distances 1, 1, 2, their mean 4/3."""
    found = nearest_neighbour_similarity(torch.tensor([[[0.0], [1.0], [3.0]]]))[0]
    near, far = math.exp(-((3 / 4) ** 2)), math.exp(-((3 / 2) ** 2))
    # Row: who is picked; column: who is covered by that.
    torch.testing.assert_close(found, torch.tensor([[0.0, near, 0.0], [near, 0.0, far], [0.0, 0.0, 0.0]]))


def test_near_goals_are_told_apart():
    """Beside goals a hundred times farther apart, 128 in all: rounding would decide otherwise."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.15] * 64 + [2e-4] * 64).unsqueeze(1)
    goals = torch.tensor([1.3, 0.75, 0.42]) + spread * torch.rand(128, 3, generator=generator)
    exact = (goals.double()[:, None] - goals.double()).norm(dim=-1).fill_diagonal_(math.inf)
    found = nearest_neighbour_similarity(goals[None])[0]
    assert torch.equal(found.argmax(dim=0), exact.argmin(dim=0))


def test_curriculum_picks_by_hand():
    """Without the distance term and with every candidate tried, the first pick covers most."""
    desired = torch.tensor([[0.0], [1.0], [3.0], [100.0]])  # 1 covers 0 and 3; 3 covers 100
    config = CurriculumConfig(enabled=True, candidates=4, kept=2, tried=4, weight=0.0)
    assert select(config, desired, desired, 0, torch.Generator().manual_seed(0))[0] == 1
    # The distance to what was achieved decides once it weighs enough.
    achieved = desired + torch.tensor([[0.0], [9.0], [9.0], [0.0]])
    config = CurriculumConfig(enabled=True, candidates=4, kept=2, tried=4, weight=100.0)
    assert set(select(config, achieved, desired, 0, torch.Generator()).tolist()) == {0, 3}
    # Only the named columns count.
    wide = torch.cat([desired, torch.zeros(4, 1)], dim=1)
    config = CurriculumConfig(enabled=True, candidates=4, kept=2, tried=4, weight=100.0, columns=(1,))
    moved = wide + torch.tensor([[5.0, 1.0], [5.0, 1.0], [0.0, 0.0], [5.0, 0.0]])
    assert set(select(config, moved, wide, 0, torch.Generator()).tolist()) == {2, 3}


def test_the_distances_weight_grows_for_ever_without_overflowing():
    goals = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    achieved = goals + torch.arange(12.0)[:, None]
    config = CurriculumConfig(enabled=True, candidates=12, kept=6, tried=12)
    for batches in (10**6, 10**9):
        assert set(select(config, achieved, goals, batches, torch.Generator()).tolist()) == set(range(6))


def test_columns_beyond_the_goal_are_refused():
    config = HindsightConfig(strategy="future", curriculum=CurriculumConfig(enabled=True, columns=(1,)))
    with pytest.raises(UserError, match=r"columns=\[1\]: the goal has 1 numbers; use 0 to 0"):
        filled(config)


@given(groups=st.integers(1, 3), tried=st.integers(1, 5), batches=st.integers(0, 10_000), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_curriculum_keeps_different_rows_of_every_group(groups, tried, batches, seed):
    generator = torch.Generator().manual_seed(seed)
    config = CurriculumConfig(enabled=True, candidates=12, kept=6, tried=tried)
    goals = torch.randn(groups * 12, 3, generator=generator)
    picks = select(config, goals + 1.0, goals, batches, generator).unflatten(0, (groups, 6))
    for group, rows in enumerate(picks.tolist()):
        assert len(set(rows)) == 6
        assert all(12 * group <= row < 12 * (group + 1) for row in rows)


def test_curriculum_needs_a_minibatch_of_whole_groups():
    config = CurriculumConfig(enabled=True)
    assert config.candidates_for(256) == 512
    with pytest.raises(UserError, match="minibatch's 100 transitions are no multiple"):
        config.candidates_for(100)
    with pytest.raises(UserError, match=r"curriculum\.candidates=10: use at least 64"):
        CurriculumConfig(candidates=10)
