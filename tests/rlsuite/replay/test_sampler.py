"""Uniform and prioritized sampling: proportions, weights, failed transitions, exact resume."""

import pytest
import torch
from replay_model import FAILED, GO, TERMINATED, TRUNCATED, Feeder, snapshot

from rlsuite.errors import UserError
from rlsuite.replay.config import ReplayConfig
from rlsuite.replay.sampler import Replay


def make_replay(num_envs, seed=0, **keys):
    example = torch.zeros(num_envs, 1)
    return Replay(ReplayConfig(**keys), example, example, discount=0.9, seed=seed)


def fill(replay, feeder, steps):
    for events in steps:
        replay.add(feeder.step(events))


def test_uniform_sampling_reaches_every_transition_equally():
    replay = make_replay(2, capacity=10)
    fill(replay, Feeder(2), [[GO, TERMINATED]] * 13)
    assert len(replay) == 10
    batch = replay.sample(20_000)
    counts = torch.bincount(batch.index, minlength=12)
    cursor = replay.buffer.cursor
    assert counts.view(6, 2)[cursor].tolist() == [0, 0]  # the slot of the newest next observation
    others = counts[counts > 0]
    assert len(others) == 10
    assert (others - 2000).abs().max() < 5 * (20_000 * 0.1 * 0.9) ** 0.5
    assert (batch.weight == 1).all()


def test_a_batch_is_made_of_whole_transitions():
    replay, feeder = make_replay(2, capacity=40), Feeder(2)
    fill(replay, feeder, [[GO, GO], [TERMINATED, GO], [GO, TRUNCATED]] * 4)
    told = {row.observation: row for rows in feeder.history for row in rows}
    batch = replay.sample(100)
    assert batch.observation.shape == (100, 1)
    for place in range(100):
        row = told[batch.observation[place].item()]
        assert batch.action[place].item() == row.action
        assert batch.reward[place].item() == pytest.approx(row.reward)
        assert batch.discount[place].item() == pytest.approx(0.0 if row.terminated else 0.9)
        assert batch.next_observation[place].item() == row.next_observation


@pytest.mark.parametrize("prioritized", [False, True])
def test_rare_failed_transitions_are_never_sampled(prioritized):
    replay, feeder = make_replay(4, capacity=400, prioritized=prioritized), Feeder(4)
    fill(replay, feeder, [[GO] * 4] * 50 + [[GO, FAILED, GO, GO]] + [[GO] * 4] * 10)
    assert not replay.buffer.invalid.view(-1)[replay.sample(20_000).index].any()


@pytest.mark.parametrize("prioritized", [False, True])
def test_many_failed_transitions_are_never_sampled(prioritized):
    replay, feeder = make_replay(2, capacity=100, prioritized=prioritized), Feeder(2)
    fill(replay, feeder, [[GO, FAILED]] * 20)
    assert not replay.buffer.invalid.view(-1)[replay.sample(2000).index].any()


def test_prioritized_proportions_and_weights_by_hand():
    replay = make_replay(4, capacity=8, prioritized=True, priority_exponent=2.0, importance_exponent=0.5)
    fill(replay, Feeder(4), [[GO] * 4])
    # |TD error|^2 = 1, 4, 9, 36: probabilities 0.02, 0.08, 0.18, 0.72
    replay.update_priorities(torch.arange(4), torch.tensor([1.0, -2.0, 3.0, 6.0]))
    batch = replay.sample(50_000)
    shares = torch.bincount(batch.index, minlength=4)[:4] / 50_000
    probabilities = torch.tensor([0.02, 0.08, 0.18, 0.72])
    torch.testing.assert_close(shares, probabilities, rtol=0, atol=0.01)
    # (N P)^-0.5, the largest set to 1: sqrt(0.02 / P)
    expected = (0.02 / probabilities).sqrt()
    torch.testing.assert_close(batch.weight, expected[batch.index], rtol=1e-4, atol=1e-4)


def test_new_transitions_get_the_largest_priority_ever_and_overwritten_ones_lose_theirs():
    replay, feeder = make_replay(1, capacity=3, prioritized=True, priority_exponent=1.0), Feeder(1)
    fill(replay, feeder, [[GO]] * 2)
    assert replay.priorities.priority.flatten().tolist() == [1.0, 1.0, 0.0, 0.0]
    replay.update_priorities(torch.tensor([0, 1]), torch.tensor([5.0, 0.5]))
    replay.update_priorities(torch.tensor([0]), torch.tensor([0.25]))
    fill(replay, feeder, [[GO]])
    assert replay.priorities.priority.flatten().tolist() == pytest.approx([0.25, 0.5, 5.0, 0.0], abs=1e-5)
    fill(replay, feeder, [[GO]] * 2)  # slot 0 and then slot 1 hold only a next observation
    assert replay.priorities.priority.flatten().tolist() == pytest.approx([5.0, 0.0, 5.0, 5.0], abs=1e-5)
    assert set(replay.sample(500).index.tolist()) == {0, 2, 3}


def test_a_zero_td_error_stays_reachable():
    replay = make_replay(2, capacity=4, prioritized=True)
    fill(replay, Feeder(2), [[GO, GO]])
    replay.update_priorities(torch.tensor([0, 1]), torch.zeros(2))
    assert set(replay.sample(100).index.tolist()) == {0, 1}


