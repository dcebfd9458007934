"""Stochastic actors of maximum entropy: SAC's densities, targets, losses and temperature against written-out ones."""

import copy
import math

import pytest
import torch
from test_ddpg import LOW, SMALL, batch_of, make
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from agents.ace import ACE, ACEConfig
from rlsuite.errors import UserError
from rlsuite.nn.actors import ActorConfig, Actors, Temperature
from rlsuite.nn.critics import CriticConfig

GAUSSIAN = ActorConfig(hidden_sizes=(8, 8), distribution="squashed_gaussian")


def sac(**keys):
    return make(num_critics=2, actor=GAUSSIAN, **keys)


def test_densities_are_those_of_a_squashed_gaussian(generator):
    actors = Actors(2, 3, 4, GAUSSIAN, generator=generator)
    observation = torch.randn(2, 6, 3, generator=generator)
    sample = actors.sample(observation, generator)
    mean, log_std = actors.network(observation).chunk(2, dim=-1)
    law = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    torch.testing.assert_close(sample.log_prob, law.log_prob(sample.action).sum(-1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(sample.pre_activation, mean)
    torch.testing.assert_close(actors(observation), torch.tanh(mean))


def test_densities_stay_finite_where_tanh_is_one_in_float32():
    actors = Actors(1, 3, 2, GAUSSIAN)
    with torch.no_grad():
        actors.network.layers[-1].bias.fill_(50.0)  # mean 50, standard deviation at its upper clamp
    sample = actors.sample(torch.randn(1, 5, 3), torch.Generator().manual_seed(0))
    assert (sample.action == 1.0).all()
    assert sample.log_prob.isfinite().all()
    sample.log_prob.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in actors.parameters())


def test_update_equals_the_written_out_one():
    """Critic: y = r + gamma (min Q'(s', a') - alpha log pi(a'|s')); actor: alpha log pi - min Q; alpha: eq. 18."""
    agent = sac(initial_temperature=0.3, temperature_learning_rate=1e-2)
    batch, start = batch_of(agent, 0), copy.deepcopy(agent)
    action = ((batch.action - agent.action_range.center) / agent.action_range.half_range)[None]
    stream = torch.Generator()
    stream.set_state(agent.stream.generator.get_state())

    def both(critics, observation, taken):
        return critics.value(critics(torch.cat([observation, taken], dim=-1).expand(2, -1, -1)))

    with torch.no_grad():
        following = start.actors.sample(batch.next_observation[None], stream)
        bootstrap = both(start.target_critics, batch.next_observation[None], following.action).amin(0)
        target = batch.reward + batch.discount * (bootstrap - 0.3 * following.log_prob[0])
    errors = both(start.critics, batch.observation[None], action) - target
    metrics = agent.update(batch)
    assert metrics["critic_loss"].item() == pytest.approx((batch.weight * errors.square()).mean().item(), rel=1e-4)

    drawn = start.actors.sample(batch.observation[None], stream)
    values = both(agent.critics, batch.observation[None], drawn.action).amin(0)  # of the critics just updated
    loss = (0.3 * drawn.log_prob[0] - values).mean()
    assert metrics["actor_loss"].item() == pytest.approx(loss.item(), rel=1e-4)
    gradients = torch.autograd.grad(loss, list(start.actors.parameters()))
    for parameter, before, gradient in zip(
        agent.actors.parameters(), start.actors.parameters(), gradients, strict=True
    ):
        step = -1e-3 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(parameter - before, step, rtol=2e-2, atol=2e-5)
    # Adam's first step on log alpha: up where the entropy is below its target of -1 a dimension.
    direction = math.copysign(1.0, float(drawn.log_prob.mean()) - 2.0)
    assert agent.temperature().log().item() == pytest.approx(math.log(0.3) + 1e-2 * direction, abs=1e-5)
    assert metrics["entropy"].item() == pytest.approx(-drawn.log_prob.mean().item(), rel=1e-4)


def test_temperature_loss_by_hand():
    temperature = Temperature(2, math.e, target_entropy=-3.0)
    log_prob = torch.tensor([[5.0, 7.0], [1.0, 2.0]])  # entropies -6 (too low) and -1.5 (too high)
    torch.testing.assert_close(temperature.loss(log_prob), torch.tensor([-3.0, 1.5]))


def test_a_fixed_temperature_stays():
    agent = sac(initial_temperature=0.2, temperature_learning_rate=0.0)
    agent.update(batch_of(agent, 0))
    assert agent.temperature().item() == pytest.approx(0.2)
    assert "temperature" not in agent.optimizers


def test_explores_by_its_own_law_and_acts_greedily_by_its_mean():
    agent = sac()
    observation = torch.randn(2, 3)
    assert torch.equal(agent.act(observation, False), agent.act(observation, False))
    assert not torch.equal(agent.act(observation, True), agent.act(observation, True))


@pytest.mark.parametrize("loss", ["squared_error", "categorical"])
@pytest.mark.parametrize("critics", [1, 2])
def test_pairs_bootstrap_from_the_smallest_of_their_own_and_the_next_pairs_critics(critics, loss):
    support = {"value_max": 6.0} if loss == "categorical" else {}
    critic = CriticConfig(hidden_sizes=(8,), loss=loss, num_atoms=7, **support)
    keys = {"num_pairs": 3, "num_critics": critics, "actor": GAUSSIAN, "critic": critic, "bootstrap_from": "neighbours"}
    agent = ACE(3, LOW, LOW + 2.0, ACEConfig(**(SMALL | keys)))
    following, action = torch.randn(3, 16, 3), torch.rand(3, 16, 2) * 2 - 1
    output = agent.bootstrap_output(following, action)
    for pair in range(3):
        rows = torch.cat([following[pair], action[pair]], dim=-1)
        raw = agent.target_critics(rows.expand(3 * critics, -1, -1)).unflatten(0, (3, critics))
        raw = torch.cat([raw[pair], raw[(pair + 1) % 3]])
        place = agent.critics.value(raw).argmin(0)
        for critic_of_pair in range(critics):
            expected = raw[place, torch.arange(16)]
            torch.testing.assert_close(output[pair * critics + critic_of_pair], expected)
    assert agent.update(batch_of(agent, 0))["temperature"].item() > 0


def test_what_an_ensemble_refuses():
    with pytest.raises(UserError, match="ensemble's choice has no entropy"):
        ACEConfig(actor=GAUSSIAN, train_with_ensemble=True)
    with pytest.raises(UserError, match="bootstrap_from=neighbours"):
        ACEConfig(bootstrap_from="neighbours", critic=CriticConfig(block="batch_norm"))


def test_the_fixed_point_of_soft_returns_counts_the_entropy_of_every_step():
    # A reward of 0 and an entropy worth 0.2 in every state: gamma 0.2 / (1 - gamma) = 19.8, as single steps learn it;
    # 3-step returns would bonus every third state alone: gamma^3 0.2 / (1 - gamma^3) = 6.53.
    agent, value = sac(discount=0.99), torch.zeros(2, 1, 1)
    for _ in range(2_000):
        reward = torch.addcmul(torch.zeros(1, 1), torch.tensor([[0.99]]), torch.tensor([[0.2]]))
        output = torch.zeros_like(value)
        loss = agent.critics.loss(output, reward, torch.tensor([[0.99]]), value)
        value = loss.sqrt().unsqueeze(-1)
    assert value.flatten().tolist() == pytest.approx([19.8, 19.8], rel=1e-3)


def test_all_rates_fall_together_the_temperatures_too():
    agent = sac(final_learning_rate_share=0.5)
    before = {name: optimizer.param_groups[0]["lr"] for name, optimizer in agent.optimizers.items()}
    agent.anneal(1.0)
    after = {name: float(optimizer.param_groups[0]["lr"]) for name, optimizer in agent.optimizers.items()}
    assert set(after) == {"actor", "critic", "temperature"}
    assert after == pytest.approx({name: 0.5 * float(rate) for name, rate in before.items()})
