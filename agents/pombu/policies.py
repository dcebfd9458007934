"""Gaussian policies side by side: the policy itself (P = 1), or the exploration policies made of it.

Shapes: P policies, B rows of each, D observation, A action.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rlsuite.nn.ensemble import EnsembleMLP

_LOG_ROOT_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_FIRST_MEANS = 0.01  # factor on the last layer: first actions hardly depend on the observation


class Policies(nn.Module):
    """P networks of the mean, with state-independent log deviations.

    Args:
        number: P.
        observation_size: D.
        action_size: A.
        hidden_sizes: of each.
        generator: random stream of the weights.
    """

    def __init__(
        self,
        number: int,
        observation_size: int,
        action_size: int,
        hidden_sizes: tuple[int, ...],
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.network = EnsembleMLP(
            number,
            observation_size,
            hidden_sizes,
            action_size,
            activation="tanh",
            initialization="orthogonal",
            generator=generator,
        )
        self.network.scale_layers(math.sqrt(2.0), _FIRST_MEANS)
        self.log_std = nn.Parameter(torch.zeros(number, 1, action_size))

    def forward(self, observation: Tensor) -> Tensor:
        """Return means (P, B, A) in half action ranges at standardized observations (P, B, D)."""
        return self.network(observation)

    def sample(self, observation: Tensor, generator: torch.Generator) -> Tensor:
        """Draw actions (P, B, A)."""
        mean = self(observation)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return torch.addcmul(mean, self.log_std.exp(), noise)

    def log_prob(self, observation: Tensor, action: Tensor) -> Tensor:
        """Return log densities (P, B) of actions (P, B, A)."""
        scaled = (action - self(observation)) * torch.exp(-self.log_std)
        return -(0.5 * scaled.square() + self.log_std + _LOG_ROOT_TWO_PI).sum(dim=-1)

    @torch.no_grad()
    def copy_of(self, policy: Policies) -> None:
        """Make all P policies the one of `policy` (P = 1)."""
        for mine, theirs in zip(self.parameters(), policy.parameters(), strict=True):
            mine.copy_(theirs.expand_as(mine))
