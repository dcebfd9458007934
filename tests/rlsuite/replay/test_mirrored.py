"""Mirrored minibatches: images by hand, halves for every member, the same draws after a resume, and refusals."""

import pytest
import torch

from rlsuite.errors import UserError
from rlsuite.replay.buffer import Batch, Transition
from rlsuite.replay.config import HindsightConfig, ReplayConfig
from rlsuite.replay.mirrored import MirrorImages
from rlsuite.replay.sampler import Replay
from rlsuite.symmetry import Mirror

MIRROR = Mirror((0, 2, 1), (1, 0))


def filled(seed=0, steps=9, **keys):
    """Return a replay of two environments whose observations number their transitions."""
    generator = torch.Generator().manual_seed(5)
    replay = Replay(
        ReplayConfig(capacity=12, **keys),
        torch.zeros(2, 3),
        torch.zeros(2, 2),
        discount=0.9,
        seed=seed,
        mirror=MIRROR if keys.get("mirrored") else None,
    )
    no = torch.zeros(2, dtype=torch.bool)
    observation = torch.rand(2, 3, generator=generator)
    for step in range(steps):
        following = torch.rand(2, 3, generator=generator)
        action = torch.rand(2, 2, generator=generator)
        replay.add(Transition(observation, action, action.sum(1), no, no, following, no | (step == 4)))
        observation = following
    return replay


def test_images_by_hand():
    batch = Batch(
        observation=torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        action=torch.tensor([[0.1, 0.2], [0.3, 0.4]]),
        reward=torch.tensor([7.0, 8.0]),
        discount=torch.tensor([0.9, 0.0]),
        next_observation=torch.tensor([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]]),
        weight=torch.tensor([1.0, 0.5]),
        index=torch.tensor([3, 9]),
    )
    found = MirrorImages(MIRROR, "cpu").doubled(batch)
    assert found.observation.tolist() == [[1, 2, 3], [1, 3, 2], [4, 5, 6], [4, 6, 5]]
    assert found.next_observation.tolist() == [[10, 20, 30], [10, 30, 20], [40, 50, 60], [40, 60, 50]]
    torch.testing.assert_close(found.action, torch.tensor([[0.1, 0.2], [0.2, 0.1], [0.3, 0.4], [0.4, 0.3]]))
    assert found.reward.tolist() == [7, 7, 8, 8]
    torch.testing.assert_close(found.discount, torch.tensor([0.9, 0.9, 0.0, 0.0]))
    assert found.weight.tolist() == [1, 1, 0.5, 0.5]
    assert found.index.tolist() == [3, 3, 9, 9]


def test_half_of_each_members_minibatch_are_images_of_stored_transitions():
    replay = filled(mirrored=True, n_step=3)
    batch = replay.sample(24)
    assert not replay.buffer.invalid.view(-1)[batch.index].any()
    plain = replay.gather(batch.index, torch.ones(24))
    for member in (slice(0, 12), slice(12, 24)):  # two members' minibatches of twelve
        own, image = slice(member.start, member.stop, 2), slice(member.start + 1, member.stop, 2)
        for name in ("observation", "action", "next_observation", "reward", "discount"):
            assert torch.equal(getattr(batch, name)[own], getattr(plain, name)[own])
        assert torch.equal(batch.observation[image], MIRROR.observations(plain.observation[own]))
        assert torch.equal(batch.next_observation[image], MIRROR.observations(plain.next_observation[own]))
        assert torch.equal(batch.action[image], MIRROR.actions(plain.action[own]))
        assert torch.equal(batch.reward[image], plain.reward[own])


def test_left_out_draws_stay_as_they_were():
    """The default draws the very places that a plain generator gives: nothing of this is in the way."""
    replay = filled(seed=3)
    draw = torch.randint(len(replay), (8,), generator=torch.Generator().manual_seed(3))
    expected = replay.buffer.flat_index(draw // 2, draw % 2)
    found = replay.sample(8).index
    kept = ~replay.buffer.invalid.view(-1)[expected]
    assert kept.any()
    assert torch.equal(found[kept], expected[kept])


def test_a_resumed_replay_draws_the_same():
    replay = filled(mirrored=True)
    replay.sample(8)
    state = {name: tensor.clone() for name, tensor in replay.state().items()}
    expected = replay.sample(8)
    other = filled(seed=9, mirrored=True)
    other.load_state(state)
    for found, wanted in zip(other.sample(8), expected, strict=True):
        assert torch.equal(found, wanted)


def test_refusals():
    example = torch.zeros(2, 3)
    with pytest.raises(UserError, match="no left-right symmetry"):
        Replay(ReplayConfig(mirrored=True), example, example, discount=0.9, seed=0)
    with pytest.raises(UserError, match="would have one priority"):
        ReplayConfig(mirrored=True, prioritized=True)
    with pytest.raises(UserError, match="use false with hindsight"):
        ReplayConfig(mirrored=True, hindsight=HindsightConfig(strategy="future"))
    with pytest.raises(UserError, match=r"use an even agent\.batch_size"):
        filled(mirrored=True).check_size(7)
