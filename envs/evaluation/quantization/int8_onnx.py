"""A network of symmetric levels as onnxruntime computes it in int8: whole products, floats around them.

Every layer whose weights and inputs have symmetric levels of 8 bits at most (PAMS's) becomes MatMulInteger or
ConvInteger of its codes; what stays float in the network stays float. It is a form to be timed and deployed; the file
of a policy holds the network itself.

Shapes: B batch, C channels in, O out, H x W pixels, K x K a kernel.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.quantization.layer import PackedLayer
from envs.evaluation.quantization.rules import MaxAbsWeights, SymmetricInput
from envs.evaluation.quantization.symmetric_integer import IntegerLayer

BITS = 8


@torch.library.custom_op("rlsuite::int8_linear", mutates_args=())
def int8_linear(integers: Tensor, weight: Tensor) -> Tensor:
    """Return sums (B, O), as floats, of whole numbers (B, C) and weights (O, C) int8."""
    return (integers.to(torch.int32) @ weight.to(torch.int32).T).float()


@int8_linear.register_fake
def _(integers: Tensor, weight: Tensor) -> Tensor:
    return integers.new_empty((integers.shape[0], weight.shape[0]))


@torch.library.custom_op("rlsuite::int8_convolution", mutates_args=())
def int8_convolution(integers: Tensor, weight: Tensor, stride: list[int], padding: list[int], groups: int) -> Tensor:
    """Return sums (B, O, H', W'), as floats, of whole numbers (B, C, H, W) and weights (O, C / groups, K, K) int8."""
    found = functional.conv2d(integers.double(), weight.double(), None, stride, padding, 1, groups)
    return found.float()


@int8_convolution.register_fake
def _(integers: Tensor, weight: Tensor, stride: list[int], padding: list[int], groups: int) -> Tensor:
    return functional.conv2d(integers, weight.float(), None, stride, padding, 1, groups)


class Int8Layer(IntegerLayer):
    """An IntegerLayer whose sums an exporter can give to int8 kernels."""

    def sums(self, integers: Tensor) -> Tensor:
        """Return the exact sums, as floats, of whole inputs."""
        step = self.product
        if step.weight.dim() == 2:
            return int8_linear(integers, step.weight)
        return int8_convolution(integers, step.weight, list(step.stride), list(step.padding), step.groups)


@torch.no_grad()
def int8_form(module: nn.Module) -> nn.Module | None:
    """Return a copy of a finished network whose layers of symmetric levels multiply in int8; None if it has none."""
    module, found = copy.deepcopy(module), False
    for path, part in list(module.named_modules()):
        if isinstance(part, PackedLayer) and isinstance(part.weight_rule, MaxAbsWeights):
            rule = part.input_rule
            if isinstance(rule, SymmetricInput) and max(rule.bits, part.weight_bits) <= BITS:
                module.set_submodule(path, Int8Layer(path, part, rule))
                found = True
    return module.eval() if found else None


def translations() -> dict[Any, Any]:
    """Return what torch's ONNX exporter writes for the two products; it reads the annotations, so they are types."""
    from onnxscript import FLOAT, INT8, opset18

    op: Any = opset18

    def linear(integers: FLOAT, weight: INT8) -> FLOAT:
        sums = op.MatMulInteger(op.Cast(integers, to=INT8.dtype), op.Transpose(weight, perm=[1, 0]))
        return op.Cast(sums, to=FLOAT.dtype)

    def convolution(
        integers: FLOAT,
        weight: INT8,
        stride: list[int],
        padding: list[int],
        groups: int,
    ) -> FLOAT:
        sums = op.ConvInteger(
            op.Cast(integers, to=INT8.dtype), weight, strides=stride, pads=[*padding, *padding], group=groups
        )
        return op.Cast(sums, to=FLOAT.dtype)

    return {
        torch.ops.rlsuite.int8_linear.default: linear,
        torch.ops.rlsuite.int8_convolution.default: convolution,
    }
