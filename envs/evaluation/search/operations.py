"""What can stand on an edge of a cell, by name: the module, and what it costs, from one description.

Convolutional operations are stages of convolutions (Liu et al. 2019, arXiv:1806.09055, appendix A): ReLU, convolutions,
batch normalization. Which convolution computes them is a choice of the space: float, or one with binary weights.
Convolutions whose inputs have one bit, too, would see nothing but ones behind a ReLU: there every convolution has a
normalization of its own, no ReLU, and a shortcut where shapes allow it (CP-NAS, arXiv:2005.00057, section 3.1).

A further operation is a line in OPERATIONS, a further convolution one in CONVOLUTIONS; both may be "module:NAME".

Shapes: B batch, C channels, H x W pixels; with stride 2 sides are halved, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from envs.evaluation.search.cost import FLOAT_BITS, Cost, numbers_cost, total, weights_cost
from rlsuite.errors import UserError, near_matches
from rlsuite.methods import find_class

Size = tuple[int, int]


def _float_convolution(inputs: int, outputs: int, kernel: int, **options: Any) -> nn.Module:
    return nn.Conv2d(inputs, outputs, kernel, bias=False, **options)


def _none(inputs: int, outputs: int, kernel: int, groups: int) -> int:
    return 0


@dataclass(frozen=True)
class Convolution:
    """A kind of convolution, without a bias.

    Attributes:
        make: (inputs, outputs, kernel, stride=, padding=, dilation=, groups=) to a module that keeps weights as
            nn.Conv2d does.
        weight_bits: of each weight when it is kept.
        input_bits: of what it computes with.
        extra: (inputs, outputs, kernel, groups) to learned numbers beside the weights, which are kept.
    """

    make: Callable[..., nn.Module] = _float_convolution
    weight_bits: int = FLOAT_BITS
    input_bits: int = FLOAT_BITS
    extra: Callable[[int, int, int, int], int] = _none

    def cost(self, inputs: int, outputs: int, kernel: int, groups: int, pixels: int) -> Cost:
        """Return the cost of one layer that draws `pixels` pixels."""
        weights = outputs * (inputs // groups) * kernel * kernel
        bits = {"weight_bits": self.weight_bits, "input_bits": self.input_bits}
        return weights_cost(weights, pixels, **bits) + numbers_cost(self.extra(inputs, outputs, kernel, groups))


FLOAT = Convolution()

CONVOLUTIONS: dict[str, Convolution | str] = {
    "float": FLOAT,
    "xnor": "envs.evaluation.search.convolutions:XNOR",
    "xnor_layer": "envs.evaluation.search.convolutions:XNOR_LAYER",
    "xnor_one_bit": "envs.evaluation.search.convolutions:XNOR_ONE_BIT",
    "rbnn": "envs.evaluation.search.convolutions:RBNN",
}


class Operation(Protocol):
    """An operation of C channels to as many."""

    @property
    def weightless(self) -> bool:
        """Whether zeros go in and zeros come out, whatever was learned: it has no weights and no normalization."""
        ...

    def make(self, channels: int, stride: int, convolution: Convolution, affine: bool) -> nn.Module:
        """Return the module (B, C, H, W) -> (B, C, H / stride, W / stride)."""
        ...

    def cost(self, channels: int, size: Size, stride: int, convolution: Convolution, affine: bool) -> Cost:
        """Return what it costs for pictures of `size`."""
        ...


class Layer(NamedTuple):
    """A convolution of a stage.

    Attributes:
        kernel: its side.
        dilation: pixels between its taps.
        depthwise: each channel by itself.
        strided: whether the operation's stride is this one's.
    """

    kernel: int
    dilation: int = 1
    depthwise: bool = False
    strided: bool = False


@dataclass(frozen=True)
class Stages:
    """A convolutional operation: stages one after another, each ReLU, layers, batch normalization."""

    stages: tuple[tuple[Layer, ...], ...]
    weightless: bool = False

    def make(self, channels: int, stride: int, convolution: Convolution, affine: bool) -> nn.Module:
        """Return the stages."""
        built: list[nn.Module] = []
        for stage in self.stages:
            layers = [_make_layer(layer, channels, stride, convolution) for layer in stage]
            if convolution.input_bits == 1:
                built += [OneBitStage(layer, nn.BatchNorm2d(channels, affine=affine)) for layer in layers]
            else:
                built.append(nn.Sequential(nn.ReLU(), *layers, nn.BatchNorm2d(channels, affine=affine)))
        return nn.Sequential(*built)

    def cost(self, channels: int, size: Size, stride: int, convolution: Convolution, affine: bool) -> Cost:
        """Return the sum over layers and normalizations."""
        found = Cost()
        for stage in self.stages:
            for layer in stage:
                size = halved(size, stride if layer.strided else 1)
                groups = channels if layer.depthwise else 1
                found += convolution.cost(channels, channels, layer.kernel, groups, size[0] * size[1])
            normalizations = len(stage) if convolution.input_bits == 1 else 1
            found += numbers_cost(2 * channels * affine * normalizations)
        return found


def _make_layer(layer: Layer, channels: int, stride: int, convolution: Convolution) -> nn.Module:
    return convolution.make(
        channels,
        channels,
        layer.kernel,
        stride=stride if layer.strided else 1,
        padding=layer.dilation * (layer.kernel - 1) // 2,
        dilation=layer.dilation,
        groups=channels if layer.depthwise else 1,
    )


class OneBitStage(nn.Module):
    """A convolution with binary inputs, its normalization, and a shortcut around both where shapes are equal."""

    def __init__(self, convolution: nn.Module, normalization: nn.Module) -> None:
        super().__init__()
        self.convolution, self.normalization = convolution, normalization

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H', W')."""
        found = self.normalization(self.convolution(inputs))
        return found + inputs if found.shape == inputs.shape else found