def test_update_priorities_without_priorities_does_nothing():
    replay = make_replay(2, capacity=4)
    fill(replay, Feeder(2), [[GO, GO]])
    replay.update_priorities(torch.tensor([0]), torch.tensor([float("nan")]))
    assert replay.priorities is None


@pytest.mark.parametrize("keys", [{}, {"prioritized": True, "n_step": 3}], ids=["uniform", "prioritized"])
@pytest.mark.parametrize("steps", [3, 25], ids=["half full", "wrapped"])
def test_state_round_trip_gives_identical_further_samples(keys, steps):
    first, feeder = make_replay(2, seed=1, capacity=20, **keys), Feeder(2)
    fill(first, feeder, [[GO, TERMINATED], [TRUNCATED, GO], [GO, FAILED]] * steps)
    first.update_priorities(torch.arange(2), torch.tensor([3.0, 0.1]))
    first.sample(5)
    second = make_replay(2, seed=2, capacity=20, **keys)
    second.load_state(snapshot(first.state()))
    for _ in range(15):
        transition = feeder.step([GO, TRUNCATED])
        first.add(transition)
        second.add(transition)
        one, two = first.sample(16), second.sample(16)
        for name, left, right in zip(one._fields, one, two, strict=True):
            assert torch.equal(left, right), name
        for replay in (first, second):
            replay.update_priorities(one.index, one.reward)


def test_equal_seeds_give_equal_samples_and_others_do_not():
    replays = [make_replay(2, seed=seed, capacity=20) for seed in (1, 1, 2)]
    for replay in replays:
        fill(replay, Feeder(2), [[GO, GO]] * 8)
    one, two, other = (replay.sample(32).index for replay in replays)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("error", [float("inf"), float("nan"), 1e38])
def test_errors_that_are_not_finite_become_no_priority(error):
    replay = make_replay(3, capacity=6, prioritized=True, priority_exponent=2.0, importance_exponent=0.5)
    fill(replay, Feeder(3), [[GO] * 3])
    replay.update_priorities(torch.arange(3), torch.tensor([1.0, 2.0, 3.0]))
    replay.update_priorities(torch.arange(2), torch.tensor([error, 0.5]))
    assert replay.priorities.priority[0].tolist() == pytest.approx([1.0, 0.25, 9.0], abs=1e-4)
    assert replay.priorities.largest.item() == pytest.approx(9.0, abs=1e-4)
    batch = replay.sample(100)
    assert batch.weight.isfinite().all()
    assert set(batch.index.tolist()) <= {0, 1, 2}


# -- priorities that fade with age --------------------------------------------------------------------------


def test_faded_priorities_by_hand():
    keys = {"priority_exponent": 1.0, "priority_age_decay": 0.5**0.5, "priority_age_floor": 0.2}
    replay = make_replay(2, capacity=8, prioritized=True, importance_exponent=1.0, **keys)
    fill(replay, Feeder(2), [[GO, GO]] * 4)
    replay.update_priorities(torch.arange(8), torch.tensor([1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0]))
    # Ages are 6, 4, 2 and 0 transitions: factors 1/8, which the floor lifts to 1/5, 1/4, 1/2 and 1.
    wanted = torch.tensor([[0.2, 0.4], [0.25, 0.25], [0.5, 0.5], [1.0, 3.0], [0.0, 0.0]])
    torch.testing.assert_close(replay.priorities.faded(), wanted, rtol=1e-5, atol=1e-5)
    batch = replay.sample(60_000)
    shares = torch.bincount(batch.index, minlength=10) / 60_000
    torch.testing.assert_close(shares, wanted.flatten() / wanted.sum(), rtol=0.0, atol=0.01)
    torch.testing.assert_close(batch.weight, 0.2 / wanted.flatten()[batch.index], rtol=1e-4, atol=1e-4)


def test_ages_go_on_where_the_ring_begins_anew():
    replay = make_replay(1, capacity=3, prioritized=True, priority_age_decay=0.5)
    fill(replay, Feeder(1), [[GO]] * 5)  # slots 0 to 3; slot 0 is the newest, slot 1 holds a next observation alone
    torch.testing.assert_close(replay.priorities.faded().flatten(), torch.tensor([1.0, 0.0, 0.25, 0.5]))


def test_small_errors_count_as_the_smallest():
    replay = make_replay(1, capacity=4, prioritized=True, priority_exponent=0.5, priority_smallest_error=4.0)
    fill(replay, Feeder(1), [[GO]] * 3)
    replay.update_priorities(torch.arange(3), torch.tensor([0.1, -5.0, 9.0]))
    expected = torch.tensor([2.0, 5.0**0.5, 3.0])
    torch.testing.assert_close(replay.priorities.priority.flatten()[:3], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority_age_decay": 0.9},
        {"priority_smallest_error": 1.0},
        {"prioritized": True, "priority_age_floor": 0.5},
        {"prioritized": True, "priority_age_decay": 0.0},
        {"prioritized": True, "priority_age_decay": 0.9, "priority_age_floor": 2.0},
    ],
    ids=str,
)
def test_fading_that_contradicts_is_refused(wrong):
    with pytest.raises(UserError, match=r"^replay\.priority_(age|smallest)"):
        ReplayConfig(**wrong)
