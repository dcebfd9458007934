"""Weight-normalized stacked layers: direction and length of each unit's weights learned apart.

Salimans & Kingma 2016. Shapes: K members, B batch, I inputs, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsuite.nn.ensemble import ACTIVATIONS


class EnsembleWeightNormLinear(nn.Module):
    """K affine maps ``output = input @ (scale * direction / |direction|) + bias``, the norm taken over the inputs.

    Args:
        num_members: K.
        in_features: I.
        out_features: O.
        generator: random stream of the directions, normal with deviation 0.05; scales start at 1, biases at 0.
    """

    def __init__(
        self, num_members: int, in_features: int, out_features: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        members = [
            torch.empty(in_features, out_features).normal_(0.0, 0.05, generator=generator) for _ in range(num_members)
        ]
        self.direction = nn.Parameter(torch.stack(members))
        self.scale = nn.Parameter(torch.ones(num_members, 1, out_features))
        self.bias = nn.Parameter(torch.zeros(num_members, 1, out_features))

    def weight(self) -> Tensor:
        """Return the weights (K, I, O)."""
        return self.direction * (self.scale / self.direction.norm(dim=1, keepdim=True))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (K, B, I) to (K, B, O) in the inputs' dtype."""
        return torch.baddbmm(self.bias.to(inputs.dtype), inputs, self.weight().to(inputs.dtype))


class WeightNormMLP(nn.Module):
    """K multilayer perceptrons of weight-normalized layers.

    Args:
        num_members: K.
        in_features: I.
        hidden_sizes: width of each hidden layer.
        out_features: O.
        activation: a key of rlsuite.nn.ensemble.ACTIVATIONS.
        generator: random stream the weights are drawn from.
    """

    def __init__(
        self,
        num_members: int,
        in_features: int,
        hidden_sizes: tuple[int, ...],
        out_features: int,
        *,
        activation: str = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        sizes = [in_features, *hidden_sizes, out_features]
        self.layers = nn.ModuleList(
            EnsembleWeightNormLinear(num_members, size, following, generator=generator)
            for size, following in zip(sizes[:-1], sizes[1:], strict=True)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (K, B, I) to (K, B, O); hidden layers compute in the inputs' dtype, the last one in float32."""
        hidden = inputs
        for layer in self.layers[:-1]:
            hidden = self.activation(layer(hidden))
        return self.layers[-1](hidden.float())
