"""n-step sums by hand, and every sampleable transition against brute force over random histories."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_model import FAILED, GO, TERMINATED, TRUNCATED, Feeder, make_buffer, snapshot

from rlsuite.replay.config import ReplayConfig
from rlsuite.replay.n_step import n_step_return
from rlsuite.replay.sampler import Replay


def ring_of(events, capacity=20):
    """Return a ring of one environment with reward 1 in every step but the failed ones."""
    buffer, feeder = make_buffer(1, capacity), Feeder(1)
    for event in events:
        transition = feeder.step([event])
        buffer.add(transition._replace(reward=torch.full((1,), float(event != FAILED))))
    return buffer


@pytest.mark.parametrize(
    ("events", "n_step", "reward", "discount", "last"),
    [
        ([GO] * 5, 1, 1.0, 0.5, 0),
        ([GO] * 5, 3, 1.75, 0.125, 2),
        ([GO, TERMINATED, GO, GO], 3, 1.5, 0.0, 1),
        ([GO, TRUNCATED, GO, GO], 3, 1.5, 0.25, 1),  # truncation keeps the bootstrap
        ([TERMINATED, GO, GO, GO], 3, 1.0, 0.0, 0),
        ([GO, GO], 4, 1.5, 0.25, 1),  # the newest slot is where it ends
        ([GO, FAILED, GO, GO], 3, 1.0, 0.5, 0),  # a failed step is never summed over
    ],
)
def test_n_step_by_hand(events, n_step, reward, discount, last):
    result = n_step_return(ring_of(events), torch.tensor([0]), n_step, 0.5)
    assert [value.item() for value in result] == [reward, discount, last]


@pytest.mark.parametrize(("event", "discount"), [(TRUNCATED, 0.0), (TERMINATED, 0.0), (GO, 0.125)])
def test_timelimit_as_done_cuts_truncations_too(event, discount):
    buffer = ring_of([GO, GO, event, GO])
    assert n_step_return(buffer, torch.tensor([0]), 3, 0.5, timelimit_as_done=True)[1].item() == discount


def test_an_n_step_sum_crosses_the_end_of_the_ring_and_stops_at_the_newest():
    buffer = ring_of([GO] * 7, capacity=4)  # five slots; the newest transition lies in slot 1
    assert buffer.cursor == 2
    reward, discount, last = n_step_return(buffer, torch.tensor([3, 4, 0, 1]), 3, 0.5)
    assert last.tolist() == [0, 1, 1, 1]
    assert reward.tolist() == [1.75, 1.75, 1.5, 1.0]
    assert discount.tolist() == [0.125, 0.125, 0.25, 0.5]


EVENTS = st.sampled_from([GO, GO, GO, TERMINATED, TRUNCATED, FAILED])


@settings(max_examples=80)
@given(
    num_envs=st.integers(1, 3),
    capacity=st.integers(2, 16),
    steps=st.lists(st.tuples(EVENTS, EVENTS, EVENTS), min_size=1, max_size=30),
    specials=st.dictionaries(st.integers(0, 29), st.sampled_from(["interrupt", "reload"]), max_size=3),
    timelimit_as_done=st.booleans(),
)
def test_every_transition_equals_brute_force(num_envs, capacity, steps, specials, timelimit_as_done):
    buffer, feeder = make_buffer(num_envs, capacity, finals=1), Feeder(num_envs)
    for time, events in enumerate(steps):
        buffer.add(feeder.step(events[:num_envs]))
        if specials.get(time) == "interrupt":
            buffer.mark_interrupted()
            feeder.interrupt()
        elif specials.get(time) == "reload":
            state, buffer = snapshot(buffer.state()), make_buffer(num_envs, capacity)
            buffer.load_state(state)
    assert buffer.count == min(len(steps), -(-capacity // num_envs))
    for n_step in (1, 2, 3, 4):
        config = ReplayConfig(capacity=capacity, n_step=n_step, timelimit_as_done=timelimit_as_done)
        replay = Replay(config, torch.zeros(num_envs, 1), torch.zeros(num_envs, 1), discount=0.5, seed=0)
        replay.buffer = buffer
        check_all(replay, feeder, n_step, timelimit_as_done)


def check_all(replay, feeder, n_step, timelimit_as_done):
    buffer, num_envs = replay.buffer, feeder.num_envs
    oldest = len(feeder.history) - buffer.count
    places = [
        (time, env)
        for time in range(oldest, len(feeder.history))
        for env in range(num_envs)
        if not feeder.history[time][env].failed
    ]
    age = torch.tensor([time - oldest for time, _ in places], dtype=torch.int64)
    index = buffer.flat_index(age, torch.tensor([env for _, env in places], dtype=torch.int64))
    batch = replay.gather(index, torch.ones(len(places)))
    rows = [feeder.history[time][env] for time, env in places]
    expected = [feeder.n_step(time, env, n_step, 0.5, timelimit_as_done) for time, env in places]
    assert batch.observation.squeeze(1).tolist() == [row.observation for row in rows]
    assert batch.action.squeeze(1).tolist() == [row.action for row in rows]
    assert batch.reward.tolist() == [reward for reward, _, _ in expected]  # exact: binary fractions
    assert batch.discount.tolist() == [discount for _, discount, _ in expected]
    assert batch.next_observation.squeeze(1).tolist() == [following for _, _, following in expected]
