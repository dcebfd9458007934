"""Roll-outs inside the models, all trajectories, members and policies at once (arXiv:1911.12574).

The only loop is over time. A member is drawn anew for every transition; no value is bootstrapped after the last step.

Shapes: H steps, P policies, B trajectories of each, K members, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from agents.pombu.policies import Policies
from agents.pombu.uncertainty import local_uncertainty

Reward = Callable[[Tensor, Tensor, Tensor], Tensor]
Predict = Callable[[Tensor, Tensor], Tensor]
Function = Callable[[Tensor], Tensor]
Value = Callable[[Tensor, Tensor], Tensor]

STEPS_AT_ONCE = 10  # of V and uncertainties: 25 and 200 took longer (docs/decisions.md)


class Imagined(NamedTuple):
    """Imagined trajectories, every tensor leading with (H, P, B)."""

    observation: Tensor
    action: Tensor
    reward: Tensor
    uncertainty: Tensor


@torch.no_grad()
def imagine(
    start: Tensor,
    steps: int,
    policies: Policies,
    predict: Predict,
    *,
    normalize: Function,
    to_environment: Function,
    to_models: Function,
    reward: Reward,
    scale_reward: Function,
    value: Value,
    discount: float,
    largest_state: float,
    generator: torch.Generator,
    member_weights: Tensor | None = None,
) -> Imagined:
    """Roll policies out in the models.

    Args:
        start: (P, B, D) observations to start from.
        steps: H.
        policies: P of them.
        predict: the K models' next observations (K, rows, D) of observations (rows, D) and actions (rows, A).
        normalize: standardizes observations for policies and values.
        to_environment: actions in half ranges to the environment's units, clipped to its bounds.
        to_models: the same to the units in which the models have learned them.
        reward: the known reward of observations (rows, D), actions (rows, A) in the environment's units and members'
            next observations (K, rows, D): (K, rows), or (rows,) where the next observation does not matter.
        scale_reward: puts rewards into the units of the values.
        value: V (rows,) of standardized observations (rows, D) and the shares of the steps that are left, (rows,).
        discount: gamma.
        largest_state: observations are clipped to plus or minus this.
        generator: of actions and members.
        member_weights: (P, K) probabilities of each policy's members; None for equal ones.
    """
    trajectories, rows = start.shape[1], torch.arange(start.shape[0] * start.shape[1], device=start.device)
    cumulative = None if member_weights is None else member_weights.cumsum(dim=1).repeat_interleave(trajectories, dim=0)
    observation, found = start, []
    for _ in range(steps):
        action = policies.sample(normalize(observation), generator)
        flat, flat_action = observation.flatten(0, 1), action.flatten(0, 1)
        following = predict(flat, to_models(flat_action)).clamp_(-largest_state, largest_state)  # (K, P * B, D)
        earned = scale_reward(reward(flat, to_environment(flat_action), following))
        found.append((observation, action, earned, following))
        drawn = draw_members(len(following), rows, cumulative, generator) * len(rows) + rows
        observation = following.flatten(0, 1).index_select(0, drawn).view_as(start)
    rewards, uncertainties = [], []
    for first in range(0, steps, STEPS_AT_ONCE):  # what no later step waits for, several steps in one go
        part = found[first : first + STEPS_AT_ONCE]
        earned = torch.stack([step[2] for step in part], dim=-2)  # (K, S, rows), or (S, rows)
        following = torch.stack([step[3] for step in part], dim=1)  # (K, S, rows, D)
        left = 1.0 - torch.arange(first + 1, first + len(part) + 1, device=rows.device) / steps
        left = left.view(1, -1, 1).expand(following.shape[:-1])
        later = value(normalize(following.flatten(0, 2)), left.flatten()).view(following.shape[:-1])
        if first + len(part) == steps:
            later[:, -1] = 0.0
        rewards.append(earned.mean(dim=0) if earned.dim() == 3 else earned)
        uncertainties.append(local_uncertainty(earned, later, discount))
    observations, actions = (torch.stack([step[place] for step in found]) for place in range(2))
    columns = (torch.cat(parts).unflatten(1, start.shape[:2]) for parts in (rewards, uncertainties))
    return Imagined(observations, actions, *columns)


def draw_members(members: int, rows: Tensor, cumulative: Tensor | None, generator: torch.Generator) -> Tensor:
    """Draw a member (rows,) for every row: uniformly, or by cumulative weights (rows, K) of any sum."""
    if cumulative is None:
        return torch.randint(members, rows.shape, generator=generator, device=rows.device)
    draw = torch.rand((len(rows), 1), generator=generator, device=rows.device) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, draw, right=True).squeeze(1).clamp_(max=members - 1)
