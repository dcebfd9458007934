"""V and U side by side: two networks of the same sizes, one batched matrix product a layer.

Shapes: R rows, D observation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsuite.nn.ensemble import EnsembleMLP

_V, _U = slice(0, 1), slice(1, 2)


class Values(nn.Module):
    """The value of a standardized observation, and the bound on that value's variance.

    Args:
        observation_size: D.
        hidden_sizes: of each.
        generator: random stream of the weights.
        see_time: they also see how much of the episode is left.
    """

    def __init__(
        self,
        observation_size: int,
        hidden_sizes: tuple[int, ...],
        generator: torch.Generator | None = None,
        *,
        see_time: bool = False,
    ) -> None:
        super().__init__()
        self.see_time = see_time
        self.network = EnsembleMLP(
            2,
            observation_size + see_time,
            hidden_sizes,
            1,
            activation="tanh",
            initialization="xavier",
            generator=generator,
        )

    def inputs(self, observation: Tensor, left: Tensor | float) -> Tensor:
        """Return what the networks see: observations (R, D), and the share of the episode that is left, (R,) or one."""
        if not self.see_time:
            return observation
        time = observation.new_empty(len(observation), 1)
        time[:, 0] = 2.0 * left - 1.0
        return torch.cat([observation, time], dim=1)

    def value(self, observation: Tensor, left: Tensor | float) -> Tensor:
        """Return V (R,) of observations (R, D); `left` is the share of the episode that is left, (R,) or one."""
        return self.network(self.inputs(observation, left).unsqueeze(0), _V)[0, :, 0]

    def uncertainty(self, observation: Tensor, left: Tensor | float) -> Tensor:
        """Return U (R,), 0 where the network is negative."""
        return self.network(self.inputs(observation, left).unsqueeze(0), _U)[0, :, 0].clamp_min(0.0)

    def loss(self, observation: Tensor, left: Tensor | float, targets: Tensor, uncertainty_weight: float) -> Tensor:
        """Return MSE_V + uncertainty_weight * MSE_U, 0-d; the network of U is not clamped: below 0 it must learn.

        Args:
            observation: (R, D).
            left: share of the episode that is left, (R,) or one for all.
            targets: (2, R) of V and of U.
            uncertainty_weight: 0.5 in the released code.
        """
        inputs = self.inputs(observation, left)
        found = self.network(inputs.expand(2, *inputs.shape)).squeeze(-1)
        errors = (found - targets).square().mean(dim=1)
        return errors[0] + uncertainty_weight * errors[1]
