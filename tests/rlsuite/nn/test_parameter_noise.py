"""Noise on weights: scale by hand, what is spared, who gets it and for how long, and the same bits after a resume."""

import pytest
import torch
from torch import nn

from agents.ace import ACEConfig
from agents.actor_critic import ActorCritic
from agents.actor_critic_config import ActorCriticConfig
from rlsuite.errors import UserError
from rlsuite.nn.actors import ActorConfig, Actors
from rlsuite.nn.critics import CriticConfig
from rlsuite.nn.exploration import ExplorationConfig
from rlsuite.nn.parameter_noise import ParameterNoise, find_scale, noisy_weights
from rlsuite.replay.buffer import Transition
from rlsuite.vector_env import EnvironmentFacts

SIZES = ActorConfig(hidden_sizes=(8, 8), layer_norm=True)


class Linear(nn.Module):
    """N linear maps, whose change is the scale times the direction's output."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2, 1))

    def forward(self, inputs):
        return inputs @ self.weight


def test_scale_by_hand():
    direction = torch.tensor([[[1.0], [0.0]], [[0.0], [2.0]]])
    states = torch.tensor([[3.0, 1.0], [4.0, 1.0], [99.0, 99.0]]).expand(2, 3, 2)
    counted = torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1)
    # Changes are s (3, 4) and s (2, 2): root mean squares s sqrt(12.5) and 2 s.
    target = torch.tensor([0.5, 0.5])
    found = find_scale(Linear(), {"weight": torch.ones(2, 2, 1)}, {"weight": direction}, states, counted, target)
    torch.testing.assert_close(found, torch.tensor([0.5 / 12.5**0.5, 0.25]), rtol=1e-5, atol=1e-6)


def test_normalization_is_spared():
    names = noisy_weights(Actors(2, 3, 2, SIZES))
    assert len(names) == 6  # a weight and a bias of each of three layers
    assert not [name for name in names if "normalization" in name]


def noise_of(probability=1.0, num_envs=3):
    return ParameterNoise(Actors(num_envs, 4, 2, SIZES), num_envs, 4, probability, seed=1, device="cpu")


def test_actions_of_chosen_episodes_change_by_sigma_until_they_end():
    actors, noise = Actors(2, 4, 2, SIZES), noise_of()
    generator = torch.Generator().manual_seed(0)
    observation, pair = torch.randn(3, 4, generator=generator), torch.tensor([0, 1, 0])
    plain = actors(observation.expand(2, 3, 4))[pair, torch.arange(3)]
    std = torch.tensor([0.1, 0.2, 0.3])
    action = noise(torch.full((3, 2), 9.0), observation, lambda seen: seen, actors, pair, lambda: std)
    before = [weight.clone() for weight in noise.perturbed.parameters()]
    # Judged on the three states that were seen.
    own = noise.perturbed(observation.expand(3, 3, 4))
    learned = actors(observation.expand(2, 3, 4))[pair]
    torch.testing.assert_close((own - learned).square().mean(dim=(1, 2)).sqrt(), std, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(action, own[torch.arange(3), torch.arange(3)])
    assert not torch.allclose(action, plain, atol=1e-3)
    # The learning actors move on; the changed ones stay until their episode ends.
    with torch.no_grad():
        for weight in actors.parameters():
            weight.mul_(1.1)
    noise.advance(torch.tensor([False, True, False]))
    noise(action, observation, lambda seen: seen, actors, pair, lambda: std)
    for old, new in zip(before, noise.perturbed.parameters(), strict=True):
        assert torch.equal(old[0], new[0])
        assert torch.equal(old[2], new[2])
    assert any(not torch.equal(old[1], new[1]) for old, new in zip(before, noise.perturbed.parameters(), strict=True))
    spared = {name: weight for name, weight in noise.perturbed.named_parameters() if name.endswith("scale")}
    assert spared
    assert all(torch.equal(weight[1], torch.full_like(weight[1], 1.1)) for weight in spared.values())


def test_a_share_of_the_episodes_has_it():
    actors, noise = Actors(1, 4, 2, SIZES), noise_of(0.3, num_envs=400)
    observation, pair = torch.zeros(400, 4), torch.zeros(400, dtype=torch.int64)
    action = torch.full((400, 2), 9.0)
    changed = noise(action, observation, lambda seen: seen, actors, pair, lambda: torch.full((400,), 0.1))
    share = (changed != 9.0).all(1).float().mean().item()
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / 400) ** 0.5
    assert torch.equal(changed[~noise.active], action[~noise.active])


def agent_of(chance=0.5, seed=0, **exploration):
    facts = EnvironmentFacts.of_vectors(4, [-1.0, -1.0], [1.0, 1.0], num_envs=3)
    noise = ExplorationConfig(parameter_noise=chance, **exploration)
    config = ActorCriticConfig(actor=SIZES, critic=CriticConfig(hidden_sizes=(8,)), exploration=noise)
    return ActorCritic(facts, config, seed=seed)


def episode(agent, generator, steps):
    """Let an agent act, its episodes ending now and then; return its actions."""
    actions, none = [], torch.zeros(3, dtype=torch.bool)
    for _ in range(steps):
        observation = torch.randn(3, 4, generator=generator)
        actions.append(agent.act(observation, True))
        ended = torch.rand(3, generator=generator) < 0.3
        agent.observe(Transition(observation, actions[-1], torch.zeros(3), ended, none, observation, none))
    return torch.stack(actions)


@pytest.mark.parametrize("correlated", [{}, {"reversion": 0.15, "std": 0.2}])
def test_a_resumed_agent_goes_on_with_the_same_noise(correlated):
    agent, generator = agent_of(**correlated), torch.Generator().manual_seed(3)
    episode(agent, generator, 11)
    other = agent_of(seed=7, **correlated)
    other.load_state_dict({name: tensor.clone() for name, tensor in agent.state_dict().items()})
    later = torch.Generator().manual_seed(4)
    expected = episode(agent, later, 11)
    assert torch.equal(episode(other, torch.Generator().manual_seed(4), 11), expected)


def test_without_it_agents_are_as_they_were():
    plain, noisy = agent_of(0.0), agent_of(0.5)
    assert not [name for name in plain.state_dict() if name.startswith("parameter_noise")]
    for name, tensor in plain.state_dict().items():
        assert torch.equal(noisy.state_dict()[name], tensor), name


def test_refusals():
    with pytest.raises(UserError, match=r"use a value in \[0, 1\]"):
        ExplorationConfig(parameter_noise=1.5)
    with pytest.raises(UserError, match="takes the place of noise on actions"):
        ExplorationConfig(parameter_noise=0.3, before_tanh=True)
    with pytest.raises(UserError, match="whose weights have no fixed norm"):
        ActorCriticConfig(
            actor=ActorConfig(distribution="squashed_gaussian"), exploration=ExplorationConfig(parameter_noise=0.3)
        )
    with pytest.raises(UserError, match="changes one actor an episode"):
        ACEConfig(collect_with="ensemble", exploration=ExplorationConfig(parameter_noise=0.3))
