"""Networks whose K members are stacked: one batched matrix product a layer, never a loop over members.

Shapes: K members, B batch, I inputs, H hidden units, O outputs. Every parameter leads with K, so members can
be cut out, stacked and compared by slicing their state_dict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.errors import require
from rlsuite.nn.projection import project_affine, project_columns
from rlsuite.nn.relu import fast_relu_
from rlsuite.nn.tanh import fast_tanh
from rlsuite.nn.weight_norm import EnsembleWeightNormLinear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": fast_relu_,  # in place: what comes in is always a fresh layer output
    "elu": functional.elu,
    "selu": functional.selu,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "tanh": fast_tanh,
}
NORMALIZATIONS = ("none", "layer", "batch", "weight")
INITIALIZATIONS = ("uniform", "orthogonal", "normal", "xavier")


def check_sizes(name: str, hidden_sizes: Sequence[int]) -> None:
    """Raise UserError unless there is a hidden layer and each has a unit; `name` is the config's, as agent.actor."""
    sizes = list(hidden_sizes)
    require(bool(sizes) and min(sizes) >= 1, f"{name}.hidden_sizes={sizes}: use widths of 1 or more, such as [256,256]")


def check_one_width(name: str, block: str, hidden_sizes: Sequence[int]) -> None:
    """Raise UserError unless a block that has one width is given equal ones; `name` is the config's."""
    sizes = list(hidden_sizes)
    require(
        len(set(sizes)) == 1,
        f"{name}.hidden_sizes={sizes}: block={block} has one width; use equal widths, such as "
        f"{[sizes[0]] * len(sizes)}",
    )


def width_and_blocks(hidden_sizes: Sequence[int]) -> tuple[int, int]:
    """Return the width that equal hidden sizes mean, and, one less than there are but at least one, the blocks."""
    return hidden_sizes[0], max(1, len(hidden_sizes) - 1)


def cut(stacked: Tensor, members: slice | None) -> Tensor:
    """Return the chosen members of a stacked parameter; all of them cost no extra node in the graph."""
    return stacked if members is None else stacked[members]


