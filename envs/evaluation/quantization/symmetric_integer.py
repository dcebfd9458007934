"""Layers of symmetric levels in whole numbers, one at a time: exact sums between floats, wherever PAMS put quantizers.

For networks whose sums of branches, ends or scales by example stay floats, such as super-resolution's. The products are
those of `integer.py`, exact, so nothing but the last rounding of the float arithmetic around them separates this from
the network that learned. A chain of layers becomes whole numbers from end to end by `bn_fixed_point.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.integer import WORD
from envs.evaluation.quantization.integer_graph import product_of, require_plain
from envs.evaluation.quantization.layer import PackedLayer
from envs.evaluation.quantization.rules import MaxAbsWeights, SymmetricInput, side_levels
from rlsuite.errors import require
from rlsuite.nn.vision.doors import sites


class IntegerLayer(nn.Module):
    """A layer of whole weights and whole inputs.

    Attributes:
        product: the exact sums.
        weight_step: () what one weight level stands for.

    Args:
        path: for messages.
        packed: with a MaxAbsWeights rule.
        rule: what its inputs are quantized by.
    """

    weight_step: Tensor

    def __init__(self, path: str, packed: PackedLayer, rule: SymmetricInput) -> None:
        super().__init__()
        levels = side_levels(packed.weight_bits)
        weight = packed.integers() - levels
        largest = levels * side_levels(rule.bits) * weight[0].numel()
        require(largest <= WORD, f"{path}: sums may reach {largest}, beyond 32 bits; use fewer bits")
        require_plain(path, packed.layer)
        self.rule = rule
        bias = packed.layer.bias
        self.bias = copy.deepcopy(bias) if isinstance(bias, nn.Parameter) else None
        self.product = product_of(0, packed.layer, pad=0, weight_bits=packed.weight_bits, input_bits=rule.bits)
        self.product.weight.copy_(weight)
        self.register_buffer("weight_step", packed.scale / levels)

    def sums(self, integers: Tensor) -> Tensor:
        """Return the exact sums, int32, of whole inputs."""
        return self.product(integers.to(torch.int32))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map what the layer maps."""
        integers, scale = self.rule.integers(inputs)
        outputs = self.sums(integers).float() * (self.weight_step * (scale / side_levels(self.rule.bits)))
        if self.bias is None:
            return outputs
        return outputs + self.bias.view(-1, *[1] * (outputs.dim() - 2))


@torch.no_grad()
def integer_network(module: nn.Module, at: Mapping[str, str], hung: str) -> nn.Module:
    """Return a copy of a finished network whose quantized layers compute in whole numbers; its state is the export.

    Args:
        module: with packed layers.
        at: a layer's path -> the site at which its inputs are quantized, where that is not the layer itself; as a plan
            of PAMS has it under "at".
        hung: what the quantizers at sites are called.
    """
    module = copy.deepcopy(module)
    places = sites(module)
    for path, part in list(module.named_modules()):
        if not (isinstance(part, PackedLayer) and isinstance(part.weight_rule, MaxAbsWeights)):
            continue
        rule = places[at[path]].hung[hung] if path in at else part.input_rule
        if isinstance(rule, SymmetricInput):  # else its inputs are floats, as the authors' code leaves some
            module.set_submodule(path, IntegerLayer(path, part, rule))
    return module
