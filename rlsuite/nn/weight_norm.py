"""Weight-normalized stacked layers: direction and length of each unit's weights learned apart.

Salimans & Kingma 2016. Shapes: K members, B batch, I inputs, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


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

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Map (K, B, I) to (K, B, O) in the inputs' dtype; `members` runs only those, and K counts only them."""
        weight, bias = self.weight(), self.bias
        if members is not None:
            weight, bias = weight[members], bias[members]
        return torch.baddbmm(bias.to(inputs.dtype), inputs, weight.to(inputs.dtype))
