"""The ring against tables written by hand: wrap-around, episode borders, final observations, memory."""

import pytest
import torch
from replay_model import FAILED, GO, TERMINATED, TRUNCATED, Feeder, make_buffer, snapshot

from rlsuite.errors import UserError
from rlsuite.replay import buffer as buffer_module
from rlsuite.replay import sampler as sampler_module
from rlsuite.replay.buffer import ReplayBuffer, choose_device, forecast_bytes, num_slots
from rlsuite.replay.config import ReplayConfig
from rlsuite.replay.sampler import Replay


def stored(buffer):
    """Return (observation, next observation) of every sampleable transition, oldest first, for environment 0."""
    index = buffer.flat_index(torch.arange(buffer.count), torch.zeros(buffer.count, dtype=torch.int64))
    now = buffer.observation.flatten(0, 1)[index].squeeze(1).tolist()
    return list(zip(now, buffer.next_observation_at(index).squeeze(1).tolist(), strict=True))


def feed(buffer, events):
    """Add one transition an event to a ring of one environment; return its feeder."""
    feeder = Feeder(1)
    for event in events:
        buffer.add(feeder.step([event]))
    return feeder


def told(feeder, newest):
    return [(rows[0].observation, rows[0].next_observation) for rows in feeder.history[-newest:]]


def test_observations_and_next_observations_of_one_episode_by_hand():
    buffer = make_buffer(1, 10)
    feed(buffer, [GO, GO, GO])
    # The feeder numbers observations and rewards from one counter: observations 1, 2, 4, 6.
    assert stored(buffer) == [(1.0, 2.0), (2.0, 4.0), (4.0, 6.0)]
    assert len(buffer) == 3
    assert buffer.reward[:3, 0].tolist() == [3 / 16, 5 / 16, 7 / 16]


@pytest.mark.parametrize(
    ("events", "kept"),
    [
        ([GO] * 4, 4),
        ([GO] * 5, 4),  # wrapped by one
        ([GO] * 13, 4),  # wrapped several times
        ([GO, TERMINATED, GO, GO], 4),
        ([GO, TRUNCATED, GO, GO], 4),
        ([GO, GO, GO, TERMINATED], 4),  # the end is the newest
        ([TERMINATED] * 4, 4),
        ([TERMINATED, TRUNCATED] * 6, 4),  # every transition ends, wrapped
        ([GO, GO, TRUNCATED, GO, GO, GO], 4),  # the end is the oldest that is left
        ([GO, GO, TRUNCATED, GO, GO, GO, GO], 4),  # the end has just been overwritten
        ([FAILED, GO], 2),
    ],
    ids=lambda value: "".join("gdtf"[event] for event in value) if isinstance(value, list) else str(value),
)
def test_borders_and_wrap_around(events, kept):
    buffer = make_buffer(1, 4)
    feeder = feed(buffer, events)
    assert buffer.count == kept
    assert stored(buffer) == told(feeder, kept)


def test_the_flags_keep_termination_and_truncation_apart():
    buffer = make_buffer(3, 6)
    feeder = Feeder(3)
    buffer.add(feeder.step([TERMINATED, TRUNCATED, FAILED]))
    assert buffer.terminated[0].tolist() == [True, False, False]
    assert buffer.truncated[0].tolist() == [False, True, True]
    assert buffer.invalid[0].tolist() == [False, False, True]
    assert buffer.has_invalid


@pytest.mark.parametrize("capacity", [1, 7, 8, 9])
def test_capacity_is_rounded_up_to_whole_slots(capacity):
    assert num_slots(capacity, 4) == {1: 2, 7: 3, 8: 3, 9: 4}[capacity]
    buffer = make_buffer(4, capacity)
    feeder = Feeder(4)
    for _ in range(20):
        buffer.add(feeder.step([GO] * 4))
    assert len(buffer) == {1: 4, 7: 8, 8: 8, 9: 12}[capacity]


def test_the_store_of_final_observations_grows_and_forgets():
    buffer = make_buffer(2, 200, finals=4)
    feeder = Feeder(2)
    for step in range(350):  # wraps three times; every second transition ends, so 100 are live
        buffer.add(feeder.step([TERMINATED, GO] if step % 2 else [TRUNCATED, GO]))
    assert stored(buffer) == told(feeder, 100)
    live = buffer.finals_written - buffer.finals_expired
    assert live == int((buffer.final_place >= 0).sum()) == 100
    assert len(buffer.final_observation) == 128


@pytest.mark.parametrize("later", range(1, 9))
def test_the_store_grows_also_when_its_oldest_entry_lies_in_the_middle(later):
    buffer = make_buffer(1, 8, finals=4)
    events = [TERMINATED] * 3 + [GO] * 7  # the first two ends are overwritten, the third is live
    feeder = feed(buffer, events + [TRUNCATED] * later + [GO])
    assert stored(buffer) == told(feeder, 8)
    for _ in range(8):  # and after it has grown, entries expire in their order
        buffer.add(feeder.step([TERMINATED]))
        assert stored(buffer) == told(feeder, 8)


def test_final_observations_do_not_accumulate_over_a_long_run():
    buffer = make_buffer(1, 8)
    feed(buffer, [GO, TERMINATED] * 500)
    assert len(buffer.final_observation) == 64
    assert buffer.finals_written - buffer.finals_expired == 4


