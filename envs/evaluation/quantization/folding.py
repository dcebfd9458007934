"""BatchNorm into the layer before it, and shifted inputs into its bias: what integer networks begin with.

    gamma (W x + bias - mean) / sqrt(var + eps) + beta = (gain W) x + gain (bias - mean) + beta,
    gain = gamma / sqrt(var + eps)

All of it in float64, rounded once to the layer's own type. A negative gamma turns the weights' signs; with a gamma of 0
nothing is left but beta.

Shapes: O outputs.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.integer_graph import Node, follow, users_of
from rlsuite.errors import require

Norm = nn.BatchNorm1d | nn.BatchNorm2d


class Gain(NamedTuple):
    """What a BatchNorm does to each channel, y = gain x + shift: both (O,) float64."""

    gain: Tensor
    shift: Tensor


def gain_of(norm: Norm) -> Gain:
    """Return what a BatchNorm with running statistics does in evaluation mode.

    Raises:
        UserError: if it has no running statistics.
    """
    mean, variance = norm.running_mean, norm.running_var
    require(mean is not None and variance is not None, "BatchNorm without running statistics cannot be folded")
    assert mean is not None
    assert variance is not None
    gain = (variance.double() + norm.eps).rsqrt()
    if norm.affine:
        gain = gain * norm.weight.double()
    shift = -mean.double() * gain
    return Gain(gain, shift + norm.bias.double() if norm.affine else shift)


def folded(layer: Any, norm: Norm | None) -> tuple[Tensor, Tensor]:
    """Return weight and bias (O,), float64, of a linear layer or convolution with the BatchNorm behind it in it."""
    weight = layer.weight.double()
    bias = layer.bias.double() if layer.bias is not None else weight.new_zeros(len(weight))
    if norm is None:
        return weight, bias
    gain, shift = gain_of(norm)
    return weight * gain.view(-1, *[1] * (weight.dim() - 1)), bias * gain + shift


def require_frozen(module: nn.Module) -> None:
    """Raise UserError, naming it, for a BatchNorm in training mode: its statistics still move."""
    for path, part in module.named_modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            require(not part.training, f"{path}: BatchNorm in training mode; call eval() first, its statistics move")


def norms_behind(nodes: list[Node]) -> dict[str, str]:
    """Return the paths of layers -> those of the BatchNorm that alone takes in what they give.

    Raises:
        UserError: for a BatchNorm with no such layer before it.
    """
    found = {}
    for node in nodes:
        if node.kind == "norm":
            before = nodes[node.sources[0]]
            alone = before.kind == "layer" and len(users_of(nodes, before)) == 1
            require(alone, f"{node.path}: there is no layer right before this BatchNorm that it could be folded into")
            found[before.path] = node.path
    return found


@torch.no_grad()
def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Return a copy of a network with every BatchNorm in the layer before it.

    Raises:
        UserError: for one in training mode, or one that no layer is right before.
    """
    require_frozen(module)
    module = copy.deepcopy(module)
    for path, norm in norms_behind(follow(module)).items():
        layer: Any = module.get_submodule(path)
        weight, bias = folded(layer, module.get_submodule(norm))  # type: ignore[arg-type]
        layer.weight.copy_(weight)
        if layer.bias is None:
            layer.bias = nn.Parameter(torch.zeros(len(weight), dtype=layer.weight.dtype, device=weight.device))
        layer.bias.copy_(bias)
        module.set_submodule(norm, nn.Identity())
    return module