class EnsembleLinear(nn.Module):
    """K affine maps side by side: ``output[k] = input[k] @ weight[k] + bias[k]``.

    Args:
        num_members: K.
        in_features: I.
        out_features: O.
        initialization: "uniform" (bound 1/sqrt(I), what torch.nn.Linear draws), "orthogonal" (gain 1),
            "normal" (standard deviation 0.05, zero bias) or "xavier" (bound sqrt(6 / (I + O)), zero bias; Glorot and
            Bengio 2010).
        generator: random stream the weights are drawn from, one member after another: the first ones of a layer do not
            depend on how many follow (those of a network do, from its second layer on).
    """

    def __init__(
        self,
        num_members: int,
        in_features: int,
        out_features: int,
        *,
        initialization: str = "uniform",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        weights, biases = [], []
        for _ in range(num_members):
            weight, bias = torch.empty(in_features, out_features), torch.zeros(1, out_features)
            if initialization == "uniform":
                bound = 1.0 / math.sqrt(in_features)
                weight.uniform_(-bound, bound, generator=generator)
                bias.uniform_(-bound, bound, generator=generator)
            elif initialization == "orthogonal":
                nn.init.orthogonal_(weight, generator=generator)
            elif initialization == "normal":
                weight.normal_(0.0, 0.05, generator=generator)
            elif initialization == "xavier":
                nn.init.xavier_uniform_(weight, generator=generator)
            else:
                raise ValueError(f"initialization={initialization!r}: use one of {', '.join(INITIALIZATIONS)}")
            weights.append(weight)
            biases.append(bias)
        self.weight = nn.Parameter(torch.stack(weights))
        self.bias = nn.Parameter(torch.stack(biases))

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Map (K, B, I) to (K, B, O) in the inputs' dtype; `members` runs only those, and K counts only them."""
        weight, bias = cut(self.weight, members).to(inputs.dtype), cut(self.bias, members).to(inputs.dtype)
        if weight.shape[-1] == 1:
            # A matrix product with one column is slow on CPU: five times the time of the same sum written out.
            return (inputs * weight.transpose(1, 2)).sum(dim=-1, keepdim=True) + bias
        return torch.baddbmm(bias, inputs, weight)


class EnsembleLayerNorm(nn.Module):
    """Layer normalization over the last axis with a scale and shift for each member (Ba et al. 2016)."""

    def __init__(self, num_members: int, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_members, 1, features))
        self.shift = nn.Parameter(torch.zeros(num_members, 1, features))

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Normalize (K, B, H) to (K, B, H) float32, on a CPU no slower than in bfloat16 and closer."""
        normalized = functional.layer_norm(inputs.float(), inputs.shape[-1:])
        return torch.addcmul(cut(self.shift, members), normalized, cut(self.scale, members))


class EnsembleBatchNorm(nn.Module):
    """Batch normalization over the batch axis, statistics and affine parameters for each member apart.

    In training mode the batch's own statistics normalize and move the running ones (rate 0.01, as CrossQ,
    Bhatt et al. 2024; the running variance unbiased, as torch's); in evaluation mode the running ones normalize.
    """

    rate = 0.01
    epsilon = 1e-5

    def __init__(self, num_members: int, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(num_members, 1, features))
        self.shift = nn.Parameter(torch.zeros(num_members, 1, features))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(num_members, 1, features))
        self.register_buffer("variance", torch.ones(num_members, 1, features))

    def forward(self, inputs: Tensor, members: slice | None = None, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Normalize (K, B, H) to (K, B, H) of `dtype`, computing in float32.

        Where inputs are of `dtype`, too, the kernel itself reads and writes it: between two products of bfloat16 that
        spares the copies to float32 and back.
        """
        scale, shift = cut(self.scale, members), cut(self.shift, members)
        if self.training:
            inputs = inputs if inputs.dtype == dtype else inputs.float()
            return self._by_batch(inputs, scale, shift, members).to(dtype)
        mean, variance = cut(self.mean, members), cut(self.variance, members)
        factor = scale * torch.rsqrt(variance + self.epsilon)
        return torch.addcmul(shift - mean * factor, inputs.float(), factor).to(dtype)

    def _by_batch(self, inputs: Tensor, scale: Tensor, shift: Tensor, members: slice | None) -> Tensor:
        # torch's kernel for rows of K * H features: the copies into its layout and back cost a fraction of what
        # torch.var_mean over the middle axis and autograd's passes behind it do (docs/decisions.md).
        num_members, num_rows, features = inputs.shape
        mean, variance = self.mean.flatten(), self.variance.flatten()
        if members is not None:
            mean, variance = self.mean[members].flatten().clone(), self.variance[members].flatten().clone()
        rows = inputs.transpose(0, 1).reshape(num_rows, num_members * features)
        rows = functional.batch_norm(
            rows, mean, variance, scale.flatten(), shift.flatten(), True, self.rate, self.epsilon
        )
        if members is not None:
            self.mean[members], self.variance[members] = mean.view_as(scale), variance.view_as(scale)
        return rows.view(num_rows, num_members, features).transpose(0, 1).contiguous()

    def project(self) -> None:
        """Bring scale and shift together back to norm sqrt(H)."""
        project_affine(self.scale, self.shift)