def test_mark_interrupted_truncates_what_was_open():
    buffer, feeder = make_buffer(3, 12), Feeder(3)
    buffer.add(feeder.step([GO, GO, GO]))
    buffer.add(feeder.step([GO, TERMINATED, TRUNCATED]))
    buffer.mark_interrupted()
    assert buffer.truncated[1].tolist() == [True, False, True]
    assert buffer.terminated[1].tolist() == [False, True, False]
    assert not buffer.truncated[0].any()
    expected = [row.next_observation for row in feeder.history[-1]]
    feeder.interrupt()
    buffer.add(feeder.step([GO, GO, GO]))  # new episodes overwrite the observation slot
    newest = buffer.flat_index(torch.full((3,), 1), torch.arange(3))
    assert buffer.next_observation_at(newest).squeeze(1).tolist() == expected


def test_mark_interrupted_on_an_empty_ring_does_nothing():
    buffer = make_buffer(2, 8)
    buffer.mark_interrupted()
    assert len(buffer) == 0
    assert buffer.finals_written == 0


def test_state_holds_only_filled_slots_and_goes_on_identically():
    first, feeder = make_buffer(2, 20, finals=2), Feeder(2)
    for event in (GO, TERMINATED, GO, TRUNCATED):
        first.add(feeder.step([event, GO]))
    state = snapshot(first.state())
    assert state["observation"].shape == (5, 2, 1)
    second = make_buffer(2, 20)
    second.load_state(state)
    for event in (GO, TERMINATED) * 9:
        transition = feeder.step([event, TRUNCATED])
        first.add(transition)
        second.add(transition)
    assert stored(first) == stored(second) == told(feeder, 10)
    for name, value in first.state().items():
        assert torch.equal(value, second.state()[name]), name


def test_a_state_of_a_larger_ring_is_refused():
    first, feeder = make_buffer(1, 20), Feeder(1)
    for _ in range(15):
        first.add(feeder.step([GO]))
    second = make_buffer(1, 5)
    with pytest.raises(ValueError):
        second.load_state(snapshot(first.state()))


def test_a_state_of_fewer_environments_is_refused():
    first, feeder = make_buffer(1, 20), Feeder(1)
    for _ in range(5):
        first.add(feeder.step([GO]))
    with pytest.raises((ValueError, RuntimeError)):
        make_buffer(3, 20).load_state(snapshot(first.state()))


def test_rows_keep_their_shape_and_dtype():
    pictures = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    buffer = ReplayBuffer(6, pictures, torch.zeros(2, 1), device="cpu")
    no = torch.zeros(2, dtype=torch.bool)
    transition = Feeder(2).step([GO, TERMINATED])
    buffer.add(transition._replace(observation=pictures + 7, next_observation=pictures + 9, truncated=no))
    following = buffer.next_observation_at(torch.tensor([0, 1]))
    assert following.dtype == torch.uint8
    assert following.shape == (2, 3, 4, 4)
    assert (following == 9).all()


def test_the_forecast_is_what_the_rings_take():
    observation, action = torch.zeros(3, 17), torch.zeros(3, 6)
    buffer = ReplayBuffer(1000, observation, action, device="cpu")
    rings = ("observation", "action", "reward", "terminated", "truncated", "invalid", "final_place")
    taken = sum(getattr(buffer, name).numel() * getattr(buffer, name).element_size() for name in rings)
    assert forecast_bytes(1000, 3, observation, action) == taken == 335 * 3 * (23 * 4 + 11)


def test_too_large_a_replay_is_refused_before_anything_is_allocated(monkeypatch):
    def no_allocation(*_, **__):
        raise AssertionError("allocated before the refusal")

    monkeypatch.setattr(buffer_module, "free_bytes", lambda device: 1_000_000)
    monkeypatch.setattr(sampler_module, "ReplayBuffer", no_allocation)
    config = ReplayConfig(capacity=100_000)
    needed = forecast_bytes(100_000, 1, torch.zeros(1, 2), torch.zeros(1, 1))
    with pytest.raises(UserError) as refusal:
        Replay(config, torch.zeros(1, 2), torch.zeros(1, 1), discount=0.9, seed=0)
    text = str(refusal.value)
    assert "\n" not in text
    assert f"needs {needed} bytes" in text
    assert "1000000 are free" in text
    # The capacity it names fits indeed.
    named = int(text.split("use replay.capacity=")[1].split()[0])
    assert 0.7e6 < forecast_bytes(named, 1, torch.zeros(1, 2), torch.zeros(1, 1)) < 1e6


@pytest.mark.parametrize(
    ("asked", "agent", "free_on_cuda", "chosen"),
    [
        ("auto", "cpu", 0, "cpu"),
        ("auto", "cuda", 250, "cuda"),  # exactly 2.5 times what is needed
        ("auto", "cuda", 249, "cpu"),
        ("cuda", "cuda", 100, "cuda"),
        ("cpu", "cuda", 1000, "cpu"),
    ],
)
def test_where_the_ring_lies(monkeypatch, asked, agent, free_on_cuda, chosen):
    free = {"cuda": free_on_cuda, "cpu": 10_000}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(buffer_module, "free_bytes", lambda device: free[device.type])
    assert choose_device(ReplayConfig(device=asked), 100, torch.device(agent)).type == chosen


def test_free_bytes_is_a_sensible_number():
    assert 1e6 < buffer_module.free_bytes(torch.device("cpu")) < 1e15
