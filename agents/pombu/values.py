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
    """

    def __init__(
        self, observation_size: int, hidden_sizes: tuple[int, ...], generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.network = EnsembleMLP(
            2, observation_size, hidden_sizes, 1, activation="tanh", initialization="xavier", generator=generator
        )

    def value(self, observation: Tensor) -> Tensor:
        """Return V (R,) of observations (R, D)."""
        return self.network(observation.unsqueeze(0), _V)[0, :, 0]

    def uncertainty(self, observation: Tensor) -> Tensor:
        """Return U (R,), 0 where the network is negative."""
        return self.network(observation.unsqueeze(0), _U)[0, :, 0].clamp_min(0.0)

    def loss(self, observation: Tensor, targets: Tensor, uncertainty_weight: float) -> Tensor:
        """Return MSE_V + uncertainty_weight * MSE_U, 0-d; the network of U is not clamped: below 0 it must learn.

        Args:
            observation: (R, D).
            targets: (2, R) of V and of U.
            uncertainty_weight: 0.5 in the card.
        """
        found = self.network(observation.expand(2, *observation.shape)).squeeze(-1)
        errors = (found - targets).square().mean(dim=1)
        return errors[0] + uncertainty_weight * errors[1]
