"""Two checks of POMBU's bound that need no training (arXiv:1911.12574), in tables and on a point.

Shapes: M models, K members, H steps, S states, A actions, R roll-outs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.pombu.policy_step import targets
from agents.pombu.uncertainty import local_uncertainty, tabular_bellman_uncertainty, tabular_bound, tabular_values
from envs import catalogue

DISCOUNT = 0.99


def tabular_check(seed: int, models: int = 4000) -> dict[str, float]:
    """Compare the bound with the variance of Q in layered tables of 5 steps, 6 states and 2 actions.

    Args:
        seed: of the tables.
        models: M, draws from the posterior: Dirichlet rows, each known from some ten observations, and noisy rewards.

    Returns:
        Over all states, actions and steps: smallest_ratio and mean_ratio of U to the variance, and ratio_of_older, the
        mean ratio to U of what the older uncertainty Bellman equation gives.
    """
    generator = torch.Generator().manual_seed(seed)
    size, options = (5, 6, 2), {"generator": generator, "dtype": torch.float64}
    concentration = 0.2 + 2.0 * torch.rand(*size, 6, **options)  # type: ignore[call-overload]
    draws = torch._standard_gamma(concentration.expand(models, -1, -1, -1, -1).contiguous(), generator=generator)
    transition = draws / draws.sum(-1, keepdim=True)
    reward = torch.rand(*size, **options) + 0.1 * torch.randn(models, *size, **options)  # type: ignore[call-overload]
    policy = torch.rand(*size, **options) + 0.1  # type: ignore[call-overload]
    policy = policy / policy.sum(-1, keepdim=True)
    variance = tabular_values(reward, transition, policy, DISCOUNT).action_value.var(dim=0, correction=0)
    bound = tabular_bound(reward, transition, policy, DISCOUNT)
    older = tabular_bellman_uncertainty(reward, transition, policy, DISCOUNT)
    return {
        "smallest_ratio": float((bound / variance).min()),
        "mean_ratio": float((bound / variance).mean()),
        "ratio_of_older": float((older / bound).mean()),
    }


def point_check(seed: int, roll_outs: int = 2000, *, settling: bool = False) -> dict[str, float]:
    """Compare errors of imagined returns with sqrt(U) on Point3D, along single roll-outs of 30 steps.

    Five members err by fresh noise of deviation 0.01 in every step. The policy drifts by the goal and does not settle
    on it: noise around a goal makes a distance larger on average, a bias that no variance sees. V is exact.

    Args:
        seed: of starts and noise.
        roll_outs: R.
        settling: go straight to the goal and stay there instead, to see that bias.

    Returns:
        Of z = (imagined Q - Q) / sqrt(U): its mean and std, and the share within +-2; and the correlation of the ranks
        of |error| and of sqrt(U).
    """
    task = catalogue.build("Point3D")
    assert task.known_reward is not None
    generator = torch.Generator().manual_seed(seed)
    steps, members = task.max_episode_steps, 5
    start = torch.rand(roll_outs, 3, generator=generator, dtype=torch.float64) * 2 - 1

    def move(state: Tensor) -> Tensor:
        drift = 0.03 * torch.sin(3.0 * state.roll(-1, dims=-1) + 1.0) + 0.03
        return state + (-state if settling else drift).clamp(-0.1, 0.1)

    def reward(state: Tensor, following: Tensor) -> Tensor:
        return task.known_reward(state, following, following)  # type: ignore[misc]  (actions cost nothing)

    def exact_value(state: Tensor, steps_left: int) -> Tensor:
        total = torch.zeros(state.shape[:-1], dtype=torch.float64)
        for step in range(steps_left):
            following = move(state)
            total += DISCOUNT**step * reward(state, following)
            state = following
        return total

    state, gains, uncertainties = start, [], []
    for step in range(steps):
        noise = torch.randn(members, roll_outs, 3, generator=generator, dtype=torch.float64)
        following = move(state) + 0.01 * noise
        earned = reward(state, following)
        uncertainties.append(local_uncertainty(earned, exact_value(following, steps - step - 1), DISCOUNT))
        gains.append(earned.mean(dim=0))
        chosen = torch.randint(members, (roll_outs,), generator=generator)
        state = following[chosen, torch.arange(roll_outs)]
    gain, local = (torch.stack(column).unsqueeze(1) for column in (gains, uncertainties))  # (H, 1, R)
    zero = torch.zeros_like(gain)
    learned = targets(gain, local, zero, zero, discount=DISCOUNT, trace_decay=1.0)
    deviation = learned.uncertainty[0, 0].sqrt()
    error = learned.value[0, 0] - exact_value(start, steps)
    z = error / deviation
    ranks = torch.stack([error.abs().argsort().argsort(), deviation.argsort().argsort()]).double()
    return {
        "mean": float(z.mean()),
        "std": float(z.std()),
        "share_within_2": float((z.abs() < 2).double().mean()),
        "rank_correlation": float(torch.corrcoef(ranks)[0, 1]),
    }
