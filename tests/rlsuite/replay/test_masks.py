"""Bootstrap masks: the hash against plain integers, shares and independence, minibatches, resumes and refusals."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents.ace import ACE
from rlsuite.config.compose import compose_train
from rlsuite.errors import UserError
from rlsuite.replay.buffer import Transition
from rlsuite.replay.config import HindsightConfig, ReplayConfig
from rlsuite.replay.masks import hashed, is_own, members_of
from rlsuite.replay.sampler import Replay
from rlsuite.symmetry import Mirror
from rlsuite.vector_env import EnvironmentFacts


def plain_hash(place, member):
    """The same on Python's integers, which have no end."""
    bits = (place * 0x9E3779B1 + (member + 1) * 0x85EBCA77) % 2**32
    bits = (bits ^ bits >> 16) * 0x85EBCA6B % 2**32
    bits = (bits ^ bits >> 13) * 0xC2B2AE35 % 2**32
    return bits ^ bits >> 16


@given(st.integers(0, 2**36), st.integers(0, 1000))
def test_the_hash_is_that_of_plain_integers(place, member):
    assert int(hashed(torch.tensor([place]), torch.tensor([member]))) == plain_hash(place, member)


def test_shares_and_independence():
    places = torch.arange(40_000)
    own = torch.stack([is_own(places, torch.full_like(places, member), 0.3) for member in range(6)]).float()
    error = (0.3 * 0.7 / 40_000) ** 0.5
    assert (own.mean(1) - 0.3).abs().max() < 4 * error
    correlation = torch.corrcoef(torch.cat([own, own.roll(1, dims=1)]))  # members, and neighbouring places
    assert (correlation - torch.eye(12)).abs().max() < 5 / 40_000**0.5
    assert is_own(places, places % 6, 1.0).all()


def test_members_by_hand():
    assert members_of(6, 3, torch.device("cpu")).tolist() == [0, 0, 1, 1, 2, 2]


def filled(seed=0, steps=40, num_members=3, **keys):
    replay = Replay(
        ReplayConfig(capacity=100, **keys),
        torch.zeros(2, 2),
        torch.zeros(2, 2),
        discount=0.9,
        seed=seed,
        mirror=Mirror((1, 0), (1, 0)),
        num_members=num_members,
    )
    no, generator = torch.zeros(2, dtype=torch.bool), torch.Generator().manual_seed(1)
    for step in range(steps):
        row = torch.rand(2, 2, generator=generator)
        replay.add(Transition(row, row, row[:, 0], no, no, row, no | (step % 9 == 4)))
    return replay


@pytest.mark.parametrize("mirrored", [False, True])
def test_members_learn_from_all_of_their_own_and_from_nothing_else(mirrored):
    replay = filled(bootstrap_probability=0.4, mirrored=mirrored)
    index = replay.sample(6000).index
    stored = torch.arange(80)
    for member in range(3):
        own = [
            place
            for place in stored.tolist()
            if plain_hash(place, member) < 0.4 * 2**32 and not replay.buffer.invalid.view(-1)[place]
        ]
        drawn = index[2000 * member : 2000 * (member + 1)]
        assert sorted(set(drawn.tolist())) == own
        counts = torch.bincount(drawn, minlength=80)[own].float()
        share = 2000 / len(own)
        spread = (2.0 if mirrored else 1.0) * share**0.5
        assert (counts - share).abs().max() < 5 * spread  # all of them alike


def test_a_resumed_replay_goes_on_with_the_same_masks_and_draws():
    replay = filled(bootstrap_probability=0.5)
    replay.sample(9)
    state = {name: tensor.clone() for name, tensor in replay.state().items()}
    assert set(state) == set(filled().state())  # nothing is stored
    other = filled(seed=8, steps=1, bootstrap_probability=0.5)
    other.load_state(state)
    assert torch.equal(other.sample(99).index, replay.sample(99).index)


def test_refusals():
    with pytest.raises(UserError, match=r"use a value in \(0, 1\]"):
        ReplayConfig(bootstrap_probability=0.0)
    with pytest.raises(UserError, match="it is for uniform sampling"):
        ReplayConfig(bootstrap_probability=0.5, prioritized=True)
    with pytest.raises(UserError, match="it is for uniform sampling"):
        ReplayConfig(bootstrap_probability=0.5, hindsight=HindsightConfig(strategy="future"))
    with pytest.raises(UserError, match="a pair has none of its own"):
        filled(steps=1, bootstrap_probability=1e-6).sample(6)
    config, _ = compose_train(["agent=ace", "env=Hopper", "agent.num_pairs=1", "replay.bootstrap_probability=0.5"])
    with pytest.raises(UserError, match="a single learner would only leave transitions out"):
        ACE.check(config, EnvironmentFacts.of_vectors(3, [-1.0], [1.0]))
