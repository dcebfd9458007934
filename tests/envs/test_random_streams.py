"""The counter-based generator: reproducible, independent of the number of environments, and random."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs.random import EnvironmentRandom


def normal_cdf(value):
    return 0.5 * (1.0 + torch.erf(value / math.sqrt(2.0)))


def kolmogorov_smirnov(probabilities):
    """Distance of values in [0, 1] to the uniform distribution, times the root of their number."""
    ordered = probabilities.flatten().sort().values
    count = len(ordered)
    index = torch.arange(count, dtype=torch.float64)
    distance = torch.maximum((index + 1) / count - ordered, ordered - index / count).max()
    return float(distance) * math.sqrt(count)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(min_value=-(2**70), max_value=2**70),
    num_envs=st.integers(min_value=1, max_value=70),
    counts=st.lists(st.integers(min_value=1, max_value=9), min_size=1, max_size=4),
)
def test_streams_do_not_depend_on_number_of_environments(seed, num_envs, counts):
    many, few = EnvironmentRandom(num_envs, seed), EnvironmentRandom(1 + num_envs // 2, seed)
    everyone = torch.arange(few.num_envs)
    for count in counts:
        for draw in ("uniform", "normal"):
            wide = getattr(many, draw)(torch.arange(num_envs), count)
            narrow = getattr(few, draw)(everyone, count)
            assert torch.equal(wide[: few.num_envs], narrow)


def test_streams_do_not_depend_on_order_of_draws():
    together, apart = EnvironmentRandom(5, 1), EnvironmentRandom(5, 1)
    expected = together.normal(torch.arange(5), 7)
    for index in (3, 0, 4, 1, 2):
        assert torch.equal(apart.normal(torch.tensor([index]), 7)[0], expected[index])


def test_one_long_draw_is_many_short_ones():
    long, short = EnvironmentRandom(3, 9), EnvironmentRandom(3, 9)
    everyone = torch.arange(3)
    pieces = [short.uniform(everyone, count) for count in (1, 4, 2)]
    assert torch.equal(long.uniform(everyone, 7), torch.cat(pieces, dim=1))


def test_state_continues_streams():
    source = EnvironmentRandom(4, 3)
    source.normal(torch.tensor([1, 3]), 5)
    copy = EnvironmentRandom(4, 0)
    copy.load_state(source.state())
    everyone = torch.arange(4)
    assert torch.equal(source.uniform(everyone, 3), copy.uniform(everyone, 3))
    with pytest.raises(ValueError, match="num_envs"):
        EnvironmentRandom(5, 0).load_state(source.state())


def test_splitmix_finalizer_matches_reference():
    """First outputs of SplitMix64 seeded with 1234567, as published with its reference C code."""
    from rlsuite.data.counters import GOLDEN, mix

    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    for index, expected in enumerate(outputs):
        state = torch.tensor(1234567, dtype=torch.int64) + (index + 1) * torch.tensor(GOLDEN)
        assert int(mix(state)) % (1 << 64) == expected


def test_uniform_distribution():
    random = EnvironmentRandom(500, 11)
    values = random.uniform(torch.arange(500), 400)
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(float(values.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / values.numel())
    assert kolmogorov_smirnov(values) < 1.95  # p = 0.001
    assert kolmogorov_smirnov(values[:, 0]) < 1.95
    assert kolmogorov_smirnov(values[0]) < 1.95


def test_normal_distribution():
    random = EnvironmentRandom(501, 12)
    values = random.normal(torch.arange(501), 399)
    assert values.shape == (501, 399)
    count = values.numel()
    assert abs(float(values.mean())) < 4 / math.sqrt(count)
    assert abs(float(values.var()) - 1) < 4 * math.sqrt(2 / count)
    assert abs(float((values**4).mean()) - 3) < 4 * math.sqrt(96 / count)
    assert kolmogorov_smirnov(normal_cdf(values)) < 1.95


def test_neighbours_do_not_correlate():
    values = EnvironmentRandom(200, 13).uniform(torch.arange(200), 2000) - 0.5
    shifted = EnvironmentRandom(200, 14).uniform(torch.arange(200), 2000) - 0.5
    pairs = {
        "environments": (values[:-1], values[1:]),
        "positions": (values[:, :-1], values[:, 1:]),
        "diagonal": (values[:-1, 1:], values[1:, :-1]),
        "seeds": (values, shifted),
    }
    for name, (left, right) in pairs.items():
        correlation = float((left * right).mean()) * 12
        assert abs(correlation) < 4 / math.sqrt(left.numel()), name


def test_every_bit_is_fair():
    bits = EnvironmentRandom(100, 15).bits(torch.arange(100), 500)
    for bit in range(64):
        share = float(((bits >> bit) & 1).to(torch.float64).mean())
        assert abs(share - 0.5) < 4.5 * 0.5 / math.sqrt(bits.numel()), bit


def test_bounds_and_rejection():
    random = EnvironmentRandom(300, 16)
    everyone = torch.arange(300)
    values = random.uniform(everyone, 2, (-0.3, -0.2), (0.0, 0.2))
    assert (values >= torch.tensor([-0.3, -0.2])).all()
    assert (values < torch.tensor([0.0, 0.2])).all()
    disc = random.until(everyone, 2, (-1, -1), (1, 1), lambda place: place.square().sum(dim=1) < 1)
    radius = disc.square().sum(dim=1).sqrt()
    assert (radius < 1).all()
    assert kolmogorov_smirnov(radius**2) < 1.95  # uniform in the disc


def test_a_part_of_more_environments_draws_what_they_draw():
    whole, part = EnvironmentRandom(6, 11), EnvironmentRandom(2, 3)
    part.first = 4
    part.reseed(11)
    both = torch.arange(2)
    assert torch.equal(part.uniform(both, 3), whole.uniform(torch.arange(6), 3)[4:])
    other = EnvironmentRandom(2, 0)
    other.first = 4
    other.load_state(part.state())
    assert torch.equal(other.uniform(both, 3), whole.uniform(torch.arange(6), 3)[4:])


@pytest.mark.parametrize("env_id", ["Hopper", "Painting", "gymnasium:CartPole-v1"])
def test_the_last_of_more_environments_have_their_episodes(env_id):
    whole, part = envs.make_vector(env_id, 5), envs.make_vector(env_id, 2)
    part.place(3)
    one, other = whole.reset(seed=7)[0], part.reset(seed=7)[0]
    assert torch.equal(one[3:], other)
    assert not torch.equal(one[:2], other)
    for env in (whole, part):
        env.close()
