"""Networks of symmetric levels in whole numbers: int8 or int16 weights, int32 sums, one scale a layer.

A reference for whoever writes an integer kernel: the sums are exact, so nothing but the last rounding of the float
arithmetic around them separates it from the network that learned.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from envs.evaluation.quantization.layer import OPERATIONS, PackedLayer
from envs.evaluation.quantization.rules import MaxAbsWeights, SymmetricInput, side_levels
from rlsuite.errors import require
from rlsuite.nn.vision.doors import sites

LARGEST_SUM = 2**31 - 1


class IntegerLayer(nn.Module):
    """A layer of whole weights and whole inputs.

    Attributes:
        weight: (the weights' shape) int8, or int16 of more than 8 bits.
        weight_step: () what one weight level stands for.

    Args:
        path: for messages.
        packed: with a MaxAbsWeights rule.
        rule: what its inputs are quantized by.
    """

    weight: Tensor
    weight_step: Tensor

    def __init__(self, path: str, packed: PackedLayer, rule: SymmetricInput) -> None:
        super().__init__()
        levels = side_levels(packed.weight_bits)
        weight = packed.integers() - levels
        largest = levels * side_levels(rule.bits) * weight[0].numel()
        require(largest <= LARGEST_SUM, f"{path}: sums may reach {largest}, beyond 32 bits; use fewer bits")
        self.layer, self.rule = copy.deepcopy(packed.layer), rule
        bias = self.layer.bias
        self.bias = bias if isinstance(bias, nn.Parameter) else None
        self.layer.register_parameter("bias", None)
        self.register_buffer("weight", weight.to(torch.int8 if packed.weight_bits <= 8 else torch.int16))
        self.register_buffer("weight_step", packed.scale / levels)

    def sums(self, integers: Tensor) -> Tensor:
        """Return the exact sums, int32, of whole inputs.

        torch has no integer convolution on a CPU; float64 holds every whole number that may come up here.
        """
        return OPERATIONS[type(self.layer)](self.layer, integers.double(), self.weight.double()).to(torch.int32)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map what the layer maps."""
        integers, scale = self.rule.integers(inputs)
        outputs = self.sums(integers).float() * (self.weight_step * (scale / side_levels(self.rule.bits)))
        if self.bias is None:
            return outputs
        return outputs + (self.bias.view(-1, 1, 1) if isinstance(self.layer, nn.Conv2d) else self.bias)


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
