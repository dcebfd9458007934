"""Roll-outs inside the models, all trajectories, members and policies at once (card, section 2).

The only loop is over time. A member is drawn anew for every transition; no value is bootstrapped after the last step.

Shapes: H steps, P policies, B trajectories of each, K members, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from agents.pombu.dynamics import Dynamics
from agents.pombu.policies import Policies
from agents.pombu.uncertainty import local_uncertainty

Reward = Callable[[Tensor, Tensor], Tensor]
Function = Callable[[Tensor], Tensor]


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
    dynamics: Dynamics,
    *,
    normalize: Function,
    to_environment: Function,
    to_models: Function,
    reward: Reward,
    scale_reward: Function,
    value: Function,
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
        dynamics: the K models.
        normalize: standardizes observations for policies and values.
        to_environment: actions in half ranges to the environment's units, clipped to its bounds.
        to_models: the same to the units in which the models have learned them.
        reward: the known reward (rows,) of observations (rows, D) and actions (rows, A) in the environment's units.
        scale_reward: puts rewards into the units of the values.
        value: V (rows,) of standardized observations (rows, D).
        discount: gamma.
        largest_state: observations are clipped to plus or minus this.
        generator: of actions and members.
        member_weights: (P, K) probabilities of each policy's members; None for equal ones.
    """
    policies_number, trajectories, _ = start.shape
    members = dynamics.config.num_members
    rows = torch.arange(policies_number * trajectories, device=start.device)
    weights = torch.ones(policies_number, members, device=start.device) if member_weights is None else member_weights
    row_weights = weights.repeat_interleave(trajectories, dim=0)
    observation, found = start, []
    for step in range(steps):
        action = policies.sample(normalize(observation), generator)
        flat, flat_action = observation.flatten(0, 1), action.flatten(0, 1)
        following = dynamics.predict(flat, to_models(flat_action)).clamp(-largest_state, largest_state)  # (K, P * B, D)
        earned = scale_reward(reward(flat, to_environment(flat_action)))
        later = torch.zeros((), device=start.device)
        if step + 1 < steps:
            later = value(normalize(following.flatten(0, 1))).unflatten(0, (members, -1))
        uncertainty = local_uncertainty(earned, later.expand(members, len(rows)), discount)
        found.append((observation, action, *(x.view(policies_number, trajectories) for x in (earned, uncertainty))))
        chosen = torch.multinomial(row_weights, 1, generator=generator).squeeze(1)
        observation = following[chosen, rows].view_as(start)
    return Imagined(*(torch.stack(column) for column in zip(*found, strict=True)))
