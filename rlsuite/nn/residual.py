"""Residual networks with batch normalization and unit weights, K members stacked (FlashSAC's trunk).

Shapes: K members, B batch, I inputs, H hidden units, O outputs. Every parameter leads with K.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlsuite.nn.ensemble import ACTIVATIONS, EnsembleBatchNorm, cut, project_batch_norms
from rlsuite.nn.hyperspherical import EXPANSION, SphereLinear, draw_weights
from rlsuite.nn.projection import project_affine


class EnsembleRMSNorm(nn.Module):
    """Divides rows by their root mean square, with a scale for each member (Zhang and Sennrich 2019)."""

    epsilon = 1e-6

    def __init__(self, num_members: int, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_members, 1, features))

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Normalize (K, B, H) to (K, B, H) float32: ``scale * h / sqrt(mean(h^2) + epsilon)``."""
        inputs = inputs.float()
        inverse = torch.rsqrt(inputs.square().mean(dim=-1, keepdim=True) + self.epsilon)
        return inputs * inverse * cut(self.scale, members)

    def project(self) -> None:
        """Bring the scale back to norm sqrt(H)."""
        project_affine(self.scale)


class BatchNormBlock(nn.Module):
    """One residual step: ``h <- h + relu(BN(W2 relu(BN(W1 h))))``, EXPANSION * H wide inside.

    Args:
        inner: (K, H, EXPANSION * H) first weights W1.
        outer: (K, EXPANSION * H, H) second weights W2.
        activation: a key of ACTIVATIONS.
    """

    def __init__(self, inner: Tensor, outer: Tensor, *, activation: str) -> None:
        super().__init__()
        num_members, width, inner_width = inner.shape
        self.activation = ACTIVATIONS[activation]
        self.inner, self.outer = SphereLinear(inner), SphereLinear(outer)
        self.inner_normalization = EnsembleBatchNorm(num_members, inner_width)
        self.outer_normalization = EnsembleBatchNorm(num_members, width)

    def forward(self, hidden: Tensor, dtype: torch.dtype, members: slice | None = None) -> Tensor:
        """Map features (K, B, H) float32 to such features; products are in `dtype`."""
        inside = self.inner_normalization(self.inner(hidden.to(dtype), members), members, dtype=dtype)
        change = self.outer_normalization(self.outer(self.activation(inside).to(dtype), members), members)
        return hidden + self.activation(change)


class ResidualMLP(nn.Module):
    """K networks of FlashSAC side by side (arXiv:2604.04539).

    ::

        (K, B, I) -> BN -> W0                                    hidden features h
                  -> [ h <- h + relu(BN(W2 relu(BN(W1 h)))) ] x num_blocks
                  -> scale * h / rms(h) -> W + bias -> (K, B, O)

    No W has a bias, but the last one. The weights into each output have norm 1, each batch normalization's scale and
    shift together, and the scale before the last W, norm sqrt(width): from the start, and after every optimizer step
    by project_weights.

    In training mode the batch's statistics normalize, so rows are judged together; in evaluation mode the running ones.

    Args:
        num_members: K.
        in_features: I.
        hidden_size: H.
        num_blocks: residual blocks.
        out_features: O.
        activation: a key of ACTIVATIONS.
        initialization: of the weights, before they are projected; see EnsembleLinear. The paper's is orthogonal.
        generator: random stream the weights are drawn from, one member after another.
    """

    def __init__(
        self,
        num_members: int,
        in_features: int,
        hidden_size: int,
        num_blocks: int,
        out_features: int,
        *,
        activation: str = "relu",
        initialization: str = "orthogonal",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        inner_size = EXPANSION * hidden_size
        shapes = [(in_features, hidden_size)]
        shapes += [(hidden_size, inner_size), (inner_size, hidden_size)] * num_blocks
        shapes += [(hidden_size, out_features)]
        weights = draw_weights(num_members, shapes, initialization, generator)
        self.input_normalization = EnsembleBatchNorm(num_members, in_features)
        self.input_layer = SphereLinear(weights[0])
        self.blocks = nn.ModuleList(
            BatchNormBlock(inner, outer, activation=activation)
            for inner, outer in zip(weights[1:-1:2], weights[2:-1:2], strict=True)
        )
        self.output_normalization = EnsembleRMSNorm(num_members, hidden_size)
        self.output_layer = SphereLinear(weights[-1])
        self.output_bias = nn.Parameter(torch.zeros(num_members, 1, out_features))

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Map (K, B, I) to (K, B, O); `members` runs only those, and K counts only them.

        Hidden layers multiply in the inputs' dtype; sums, the last layer and its result are float32.
        """
        normalized = self.input_normalization(inputs, members, dtype=inputs.dtype)
        hidden = self.input_layer(normalized, members).float()
        for block in self.blocks:
            hidden = block(hidden, inputs.dtype, members)
        return self.output_layer(self.output_normalization(hidden, members), members) + cut(self.output_bias, members)

    def project_weights(self) -> None:
        """Bring weights, scales and shifts back to their norms; call after each optimizer step."""
        for module in self.modules():
            if isinstance(module, SphereLinear | EnsembleRMSNorm):
                module.project()
        project_batch_norms(self)
