"""Advantages of steps along rollouts (Schulman et al. 2016, "High-dimensional continuous control using GAE").

Shapes: T steps, N environments.
"""

from __future__ import annotations

import torch
from torch import Tensor


def generalized_advantages(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    ended: Tensor,
    *,
    discount: float,
    trace_decay: float,
) -> Tensor:
    """Return A_t = sum_k (gamma lambda)^k delta_{t+k} within each episode (eq. 16 there).

    delta_t = r_t + gamma V(s_{t+1}) - V(s_t), the next value cut where the episode terminated: a time limit ends the
    sum, and never the bootstrap.

    Args:
        reward: (T, N).
        value: (T, N) V(s_t).
        next_value: (T, N) V(s_{t+1}) of the true next state, also where an episode ended.
        terminated: (T, N) bool.
        ended: (T, N) bool, terminated or truncated.
        discount: gamma.
        trace_decay: lambda.

    Returns:
        (T, N).
    """
    delta = torch.addcmul(reward, next_value, (~terminated).to(reward), value=discount) - value
    carried = (~ended).to(reward) * (discount * trace_decay)
    advantage = torch.empty_like(delta)
    following = torch.zeros_like(delta[0])
    for step in range(len(delta) - 1, -1, -1):
        following = torch.addcmul(delta[step], carried[step], following, out=advantage[step])
    return advantage