@dataclass(frozen=True)
class Pool:
    """A pool of 3 x 3 with batch normalization behind it.

    Attributes:
        largest: the largest of the pixels, else their mean; those beyond the border do not count.
    """

    largest: bool
    weightless: bool = False

    def make(self, channels: int, stride: int, convolution: Convolution, affine: bool) -> nn.Module:
        """Return the pool."""
        if self.largest:
            pool: nn.Module = nn.MaxPool2d(3, stride=stride, padding=1)
        else:
            pool = nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)
        return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=affine))

    def cost(self, channels: int, size: Size, stride: int, convolution: Convolution, affine: bool) -> Cost:
        """Return the normalization's parameters."""
        return numbers_cost(2 * channels * affine)


@dataclass(frozen=True)
class Skip:
    """Nothing is done; with stride 2 a factorized reduction."""

    weightless: bool = True

    def make(self, channels: int, stride: int, convolution: Convolution, affine: bool) -> nn.Module:
        """Return an identity, or a reduction."""
        if stride == 1:
            return nn.Identity()
        return FactorizedReduction(channels, channels, convolution, affine)

    def cost(self, channels: int, size: Size, stride: int, convolution: Convolution, affine: bool) -> Cost:
        """Return the reduction's cost."""
        return Cost() if stride == 1 else reduction_cost(channels, channels, size, convolution, affine)


@dataclass(frozen=True)
class Nothing:
    """Zeros."""

    weightless: bool = True

    def make(self, channels: int, stride: int, convolution: Convolution, affine: bool) -> nn.Module:
        """Return zeros."""
        return Zero(stride)

    def cost(self, channels: int, size: Size, stride: int, convolution: Convolution, affine: bool) -> Cost:
        """Return nothing."""
        return Cost()


class Zero(nn.Module):
    """Zeros of the shape that a stride leaves."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, C, H, W) to zeros (B, C, H', W')."""
        return torch.zeros_like(inputs[:, :, :: self.stride, :: self.stride])