class NoNormalization(nn.Module):
    """Passes its input on; stands where a layer has no normalization."""

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Return `inputs`."""
        return inputs


def make_normalization(kind: str, num_members: int, features: int) -> nn.Module:
    """Return the stacked normalization layer called `kind`, one of NORMALIZATIONS."""
    if kind in ("none", "weight"):  # weights are normalized within their layers
        return NoNormalization()
    if kind == "layer":
        return EnsembleLayerNorm(num_members, features)
    if kind == "batch":
        return EnsembleBatchNorm(num_members, features)
    raise ValueError(f"normalization={kind!r}: use one of {', '.join(NORMALIZATIONS)}")


class EnsembleMLP(nn.Module):
    """K multilayer perceptrons side by side.

    ::

        (K, B, I) -> [ linear -> normalization -> activation ] x len(hidden_sizes) -> linear -> (K, B, O)

    Args:
        num_members: K.
        in_features: I.
        hidden_sizes: width of each hidden layer.
        out_features: O.
        activation: a key of ACTIVATIONS.
        normalization: a value of NORMALIZATIONS, applied before each activation ("batch" also on the input; "weight":
            every layer's weights have their directions and lengths apart, and `initialization` is not used).
        initialization: see EnsembleLinear.
        generator: random stream the weights are drawn from.
    """

    def __init__(
        self,
        num_members: int,
        in_features: int,
        hidden_sizes: Sequence[int],
        out_features: int,
        *,
        activation: str = "relu",
        normalization: str = "none",
        initialization: str = "uniform",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        sizes = [in_features, *hidden_sizes, out_features]
        self.layers = nn.ModuleList(
            EnsembleWeightNormLinear(num_members, size, next_size, generator=generator)
            if normalization == "weight"
            else EnsembleLinear(num_members, size, next_size, initialization=initialization, generator=generator)
            for size, next_size in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.normalizations = nn.ModuleList(
            make_normalization(normalization, num_members, size) for size in hidden_sizes
        )
        # Batch-normalized critics also normalize what comes in: raw observations differ in scale (CrossQ).
        self.input_normalization = (
            make_normalization("batch", num_members, in_features) if normalization == "batch" else NoNormalization()
        )

    def forward(self, inputs: Tensor, members: slice | None = None) -> Tensor:
        """Map (K, B, I) to (K, B, O); `members` runs only those, and K counts only them.

        Hidden layers multiply in the inputs' dtype; normalizations compute in float32, the last layer and its result
        are float32: with bfloat16 inputs most of the arithmetic costs half, and values keep their digits.
        """
        hidden = self._normalize(self.input_normalization, inputs, inputs.dtype, members)
        for layer, normalization in zip(self.layers, self.normalizations, strict=False):
            hidden = layer(hidden.to(inputs.dtype), members)
            hidden = self.activation(self._normalize(normalization, hidden, inputs.dtype, members))
        return self.layers[-1](hidden.float(), members)

    @staticmethod
    def _normalize(kind: nn.Module, hidden: Tensor, dtype: torch.dtype, members: slice | None) -> Tensor:
        if isinstance(kind, EnsembleBatchNorm):
            return kind(hidden, members, dtype=dtype)
        return kind(hidden, members)

    @torch.no_grad()
    def scale_layers(self, hidden: float, last: float) -> None:
        """Multiply the weights of the hidden layers and of the last one: the gains of an orthogonal initialization."""
        gains = [hidden] * len(self.normalizations) + [last]
        for layer, gain in zip(self.layers, gains, strict=True):
            assert isinstance(layer, EnsembleLinear)
            layer.weight.mul_(gain)

    @torch.no_grad()
    def frozen(self, dtype: torch.dtype, *, scale: Tensor, shift: Tensor) -> Callable[[Tensor], Tensor]:
        """Return ``forward(inputs) * scale + shift`` with the weights made ready once: for many calls between updates.

        The result does not follow the parameters when they change. Layers without normalization between them only.

        Args:
            dtype: of the inputs.
            scale: (O,) factors on the outputs.
            shift: (O,) what is added to them.
        """
        if not all(isinstance(between, NoNormalization) for between in self.normalizations):
            raise ValueError("frozen() is for networks with normalization='none' or 'weight'")
        ready = []
        for place, layer in enumerate(self.layers):
            assert isinstance(layer, EnsembleLinear | EnsembleWeightNormLinear)
            weight = layer.weight() if isinstance(layer, EnsembleWeightNormLinear) else layer.weight
            ready.append((layer.bias.detach().to(dtype), weight.detach().to(dtype)))
            if place + 1 == len(self.layers):  # the last layer keeps its digits
                ready[-1] = (torch.addcmul(shift, layer.bias.detach(), scale), weight.detach() * scale)

        # The last layer's inputs, in memory that is kept: fresh memory takes longer than the copy.
        exact = torch.empty(0, device=scale.device)

        def forward(inputs: Tensor) -> Tensor:
            nonlocal exact
            hidden = inputs
            for bias, weight in ready[:-1]:
                hidden = self.activation(torch.baddbmm(bias, hidden, weight))
            if exact.shape != hidden.shape:
                exact = torch.empty_like(hidden, dtype=torch.float32)
            bias, weight = ready[-1]
            return torch.baddbmm(bias, exact.copy_(hidden), weight)

        return forward

    def project_weights(self, *, everything: bool = False) -> None:
        """Scale each hidden unit's incoming weights to norm 1 (weight normalization by projection).

        Args:
            everything: project the last layer, too, and the scale and shift of each batch normalization.
        """
        count = len(self.layers) if everything else len(self.normalizations)
        for layer in self.layers[:count]:
            weight = layer.weight
            assert isinstance(weight, Tensor)
            project_columns(weight)
        if everything:
            project_batch_norms(self)


def project_batch_norms(network: nn.Module) -> None:
    """Bring scale and shift of each batch normalization within a network back to their norm."""
    for module in network.modules():
        if isinstance(module, EnsembleBatchNorm):
            module.project()
