"""Passes of shuffled minibatches over imagined data: the policy ascends, V and U are fitted (arXiv:1911.12574).

Shapes: P policies, R rows of imagined data for each, M rows of a minibatch, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from agents.pombu.config import POMBUConfig
from agents.pombu.policies import Policies
from agents.pombu.policy_step import objective
from agents.pombu.values import Values
from rlsuite.optim.step import take_step
from rlsuite.running.cuda_graph import GraphedPiece


class Rows(NamedTuple):
    """What is learned from, every tensor leading with (P, R); the last six hold one number a row.

    `left` is the share of the episode that is left, `old` the log density of the action under the policy that acted.
    """

    observation: Tensor
    action: Tensor
    advantage: Tensor
    sigma: Tensor
    value: Tensor
    uncertainty: Tensor
    left: Tensor
    old: Tensor

    def packed(self) -> Tensor:
        """Return one tensor (P, R, D + A + 6), so that a shuffle moves whole rows."""
        return torch.cat([self.observation, self.action, *(column.unsqueeze(-1) for column in self[2:])], dim=-1)

    def unpacked(self, rows: Tensor) -> Rows:
        """Cut packed rows (P, M, D + A + 6) into views."""
        size, width = self.observation.shape[-1], self.action.shape[-1]
        return Rows(rows[..., :size], rows[..., size : size + width], *rows[..., size + width :].unbind(-1))


def minibatches(rows: Rows, passes: int, size: int, generator: torch.Generator) -> Iterator[Rows]:
    """Yield all rows once a pass, `size` of each policy's at a time, each policy's in an order of its own."""
    packed = rows.packed()
    number, count, width = packed.shape
    for _ in range(passes):
        order = torch.rand((number, count), generator=generator, device=packed.device).argsort(dim=1)
        shuffled = packed.gather(1, order.unsqueeze(-1).expand(-1, -1, width))
        for part in shuffled.split(size, dim=1):
            yield rows.unpacked(part)


def conservative(
    policy: Policies,
    values: Values,
    rows: Rows,
    optimizers: dict[str, torch.optim.Optimizer],
    config: POMBUConfig,
    alpha: Tensor,
    generator: torch.Generator,
    recorded: GraphedPiece | None = None,
) -> dict[str, Tensor]:
    """Make the passes of a policy update: the policy's objective, and the losses of V and U.

    Args:
        policy: one.
        values: V and U.
        rows: of the policy's imagined trajectories.
        optimizers: "policy" and "values".
        config: the agent's.
        alpha: 0-d, the penalty's weight.
        generator: of the minibatches' order.
        recorded: does `conservative_step` on whole minibatches in its stead.

    Returns:
        0-d means over the minibatches: objective, value_loss, and the alpha in force; over all rows after the last of
        them: policy_change E|D|, and the approximate divergence E[(log pi - log pi_old)^2] / 2 that an adaptive alpha
        follows.
    """
    sums, steps = torch.zeros(3, device=rows.advantage.device), 0
    for part in minibatches(rows, config.passes, config.minibatch_size, generator):
        if recorded is not None and part.advantage.shape[1] == config.minibatch_size:
            found = recorded.run(part)
        else:
            found = conservative_step(policy, values, part, optimizers, config, alpha)
        sums += found["measured"]
        steps += 1
    with torch.no_grad():
        log_ratio = policy.log_prob(rows.observation, rows.action) - rows.old
    return {
        "objective": sums[0] / steps,
        "value_loss": sums[1] / steps,
        "alpha": sums[2] / steps,
        "policy_change": torch.expm1(log_ratio).abs().mean(),
        "divergence": 0.5 * log_ratio.square().mean(),
    }


def conservative_step(
    policy: Policies,
    values: Values,
    part: Rows,
    optimizers: dict[str, torch.optim.Optimizer],
    config: POMBUConfig,
    alpha: Tensor,
) -> dict[str, Tensor]:
    """Step the policy, V and U on a minibatch; return "measured", (3,): objective, value loss, alpha in force."""
    of_policy: list[Tensor] = list(policy.parameters())
    of_values: list[Tensor] = list(values.parameters())
    change = torch.expm1(policy.log_prob(part.observation, part.action) - part.old)
    gains, in_force = objective(
        change,
        part.advantage,
        part.sigma,
        clip=config.clip,
        alpha=alpha,
        kind=config.objective,
        alpha_range=config.alpha_range,
    )
    gain = gains.sum()
    gradients = torch.autograd.grad(-gain, of_policy)
    take_step(optimizers["policy"], of_policy, gradients, config.gradient_norm, by_member=True)
    targets = torch.cat([part.value, part.uncertainty])
    loss = values.loss(part.observation[0], part.left[0], targets, config.uncertainty_weight)
    take_step(optimizers["values"], of_values, torch.autograd.grad(loss, of_values), config.gradient_norm)
    return {"measured": torch.stack([gain.detach(), loss.detach(), in_force.mean()])}


def optimistic(
    explorers: Policies,
    rows: Rows,
    optimizer: torch.optim.Optimizer,
    config: POMBUConfig,
    generator: torch.Generator,
) -> None:
    """Make the passes of all exploration policies at once: PPO on the advantages given, each policy's its own."""
    parameters: list[Tensor] = list(explorers.parameters())
    for part in minibatches(rows, config.passes, config.minibatch_size, generator):
        change = torch.expm1(explorers.log_prob(part.observation, part.action) - part.old)
        gain, _ = objective(change, part.advantage, part.sigma, clip=config.clip, alpha=0.0, kind="penalty")
        gradients = torch.autograd.grad(-gain.sum(), parameters)
        take_step(optimizer, parameters, gradients, config.gradient_norm, by_member=True)
