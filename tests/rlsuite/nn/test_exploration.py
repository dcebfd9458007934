"""Exploration noise: moments of the plain kind, the card's schedule by a hand-written table, its state."""

import pytest
import torch

from rlsuite.nn.exploration import ExplorationConfig, GaussianExploration, RandomStream

CARD = ExplorationConfig(std=1.0, hold=5, episode_multipliers=(1.0, 2.0, 0.0), decision_decay=0.98, episode_decay=0.999)


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
    noise = GaussianExploration(2, 1, CARD, seed=0, device="cpu")
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
    noise = GaussianExploration(2, 3, CARD, seed=0, device="cpu")
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


def test_random_stream_round_trip():
    stream = RandomStream(3)
    torch.rand(7, generator=stream.generator)
    state = {name: value.clone() for name, value in stream.state_dict().items()}
    expected = torch.rand(5, generator=stream.generator)
    other = RandomStream(99)
    other.load_state_dict(state)
    assert torch.equal(torch.rand(5, generator=other.generator), expected)
    assert all(isinstance(value, torch.Tensor) for value in state.values())  # safetensors can hold it


@pytest.mark.parametrize("config", [CARD, ExplorationConfig()], ids=["card", "plain"])
def test_exploration_state_round_trip(config):
    first = GaussianExploration(3, 2, config, seed=1, device="cpu")
    for step in range(7):
        first(torch.zeros(3, 2))
        first.advance(torch.tensor([step == 2, step == 4, False]))
    second = GaussianExploration(3, 2, config, seed=2, device="cpu")
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    for step in range(12):
        assert torch.equal(first(torch.zeros(3, 2)), second(torch.zeros(3, 2)))
        for noise in (first, second):
            noise.advance(torch.tensor([step == 1, False, step == 5]))
