"""Exploration noise: moments of the plain kind, schedules by hand-written tables, random actions, its state."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlsuite.errors import UserError
from rlsuite.nn.exploration import ExplorationConfig, GaussianExploration, RandomStream

PAPER = ExplorationConfig(
    std=1.0, hold=5, episode_multipliers=(1.0, 2.0, 0.0), decision_decay=0.98, episode_decay=0.999
)

EVERYTHING = ExplorationConfig(
    std=0.8,
    schedule="cosine",
    final_std=0.1,
    decay_steps=60,
    hold=2,
    episode_multipliers=(1.0, 0.5),
    decision_decay=0.9,
    env_multiplier_min=0.5,
    env_multiplier_max=2.0,
    random_probability=0.3,
)


def explore(num_envs, action_size=1, *, seed=0, **keys):
    return GaussianExploration(num_envs, action_size, ExplorationConfig(**keys), seed=seed, device="cpu")


def test_plain_noise_is_the_streams_normal_numbers_and_nothing_else():
    noise, generator = explore(4, 3, seed=7, std=0.2), torch.Generator().manual_seed(7)
    for _ in range(3):
        expected = (0.5 + 0.2 * torch.randn(4, 3, generator=generator)).clamp(-1.0, 1.0)
        torch.testing.assert_close(noise(torch.full((4, 3), 0.5)), expected)
        noise.advance(torch.zeros(4, dtype=torch.bool))
    assert torch.equal(noise.stream.generator.get_state(), generator.get_state())


def test_plain_noise_has_the_moments_of_its_config():
    noise = GaussianExploration(1000, 3, ExplorationConfig(std=0.2), seed=0, device="cpu")
    drawn = torch.cat([noise(torch.full((1000, 3), 0.1)) - 0.1 for _ in range(20)])
    assert drawn.mean().item() == pytest.approx(0.0, abs=4 * 0.2 / 60_000**0.5)
    assert drawn.std().item() == pytest.approx(0.2, rel=0.02)
    assert drawn[:1000].flatten().dot(drawn[1000:2000].flatten()).item() / 3000 == pytest.approx(0, abs=0.004)


def test_noise_is_clipped_to_the_bounds():
    noise = GaussianExploration(500, 1, ExplorationConfig(std=2.0), seed=0, device="cpu")
    action = noise(torch.zeros(500, 1))
    assert action.abs().max() == 1.0
    assert 0.5 < (action.abs() == 1.0).float().mean() < 0.75  # P(|2 z| > 1) = 0.617


def test_a_single_multiplier_scales_plain_noise():
    noise = GaussianExploration(2000, 1, ExplorationConfig(std=0.2, episode_multipliers=(0.5,)), seed=0, device="cpu")
    assert noise(torch.zeros(2000, 1)).std().item() == pytest.approx(0.1, rel=0.06)


def test_the_cards_sigma_by_hand():
    """Two environments; environment 0 ends after decisions 3 and 5, environment 1 after decision 4."""
    noise = GaussianExploration(2, 1, PAPER, seed=0, device="cpu")
    # episode number and decision within it before each decision, counted by hand
    table = [
        ((0, 0), (1, 0), ()),
        ((0, 1), (1, 1), ()),
        ((0, 2), (1, 2), ()),
        ((0, 3), (1, 3), (0,)),
        ((2, 0), (1, 4), (1,)),
        ((2, 1), (3, 0), (0,)),
        ((4, 0), (3, 1), (0, 1)),  # both end at once: the lower environment takes the lower number
        ((5, 0), (6, 0), ()),
    ]
    for first, second, ends in table:
        expected = [
            1.0 * 0.999**episode * (1.0, 2.0, 0.0)[episode % 3] * 0.98**decision
            for episode, decision in (first, second)
        ]
        assert noise.std().tolist() == pytest.approx(expected, rel=1e-5)
        noise(torch.zeros(2, 1))
        noise.advance(torch.tensor([0 in ends, 1 in ends]))


def test_noise_is_held_for_five_decisions_and_drawn_anew_with_an_episode():
    noise = GaussianExploration(2, 3, PAPER, seed=0, device="cpu")
    drawn = []
    for decision in range(12):
        drawn.append((noise(torch.zeros(2, 3)), noise.noise.clone())[1])
        noise.advance(torch.tensor([decision == 6, False]))
    changes = [
        [step for step in range(1, 12) if not torch.equal(drawn[step][env], drawn[step - 1][env])] for env in (0, 1)
    ]
    assert changes[1] == [5, 10]
    assert changes[0] == [5, 7]  # episode 2 begins at step 7, with multiplier 0
    assert not drawn[7][0].any()
    assert not drawn[11][0].any()


def test_held_noise_scales_with_sigma_at_its_draw():
    config = ExplorationConfig(std=0.1, hold=2, decision_decay=0.5)
    noise = GaussianExploration(4000, 1, config, seed=0, device="cpu")
    stds = []
    for _ in range(6):
        stds.append(noise(torch.zeros(4000, 1)).std().item())
        noise.advance(torch.zeros(4000, dtype=torch.bool))
    assert stds == pytest.approx([0.1, 0.1, 0.025, 0.025, 0.00625, 0.00625], rel=0.06)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2]),
        ("cosine", [1.0, 0.6 + 0.4 * math.sqrt(0.5), 0.6, 0.6 - 0.4 * math.sqrt(0.5), 0.2, 0.2, 0.2]),
    ],
)
def test_schedules_by_hand(schedule, expected):
    """Three environments: twelve environment steps are four decisions; ends of episodes do not matter."""
    noise = explore(3, std=1.0, schedule=schedule, final_std=0.2, decay_steps=12)
    sigmas = []
    for decision in range(7):
        sigmas.append(noise.std())
        noise.advance(torch.tensor([decision == 1, False, decision == 4]))
    for sigma, value in zip(sigmas, expected, strict=True):
        assert sigma.tolist() == pytest.approx([value] * 3)


def test_a_schedule_may_rise():
    noise = explore(2, std=0.0, schedule="linear", final_std=0.5, decay_steps=4)
    noise.advance(torch.tensor([False, False]))
    assert noise.std().tolist() == pytest.approx([0.25, 0.25])


@given(
    std=st.floats(0, 10, width=32),
    final_std=st.floats(0, 10, width=32),
    decay_steps=st.integers(1, 500),
    schedule=st.sampled_from(["linear", "cosine"]),
    num_envs=st.integers(1, 5),
)
def test_a_schedule_stays_between_its_ends_and_runs_one_way(std, final_std, decay_steps, schedule, num_envs):
    noise = explore(num_envs, std=std, schedule=schedule, final_std=final_std, decay_steps=decay_steps)
    sigmas = []
    for _ in range(20):
        sigmas.append(float(noise.scheduled_std()))
        noise.advance(torch.zeros(num_envs, dtype=torch.bool))
    noise.steps.fill_(decay_steps)
    sigmas.append(float(noise.scheduled_std()))
    slack = 1e-5 * max(std, final_std)
    assert sigmas[0] == pytest.approx(std, abs=slack)
    assert sigmas[-1] == pytest.approx(final_std, abs=slack)
    changes = torch.tensor(sigmas).diff() * math.copysign(1.0, final_std - std)
    assert changes.min() >= -slack
    assert min(std, final_std) - slack <= min(sigmas)
    assert max(sigmas) <= max(std, final_std) + slack


def test_scheduled_noise_has_its_sigma():
    noise = explore(4000, std=0.2, schedule="linear", final_std=0.1, decay_steps=8000)
    stds = []
    for _ in range(4):
        stds.append(noise(torch.zeros(4000, 1)).std().item())
        noise.advance(torch.zeros(4000, dtype=torch.bool))
    assert stds == pytest.approx([0.2, 0.15, 0.1, 0.1], rel=0.06)


def test_environments_use_evenly_spaced_factors():
    noise = explore(4, std=0.1, env_multiplier_min=0.5, env_multiplier_max=2.0)
    assert noise.std().tolist() == pytest.approx([0.05, 0.1, 0.15, 0.2])
    drawn = torch.stack([noise(torch.zeros(4, 1)) for _ in range(4000)])
    assert drawn.std(dim=0).flatten().tolist() == pytest.approx([0.05, 0.1, 0.15, 0.2], rel=0.06)
    assert explore(1, std=0.1, env_multiplier_min=0.5, env_multiplier_max=2.0).std().item() == pytest.approx(0.05)


def test_equal_factors_keep_the_plain_path():
    noise = explore(2000, std=0.2, env_multiplier_min=0.5, env_multiplier_max=0.5)
    assert noise.plain
    assert noise(torch.zeros(2000, 1)).std().item() == pytest.approx(0.1, rel=0.06)


def test_every_factor_multiplies():
    noise = explore(
        2,
        std=1.0,
        schedule="linear",
        final_std=0.5,
        decay_steps=8,
        episode_multipliers=(1.0, 3.0),
        decision_decay=0.9,
        episode_decay=0.8,
        env_multiplier_min=1.0,
        env_multiplier_max=2.0,
    )
    noise.advance(torch.tensor([True, False]))  # two of eight steps; environment 0 goes on to episode 2
    assert noise.std().tolist() == pytest.approx([0.875 * 0.8**2 * 1.0, 0.875 * 0.8 * 3.0 * 0.9 * 2.0])


@pytest.mark.parametrize("probability", [0.1, 0.3, 1.0])
def test_random_actions_come_at_their_rate_and_are_uniform(probability):
    noise = explore(20_000, 2, std=0.0, random_probability=probability)
    action = noise(torch.full((20_000, 2), 0.25))
    changed = action != 0.25
    assert torch.equal(changed[:, 0], changed[:, 1])  # the whole action or none of it
    rate = changed[:, 0].float().mean().item()
    assert rate == pytest.approx(probability, abs=4 * math.sqrt(probability * (1 - probability) / 20_000) + 1e-9)
    drawn = action[changed[:, 0]]
    assert drawn.abs().max() <= 1.0
    assert drawn.mean().item() == pytest.approx(0.0, abs=4 * math.sqrt(1 / 3 / drawn.numel()))
    assert drawn.var().item() == pytest.approx(1 / 3, rel=0.06)
    correlation = torch.corrcoef(drawn.T)[0, 1].item()
    assert correlation == pytest.approx(0.0, abs=4 / math.sqrt(len(drawn)))


def test_random_actions_do_not_touch_held_noise():
    quiet, random = explore(500, std=0.3, hold=3), explore(500, std=0.3, hold=3, random_probability=0.5)
    before = [quiet(torch.zeros(500, 1)), random(torch.zeros(500, 1))]
    same = (before[0] == before[1]).float().mean().item()
    assert 0.4 < same < 0.6
    assert torch.equal(quiet.noise, random.noise)
    held = random.noise.clone()
    random.advance(torch.zeros(500, dtype=torch.bool))
    after = random(torch.zeros(500, 1))
    assert torch.equal(random.noise, held)
    assert ((after == held.clamp(-1.0, 1.0)) != (before[1] == held.clamp(-1.0, 1.0))).any()  # a new set of environments


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"std": -0.1}, "std"),
        ({"schedule": "exponential"}, "schedule"),
        ({"final_std": 0.1}, "schedule"),  # would go unused
        ({"decay_steps": 100}, "schedule"),
        ({"schedule": "linear", "decay_steps": 100}, "final_std"),
        ({"schedule": "linear", "final_std": -0.1, "decay_steps": 100}, "final_std"),
        ({"schedule": "linear", "final_std": math.nan, "decay_steps": 100}, "final_std"),
        ({"schedule": "cosine", "final_std": 0.1}, "decay_steps"),
        ({"env_multiplier_min": -0.5}, "env_multiplier_min"),
        ({"env_multiplier_max": 0.5}, "env_multiplier_max"),  # below env_multiplier_min=1
        ({"env_multiplier_max": math.inf}, "env_multiplier_max"),
        ({"random_probability": 1.5}, "random_probability"),
        ({"random_probability": math.nan}, "random_probability"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_in_one_line(wrong, key):
    with pytest.raises(UserError, match=rf"^agent\.exploration\.{key}=[^\n]*$"):
        ExplorationConfig(**wrong)


def test_random_stream_round_trip():
    stream = RandomStream(3)
    torch.rand(7, generator=stream.generator)
    state = {name: value.clone() for name, value in stream.state_dict().items()}
    expected = torch.rand(5, generator=stream.generator)
    other = RandomStream(99)
    other.load_state_dict(state)
    assert torch.equal(torch.rand(5, generator=other.generator), expected)
    assert all(isinstance(value, torch.Tensor) for value in state.values())  # safetensors can hold it


@pytest.mark.parametrize("config", [PAPER, ExplorationConfig(), EVERYTHING], ids=["paper", "plain", "everything"])
def test_exploration_state_round_trip(config):
    first = GaussianExploration(3, 2, config, seed=1, device="cpu")
    for step in range(7):
        first(torch.zeros(3, 2))
        first.advance(torch.tensor([step == 2, step == 4, False]))
    second = GaussianExploration(3, 2, config, seed=2, device="cpu")
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    for step in range(16):  # the schedule of EVERYTHING ends at step 13 of these
        assert torch.equal(first.std(), second.std())
        assert torch.equal(first(torch.zeros(3, 2)), second(torch.zeros(3, 2)))
        for noise in (first, second):
            noise.advance(torch.tensor([step == 1, False, step == 5]))


# -- held for a zeta-distributed number of decisions, before tanh ------------------------------------------


def zeta(num_envs, **keys):
    return explore(num_envs, 1, **({"std": 1.0, "hold": 16, "hold_law": "zeta", "before_tanh": True} | keys))


def held_runs(noise, decisions, ends=()):
    """Return for each environment how long each of its draws was kept, the last, cut off, left out."""
    rows, going = [], torch.zeros(noise.noise.shape[0], dtype=torch.bool)
    for decision in range(decisions):
        rows.append(noise.held()[:, 0].clone())
        noise.advance(~going if decision in ends else going)
    lengths = []
    for column in torch.stack(rows, dim=1):
        changes = [0, *(torch.nonzero(column[1:] != column[:-1])[:, 0] + 1).tolist()]
        lengths.append([later - earlier for earlier, later in zip(changes[:-1], changes[1:], strict=True)])
    return lengths


def test_draws_are_held_as_long_as_the_zeta_law_says_by_each_environment_for_itself():
    lengths = held_runs(zeta(400), 200)
    pooled = torch.tensor([length for row in lengths for length in row])
    mass = [n**-2.0 for n in range(1, 17)]
    law = [share / sum(mass) for share in mass]
    assert pooled.max() == 16
    for n in (1, 2, 3, 16):  # four standard errors of each share; long ones are cut off a little more often
        error = 4.0 * math.sqrt(law[n - 1] / len(pooled)) + 0.001
        assert (pooled == n).float().mean().item() == pytest.approx(law[n - 1], abs=error)
    assert sum(n * share for n, share in enumerate(law, 1)) == pytest.approx(2.13, abs=0.01)
    assert len({tuple(row[:10]) for row in lengths}) > 350


def test_an_episodes_end_ends_its_draw():
    noise = zeta(500)
    for _ in range(5):
        before = noise.held().clone()
        noise.advance(torch.ones(500, dtype=torch.bool))
        assert (noise.held() != before).all()


def test_asking_twice_within_a_decision_gives_the_same_noise():
    noise = zeta(50)
    assert torch.equal(noise.held().clone(), noise.held())


def test_held_noise_continues_from_its_state():
    noise, twin = zeta(20), zeta(20, hold=16)
    going = torch.zeros(20, dtype=torch.bool)
    for _ in range(7):
        noise.held()
        noise.advance(going)
    twin.load_state_dict(noise.state_dict())
    for _ in range(20):
        assert torch.equal(noise.held(), twin.held())
        noise.advance(going)
        twin.advance(going)


def test_noise_before_tanh_is_not_added_again():
    action = torch.full((3, 1), 0.25)
    assert torch.equal(zeta(3)(action), action)


def test_a_hold_below_what_its_law_needs_is_refused():
    with pytest.raises(UserError, match=r"exploration\.hold=0: use 1 or more"):
        ExplorationConfig(hold=0)
    with pytest.raises(UserError, match=r"exploration\.hold=1: hold_law=zeta .* use 2 or more"):
        ExplorationConfig(hold_law="zeta")
    with pytest.raises(UserError, match=r"exploration\.hold_law=zipf"):
        ExplorationConfig(hold_law="zipf")


def test_correlated_noise_by_hand():
    config = ExplorationConfig(std=0.5, reversion=2.0, time_step=0.25)
    noise, generator = GaussianExploration(2, 1, config, seed=4, device="cpu"), torch.Generator().manual_seed(4)
    held = torch.zeros(2, 1)
    for step in range(6):
        # x - 2 x / 4 + 0.5 sqrt(1 / 4) n
        held = 0.5 * held + 0.25 * torch.randn(2, 1, generator=generator)
        torch.testing.assert_close(noise(torch.zeros(2, 1)), held.clamp(-1.0, 1.0))
        ended = torch.tensor([step == 2, False])
        noise.advance(ended)
        held = held.masked_fill(ended.unsqueeze(1), 0.0)


def test_correlated_noise_has_the_deviation_of_its_process():
    """A discrete Ornstein-Uhlenbeck process x' = (1 - k) x + s n settles at s / sqrt(1 - (1 - k)^2)."""
    config = ExplorationConfig(std=0.1, reversion=0.15)
    noise = GaussianExploration(4000, 1, config, seed=0, device="cpu")
    for _ in range(60):
        noise.held()
    assert noise.noise.std().item() == pytest.approx(0.1 / (1.0 - 0.85**2) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"reversion": -1.0}, "reversion"),
        ({"reversion": 3.0, "time_step": 0.5}, "overshoots 0; use a product up to 1"),
        ({"time_step": 0.01}, "draws are independent"),
        ({"reversion": 0.1, "hold": 5}, "changes at each decision; use 1, or reversion=0"),
    ],
)
def test_correlated_noise_refuses(keys, message):
    with pytest.raises(UserError, match=message):
        ExplorationConfig(**keys)
