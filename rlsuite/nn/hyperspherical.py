"""Networks whose weights and hidden features lie on unit spheres, K members stacked (SimbaV2).

Shapes: K members, B batch, I inputs, H hidden units, O outputs. Every parameter leads with K.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.nn.ensemble import ACTIVATIONS, EnsembleLinear, cut
from rlsuite.nn.projection import project_columns

INPUT_SHIFT = 3.0  # c_shift: the constant beside the input, which keeps the input's length in its direction
EXPANSION = 4  # a residual block is EXPANSION * H wide inside


def normalize(features: Tensor) -> Tensor:
    """Scale each row of features (..., H) to norm 1; a row of zeros stays one."""
    return functional.normalize(features, dim=-1, eps=1e-8)


class SphereLinear(nn.Module):
    """K linear maps without bias, ``output[k] = input[k] @ weight[k]``, the weights into each output of norm 1.

    Args:
        weight: (K, I, O), of any scale; only the directions of its columns count.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.project()

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Map (K, B, I) to (K, B, O) in the inputs' dtype."""
        weight = cut(self.weight, members).to(inputs.dtype)
        if weight.shape[-1] == 1:  # see EnsembleLinear: a product with one column is slow on CPU
            return (inputs * weight.transpose(1, 2)).sum(dim=-1, keepdim=True)
        return torch.bmm(inputs, weight)

    def project(self) -> None:
        """Scale the weights into each output back to norm 1, in place; wanted after each optimizer step."""
        project_columns(self.weight)


class Scaler(nn.Module):
    """K vectors of learned factors, stored in units of their own so that Adam's steps have the wanted size.

    The factors are ``weight * initial / scale`` with weight = scale at first: they begin as `initial`, and an Adam
    step moves them by ``learning rate * initial / scale``.
    """

    def __init__(self, num_members: int, features: int, *, initial: float, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((num_members, 1, features), scale))
        self.gain = initial / scale

    def forward(self, dtype: torch.dtype, members: slice | None = None) -> Tensor:
        """Return the factors (K, 1, H) in `dtype`."""
        return (cut(self.weight, members) * self.gain).to(dtype)


class ResidualBlock(nn.Module):
    """One step on the sphere: ``h <- norm((1 - a) h + a norm(W2 relu(s * W1 h)))`` (Lee et al. 2025, section 4.2).

    Args:
        inner: (K, H, EXPANSION * H) first weights W1.
        outer: (K, EXPANSION * H, H) second weights W2.
        step: a at the beginning.
        activation: a key of ACTIVATIONS.
    """

    def __init__(self, inner: Tensor, outer: Tensor, *, step: float, activation: str) -> None:
        super().__init__()
        num_members, width, inner_width = inner.shape
        scale = math.sqrt(2.0 / inner_width)
        self.activation = ACTIVATIONS[activation]
        self.inner = SphereLinear(inner)
        self.scaler = Scaler(num_members, inner_width, initial=scale, scale=scale)
        self.outer = SphereLinear(outer)
        self.step = Scaler(num_members, width, initial=step, scale=1.0 / math.sqrt(width))

    def forward(self, hidden: Tensor, members: slice | None = None) -> Tensor:
        """Map features (K, B, H) of norm 1 to such features."""
        proposal = self.activation(self.inner(hidden, members) * self.scaler(hidden.dtype, members))
        proposal = normalize(self.outer(proposal, members))
        return normalize(torch.lerp(hidden, proposal, self.step(hidden.dtype, members)))


