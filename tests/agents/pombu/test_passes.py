"""Passes over imagined data by hand: the conservative objective with an alpha, V and U, what is measured after them."""

import pytest
import torch

from agents.pombu.config import POMBUConfig
from agents.pombu.passes import Rows, conservative, minibatches, optimistic
from agents.pombu.policies import Policies
from agents.pombu.values import Values
from rlsuite.optim.state import adam

CHANGE, ADVANTAGE, SIGMA = [0.3, -0.1, 0.2], [1.0, 1.0, -1.0], [0.5, 1.0, 2.0]


def make(generator, number=1):
    policies = Policies(number, 2, 1, (8,), generator)
    with torch.no_grad():
        policies.log_std.fill_(-0.3)
        policies.network.layers[-1].weight.normal_(generator=generator)
    return policies, Values(2, (8,), generator)


def rows_of(policies, generator, number=1):
    """Return three rows of each policy whose D = pi / pi_old - 1 is CHANGE."""
    observation = torch.randn(number, 3, 2, generator=generator)
    action = torch.randn(number, 3, 1, generator=generator)
    others = ([0.5, 1.5, 2.5], [0.1, 0.2, 0.3], [1.0, 0.5, 0.5])
    columns = [torch.tensor(column).expand(number, 3) for column in (ADVANTAGE, SIGMA, *others)]
    with torch.no_grad():
        old = policies.log_prob(observation, action) - torch.log1p(torch.tensor(CHANGE))
    return Rows(observation, action, *columns, old=old)


def test_a_pass_by_hand(generator):
    """As in test_policy_step: improvement -0.05, deviation 0.65 / 3; alpha 0.4."""
    policy, values = make(generator)
    rows = rows_of(policy, generator)
    config = POMBUConfig(passes=1, minibatch_size=3, hidden_sizes=(8,), uncertainty_weight=0.5)
    with torch.no_grad():
        value, uncertainty = (
            values.value(rows.observation[0], 1.0),
            values.network(rows.observation.expand(2, 3, 2))[1, :, 0],
        )
    loss = (value - rows.value[0]).square().mean() + 0.5 * (uncertainty - rows.uncertainty[0]).square().mean()
    optimizers = {"policy": adam(policy.parameters(), 1e-3), "values": adam(values.parameters(), 1e-3)}
    found = conservative(policy, values, rows, optimizers, config, torch.tensor(0.4), generator)
    assert found["objective"].item() == pytest.approx(-0.05 - 0.4 * 0.65 / 3, rel=1e-4)
    assert found["value_loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    # What is measured is measured after the step, on all rows.
    with torch.no_grad():
        log_ratio = policy.log_prob(rows.observation, rows.action) - rows.old
    assert found["divergence"].item() == pytest.approx(0.5 * float(log_ratio.square().mean()))
    assert found["policy_change"].item() == pytest.approx(float(log_ratio.expm1().abs().mean()), rel=1e-5)
    again = conservative(policy, values, rows, optimizers, config, torch.tensor(0.4), generator)
    assert again["objective"] > found["objective"]
    assert again["value_loss"] < found["value_loss"]


def test_values_that_see_time_learn_what_an_observation_alone_cannot_say(generator):
    """Equal observations, returns 1 with the whole episode left and 0 at its end."""
    policy, _ = make(generator)
    rows = rows_of(policy, generator)._replace(
        observation=torch.ones(1, 3, 2),
        value=torch.tensor([[1.0, 0.5, 0.0]]),
        uncertainty=torch.tensor([[0.0, 0.2, 0.4]]),
        left=torch.tensor([[1.0, 0.5, 0.0]]),
    )
    config = POMBUConfig(passes=300, minibatch_size=3, hidden_sizes=(8,))
    losses = []
    for see_time in (False, True):
        values = Values(2, (8,), generator, see_time=see_time)
        optimizers = {"policy": adam(policy.parameters(), 0.0), "values": adam(values.parameters(), 1e-2)}
        conservative(policy, values, rows, optimizers, config, torch.tensor(0.0), generator)
        with torch.no_grad():
            losses.append(float((values.value(rows.observation[0], rows.left[0]) - rows.value[0]).square().mean()))
    assert losses[0] == pytest.approx(1 / 6, abs=0.01)  # the variance of the targets
    assert losses[1] < 1e-3


def test_the_policys_step_ascends_the_conservative_gradient(generator):
    policy, values = make(generator)
    rows = rows_of(policy, generator)
    change = policy.log_prob(rows.observation, rows.action).sub(rows.old).expm1()
    advantage, sigma = rows.advantage, rows.sigma
    gain = torch.minimum(change * advantage, change.clamp(-0.15, 0.15) * advantage).mean()
    wanted = torch.autograd.grad(gain - 0.4 * (change.abs() * sigma).mean(), list(policy.parameters()))
    norm = torch.stack([gradient.norm() for gradient in wanted]).norm()
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    optimizers = {"policy": torch.optim.SGD(policy.parameters(), 0.01), "values": adam(values.parameters(), 1e-3)}
    config = POMBUConfig(passes=1, minibatch_size=3, hidden_sizes=(8,), gradient_norm=0.01)
    conservative(policy, values, rows, optimizers, config, torch.tensor(0.4), generator)
    for parameter, old, gradient in zip(policy.parameters(), before, wanted, strict=True):
        torch.testing.assert_close(parameter - old, 0.01 * gradient * 0.01 / norm, rtol=1e-3, atol=3e-7)


def test_explorers_step_each_as_if_alone(generator):
    policies, _ = make(generator, number=3)
    rows = rows_of(policies, generator, number=3)
    config = POMBUConfig(passes=1, minibatch_size=3, hidden_sizes=(8,))
    alone = Policies(1, 2, 1, (8,), generator)
    with torch.no_grad():
        for mine, theirs in zip(alone.parameters(), policies.parameters(), strict=True):
            mine.copy_(theirs[1:2])
    optimistic(policies, rows, adam(policies.parameters(), 1e-3), config, generator)
    single = Rows(*(column[1:2] for column in rows))
    optimistic(alone, single, adam(alone.parameters(), 1e-3), config, generator)
    for mine, theirs in zip(alone.parameters(), policies.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs[1:2])


def test_every_row_is_met_once_a_pass_and_rows_stay_whole(generator):
    count = 11
    number = torch.arange(count, dtype=torch.float32).expand(2, count)
    rows = Rows(number.unsqueeze(-1).expand(-1, -1, 3), number.unsqueeze(-1), *[number] * 6)
    parts = list(minibatches(rows, 2, 4, generator))
    assert [part.advantage.shape for part in parts] == [(2, 4), (2, 4), (2, 3)] * 2
    for part in parts:
        for column in part:
            wide = part.old if column.dim() == 2 else part.old.unsqueeze(-1).expand_as(column)
            assert torch.equal(column, wide)
    first, second = (torch.cat([part.old for part in parts[at : at + 3]], dim=1) for at in (0, 3))
    for seen in (first, second):
        assert torch.equal(seen.sort(dim=1).values, number)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])  # each policy's order is its own
