"""The bound on the variance of returns: by hand, in tables, and along imagined roll-outs of a point."""

import pytest
import torch

from agents.pombu.uncertainty import (
    local_uncertainty,
    tabular_bellman_uncertainty,
    tabular_bound,
    tabular_values,
)
from rlsuite.advantages import generalized_advantages


def test_local_uncertainty_by_hand():
    """x = 1 + 0.5 * (2, 4) = (2, 3): mean 2.5, variance 0.25, divided by K."""
    assert local_uncertainty(torch.tensor([1.0]), torch.tensor([[2.0], [4.0]]), 0.5).item() == pytest.approx(0.25)
    # Reward and value together: what one adds the other takes away.
    reward = torch.tensor([[1.0], [0.0]])
    assert local_uncertainty(reward, torch.tensor([[2.0], [4.0]]), 0.5).item() == pytest.approx(0.0)


def test_recursion_by_hand():
    """Two steps, one state, one action: U_0 = w_0 + gamma^2 w_1, gamma squared and not gamma."""
    reward = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).repeat(1, 2, 1, 1)  # variance 1 at both steps
    transition, policy = torch.ones(2, 2, 1, 1, 1), torch.ones(2, 1, 1)
    bound = tabular_bound(reward, transition, policy, 0.5)
    assert bound.flatten().tolist() == pytest.approx([1.0 + 0.25, 1.0])
    values = tabular_values(reward, transition, policy, 0.5)
    assert values.action_value[:, 0].flatten().tolist() == pytest.approx([1.5, 4.5])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tabular_check_of_the_card(seed):
    """5 layers, 6 states, 2 actions, Dirichlet rows, 4000 models: U bounds the variance, far tighter than UBE."""
    generator = torch.Generator().manual_seed(seed)
    models, horizon, states, actions = 4000, 5, 6, 2
    # Each row a posterior of its own, known from some ten observations.
    concentration = 0.2 + 2.0 * torch.rand(horizon, states, actions, states, generator=generator, dtype=torch.float64)
    draws = torch._standard_gamma(concentration.expand(models, -1, -1, -1, -1).contiguous(), generator=generator)
    transition = draws / draws.sum(-1, keepdim=True)
    mean = torch.rand(horizon, states, actions, generator=generator, dtype=torch.float64)
    noise = torch.randn(models, horizon, states, actions, generator=generator, dtype=torch.float64)
    reward = mean + 0.1 * noise
    policy = torch.rand(horizon, states, actions, generator=generator, dtype=torch.float64) + 0.1
    policy = policy / policy.sum(-1, keepdim=True)
    variance = tabular_values(reward, transition, policy, 0.99).action_value.var(dim=0, correction=0)
    bound = tabular_bound(reward, transition, policy, 0.99)
    older = tabular_bellman_uncertainty(reward, transition, policy, 0.99)
    assert (bound >= 0.97 * variance).all()
    assert 1.0 <= float((bound / variance).mean()) < 5.0
    assert float((older / bound).mean()) > 50.0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_calibration_along_roll_outs_of_a_drifting_point(seed):
    """Card, Small B: five members that err by fresh noise; the error of a sampled return in units of sqrt(U)."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    steps, rows, members, discount = 30, 2000, 5, 0.99
    start = torch.rand(rows, 3, generator=generator, dtype=torch.float64) * 2 - 1

    def move(state):
        return state + (0.03 * torch.sin(3.0 * (state.roll(-1, dims=1) + 1.0)) + 0.03).clamp(-0.1, 0.1)

    def exact_value(state, steps_left):
        total = torch.zeros(state.shape[:-1], dtype=torch.float64)
        for step in range(steps_left):
            state = move(state.reshape(-1, 3)).reshape(state.shape)
            total -= 0.99**step * state.norm(dim=-1)
        return total

    state, sampled, uncertainty = start, torch.zeros(rows, dtype=torch.float64), []
    for step in range(steps):
        following = move(state) + 0.01 * normal(members, rows, 3)
        reward = -following.norm(dim=-1)
        uncertainty.append(local_uncertainty(reward, exact_value(following, steps - step - 1), discount))
        chosen = torch.randint(members, (rows,), generator=generator)
        sampled += discount**step * reward.mean(dim=0)
        state = following[chosen, torch.arange(rows)]
    # U targets with lambda 1 are the sums of gamma^2k u.
    local = torch.stack(uncertainty)
    none, last = torch.zeros(steps, rows, dtype=torch.bool), torch.zeros(steps, rows, dtype=torch.bool)
    last[-1] = True
    zero = torch.zeros_like(local)
    bound = generalized_advantages(local, zero, zero, last, last | none, discount=discount**2, trace_decay=1.0)[0]
    error = sampled - exact_value(start, steps)
    z = error / bound.sqrt()
    assert 1.0 <= float(z.std()) <= 1.25
    assert float((z.abs() < 2).double().mean()) >= 0.9
    ranks = torch.stack([error.abs().argsort().argsort(), bound.argsort().argsort()]).double()
    assert float(torch.corrcoef(ranks)[0, 1]) >= 0.15