class FactorizedReduction(nn.Module):
    """ReLU, two convolutions of 1 x 1 with stride 2, the second one pixel off, side by side, normalization."""

    def __init__(self, inputs: int, outputs: int, convolution: Convolution, affine: bool) -> None:
        super().__init__()
        self.first = convolution.make(inputs, outputs - outputs // 2, 1, stride=2)
        self.second = convolution.make(inputs, outputs // 2, 1, stride=2)
        self.normalization = nn.BatchNorm2d(outputs, affine=affine)
        self.rectified = convolution.input_bits != 1  # signs of what a ReLU left would all be alike

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / 2, W / 2)."""
        inputs = functional.relu(inputs) if self.rectified else inputs
        shifted = functional.pad(inputs, (0, 1, 0, 1))[:, :, 1:, 1:]
        return self.normalization(torch.cat([self.first(inputs), self.second(shifted)], dim=1))


def reduction_cost(inputs: int, outputs: int, size: Size, convolution: Convolution, affine: bool) -> Cost:
    """Return the cost of a factorized reduction."""
    height, width = halved(size, 2)
    halves = (outputs - outputs // 2, outputs // 2)
    layers = total(convolution.cost(inputs, half, 1, 1, height * width) for half in halves)
    return layers + numbers_cost(2 * outputs * affine)


def halved(size: Size, stride: int) -> Size:
    """Return the sides of what a stride leaves."""
    return -(-size[0] // stride), -(-size[1] // stride)


def _separable(kernel: int) -> Stages:
    twice = (Layer(kernel, depthwise=True, strided=True), Layer(1)), (Layer(kernel, depthwise=True), Layer(1))
    return Stages(twice)


def _separable_full(kernel: int) -> Stages:
    return Stages(((Layer(kernel, depthwise=True, strided=True),), (Layer(kernel),)))  # ABanditNAS, the authors' code


def _dilated(kernel: int) -> Stages:
    return Stages(((Layer(kernel, dilation=2, depthwise=True, strided=True), Layer(1)),))


OPERATIONS: dict[str, Operation | str] = {
    "none": Nothing(),
    "skip_connect": Skip(),
    "max_pool_3x3": Pool(largest=True),
    "avg_pool_3x3": Pool(largest=False),
    **{f"sep_conv_{kernel}x{kernel}": _separable(kernel) for kernel in (3, 5, 7)},
    **{f"sep_full_conv_{kernel}x{kernel}": _separable_full(kernel) for kernel in (3, 5)},
    **{f"dil_conv_{kernel}x{kernel}": _dilated(kernel) for kernel in (3, 5, 7)},
    **{f"conv_{kernel}x{kernel}": Stages(((Layer(kernel, strided=True),),)) for kernel in (1, 3, 5)},
    **{f"full_dil_conv_{kernel}x{kernel}": Stages(((Layer(kernel, 2, strided=True),),)) for kernel in (3, 5, 7)},
    "gabor_3x3": "envs.evaluation.search.defences:GABOR",
    "denoise": "envs.evaluation.search.defences:DENOISE",
}


def find_operation(name: str) -> Operation:
    """Return an operation by its name.

    Raises:
        UserError: if there is none.
    """
    return _found(OPERATIONS, name, "operation")


def find_convolution(name: str) -> Convolution:
    """Return a kind of convolution by its name.

    Raises:
        UserError: if there is none.
    """
    return _found(CONVOLUTIONS, name, "convolution")


def find_operations(names: Sequence[str]) -> tuple[Operation, ...]:
    """Return operations by their names."""
    return tuple(find_operation(name) for name in names)


def _found(known: dict[str, Any], name: str, what: str) -> Any:
    if name not in known:
        raise UserError(f"unknown {what} '{name}'{near_matches(name, known)}")
    found = known[name]
    return find_class(found) if isinstance(found, str) else found
