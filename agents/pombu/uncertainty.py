"""An upper bound on the variance of returns under a posterior of models (arXiv:1911.12574).

With models M drawn from the posterior, Q_M and V_M their values, bars posterior means:

    w(s, a) = Var_M[ r_M(s, a) + gamma sum_s' P_M(s'|s, a) Vbar(s') ]                        local uncertainty
    U(s, a) = w(s, a) + gamma^2 sum_s' Pbar(s'|s, a) sum_a' pi(a'|s') U(s', a')              its recursion
    Var_M[ Q_M(s, a) ] <= U(s, a)

for state graphs without cycles and models whose rows are independent. The recursion discounts with gamma squared, the
values' with gamma.

What it cannot see: a bias that all models share. Noise around a goal that a policy has settled on costs a distance that
is never negative; such returns are off by a mean, which no variance tells.

Shapes: M models, H steps left, S states, A actions; K members, B rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def local_uncertainty(reward: Tensor, next_value: Tensor, discount: float) -> Tensor:
    """Return u = (1/K) sum_i (x_i - xbar)^2 with x_i = r_i + gamma V(s'_i), of K deterministic members.

    The variance is the population's (divided by K), and of reward and value together.

    Args:
        reward: (K, B), or (B,) where it does not depend on the next state.
        next_value: (K, B).
        discount: gamma.

    Returns:
        (B,).
    """
    returns = reward + discount * next_value
    return (returns - returns.mean(dim=0)).square_().mean(dim=0)  # torch.var takes longer


class TabularValues(NamedTuple):
    """Of every model, with H steps in all.

    Attributes:
        action_value: (M, H, S, A) Q.
        value: (M, H + 1, S) V; the last one, after the last step, is 0.
    """

    action_value: Tensor
    value: Tensor


def tabular_values(reward: Tensor, transition: Tensor, policy: Tensor, discount: float) -> TabularValues:
    """Return the values of a policy in each of M layered models.

    Args:
        reward: (M, H, S, A).
        transition: (M, H, S, A, S) probabilities.
        policy: (H, S, A) probabilities.
        discount: gamma.
    """
    models, horizon, states, _ = reward.shape
    value = reward.new_zeros(models, horizon + 1, states)
    action_value = torch.empty_like(reward)
    for step in range(horizon - 1, -1, -1):
        expected = torch.einsum("msat,mt->msa", transition[:, step], value[:, step + 1])
        action_value[:, step] = reward[:, step] + discount * expected
        value[:, step] = (policy[step] * action_value[:, step]).sum(-1)
    return TabularValues(action_value, value)


def tabular_bound(reward: Tensor, transition: Tensor, policy: Tensor, discount: float) -> Tensor:
    """Return U (H, S, A), the bound on the variance of Q over the M models; arguments as tabular_values'."""
    mean_value = tabular_values(reward, transition, policy, discount).value.mean(dim=0)  # (H + 1, S)
    expected = torch.einsum("mhsat,ht->mhsa", transition, mean_value[1:])
    local = torch.var(reward + discount * expected, dim=0, correction=0)
    return _spread(local, transition.mean(dim=0), policy, discount)


def tabular_bellman_uncertainty(reward: Tensor, transition: Tensor, policy: Tensor, discount: float) -> Tensor:
    """Return the older uncertainty Bellman equation's bound (H, S, A) (O'Donoghue et al. 2018), to compare with.

    Its local term is Var r + Qmax^2 sum_s' Var P(s'|s, a) / Pbar(s'|s, a), Qmax the largest |Q| of any model.
    """
    largest = tabular_values(reward, transition, policy, discount).action_value.abs().max()
    mean = transition.mean(dim=0)
    ratio = torch.var(transition, dim=0, correction=0) / mean.clamp_min(1e-12)
    local = torch.var(reward, dim=0, correction=0) + largest.square() * ratio.sum(-1)
    return _spread(local, mean, policy, discount)


def _spread(local: Tensor, mean_transition: Tensor, policy: Tensor, discount: float) -> Tensor:
    """Carry local uncertainties (H, S, A) back from the last step."""
    bound = torch.empty_like(local)
    following = local.new_zeros(local.shape[1])
    for step in range(len(local) - 1, -1, -1):
        bound[step] = local[step] + discount**2 * mean_transition[step] @ following
        following = (policy[step] * bound[step]).sum(-1)
    return bound