class HypersphericalMLP(nn.Module):
    """K networks of SimbaV2 side by side (Lee et al. 2025, arXiv:2502.15280).

    ::

        (K, B, I) -> append INPUT_SHIFT -> norm -> W * s -> norm     hidden features h, of norm 1 from here on
                  -> [ h <- norm(h + a (norm(W2 relu(s * W1 h)) - h)) ] x num_blocks
                  -> W * s -> W + bias -> (K, B, O)

    Every W is kept on the sphere by project_weights; s and a are learned vectors. Initial values are the authors':
    s = sqrt(2 / width), a = 1 / (num_blocks + 1), in steps of Adam scaled as theirs.

    What SimbaV2 has elsewhere: running statistics of observations (the agent's normalizer; actions enter as they
    are), rewards scaled by returns (rlsuite.nn.reward_scaler) and the categorical loss (a choice of
    rlsuite.nn.critics.CriticConfig, as are the activation and the law of the first directions, ReLU and orthogonal
    there). Left out: its decay of the learning rate, and 1e-8 added after ReLU against a row of zeros, which
    normalize leaves at zero. The weights of a target network are averages of points on the sphere and so lie
    slightly inside it, as the authors' do.

    Only the head's s and the bias hold the outputs' scale, and Adam moves both by no more than the learning rate:
    values far above 1 want rewards scaled down, and short runs a higher rate than other blocks.

    Args:
        num_members: K.
        in_features: I.
        hidden_size: H.
        num_blocks: residual blocks.
        out_features: O.
        activation: a key of ACTIVATIONS.
        initialization: of the weights, before they are projected; see EnsembleLinear.
        generator: random stream the weights are drawn from; members are drawn one after another, each with all its
            layers, so the first members do not depend on how many follow.
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
        shapes = [(in_features + 1, hidden_size)]
        shapes += [(hidden_size, inner_size), (inner_size, hidden_size)] * num_blocks
        shapes += [(hidden_size, hidden_size), (hidden_size, out_features)]
        weights = draw_weights(num_members, shapes, initialization, generator)
        scale = math.sqrt(2.0 / hidden_size)
        self.input_layer = SphereLinear(weights[0])
        self.input_scaler = Scaler(num_members, hidden_size, initial=scale, scale=scale)
        self.blocks = nn.ModuleList(
            ResidualBlock(inner, outer, step=1.0 / (num_blocks + 1), activation=activation)
            for inner, outer in zip(weights[1:-2:2], weights[2:-2:2], strict=True)
        )
        self.head_layer = SphereLinear(weights[-2])
        self.head_scaler = Scaler(num_members, hidden_size, initial=scale, scale=scale)
        self.output_layer = SphereLinear(weights[-1])
        self.output_bias = nn.Parameter(torch.zeros(num_members, 1, out_features))

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Map (K, B, I) to (K, B, O); `members` runs only those, and K counts only them.

        Hidden layers compute in the inputs' dtype, the last one and its result are float32, as in EnsembleMLP.
        """
        hidden = self.features(inputs, members)
        hidden = self.head_layer(hidden, members) * self.head_scaler(hidden.dtype, members)
        return self.output_layer(hidden.float(), members) + cut(self.output_bias, members)

    def features(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Map (K, B, I) to the features (K, B, H) of norm 1 that the head reads."""
        hidden = normalize(functional.pad(inputs, (0, 1), value=INPUT_SHIFT))
        hidden = normalize(self.input_layer(hidden, members) * self.input_scaler(hidden.dtype, members))
        for block in self.blocks:
            hidden = block(hidden, members)
        return hidden

    def project_weights(self) -> None:
        """Put every weight vector back on its sphere; call after each optimizer step."""
        for module in self.modules():
            if isinstance(module, SphereLinear):
                module.project()


def draw_weights(
    num_members: int, shapes: Sequence[tuple[int, int]], initialization: str, generator: torch.Generator | None
) -> list[Tensor]:
    """Return weights (K, I, O) for each shape (I, O), drawn member by member."""
    drawn = [
        [EnsembleLinear(1, *shape, initialization=initialization, generator=generator).weight[0] for shape in shapes]
        for _ in range(num_members)
    ]
    return [torch.stack(layer).detach() for layer in zip(*drawn, strict=True)]
