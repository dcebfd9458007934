"""NAS-Bench-201's space (Dong and Yang 2020, arXiv:2001.00326): cells of four nodes, six edges and five operations.

A network is a stem of 16 channels, three stages of 5 equal cells with 16, 32 and 64 channels, a residual block of
stride 2 between stages, and a linear classifier on the mean of its last map. A multiplication with an addition counts
as one MAC; only convolutions and the classifier have any.

Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from envs.evaluation.search.space import Architecture, MakeSlot, Space
from rlsuite.data.nas_bench_201 import EDGES, OPERATIONS

_CHANNELS = (16, 32, 64)
_CELLS = 5  # of each stage
_NONE, _SKIP, _CONV_1, _CONV_3, _POOL = range(len(OPERATIONS))


class NasBench201Space(Space):
    """The cells of the table, as six indices into its operations, in the order of its edges.

    Args:
        size: height and width of the pictures, a multiple of 4.
        num_classes: of the classifier.
    """

    name = "nas_bench_201"
    sizes = (len(OPERATIONS),) * len(EDGES)

    def __init__(self, size: int = 32, num_classes: int = 10) -> None:
        self.size, self.num_classes = size, num_classes

    def canonical(self, architecture: Architecture) -> Hashable:
        """Return the cell's function as a nested sum: skips pass, zeros vanish, and so do pools of zeros.

        A convolution of zeros stays: its normalization adds a constant.
        """
        nodes: list[tuple[Any, ...]] = [("input",)]
        for node in (1, 2, 3):
            terms: list[Any] = []
            for (source, target), operation in zip(EDGES, architecture, strict=True):
                if target != node or operation == _NONE:
                    continue
                if operation == _SKIP:
                    terms += nodes[source]
                elif operation != _POOL or nodes[source]:
                    terms.append((OPERATIONS[operation], nodes[source]))
            nodes.append(tuple(sorted(terms, key=repr)))
        return nodes[-1]

    def matrix(self, architecture: Architecture) -> np.ndarray:
        """Return which operation leads from which node to which: (5, 4, 4)."""
        found = np.zeros((len(OPERATIONS), 4, 4))
        for (source, target), operation in zip(EDGES, architecture, strict=True):
            found[operation, source, target] = 1.0
        return found

    @staticmethod
    def connected(architecture: Architecture) -> bool:
        """Return whether a path leads from input to output: without one the output is a constant."""
        reached = {0}
        for (source, target), operation in zip(EDGES, architecture, strict=True):
            if operation != _NONE and source in reached:
                reached.add(target)
        return 3 in reached

    def cost(self, architecture: Architecture) -> dict[str, float]:
        """Return "macs" of one picture and "parameters"."""
        stem, (first, *_) = self.size, _CHANNELS
        macs, parameters = 3 * first * 9 * stem * stem, 3 * first * 9 + 2 * first
        kernels = [{_CONV_1: 1, _CONV_3: 9}.get(operation, 0) for operation in architecture]
        for stage, channels in enumerate(_CHANNELS):
            pixels = (self.size >> stage) ** 2
            if stage:
                before = channels // 2
                weights = before * channels * (9 + 1) + channels * channels * 9
                macs, parameters = macs + weights * pixels, parameters + weights + 4 * channels
            for kernel in filter(None, kernels):
                weights = kernel * channels * channels
                macs, parameters = macs + _CELLS * weights * pixels, parameters + _CELLS * (weights + 2 * channels)
        last = _CHANNELS[-1]
        classifier = last * self.num_classes
        return {"macs": macs + classifier, "parameters": parameters + 2 * last + classifier + self.num_classes}

    def network(self, make_slot: MakeSlot, **options: Any) -> nn.Module:
        """Return the whole network of a cell, or of all cells; all cells share their choices, not their weights."""
        return CellNetwork(make_slot, num_classes=self.num_classes)

    def build(self, architecture: Architecture, **options: Any) -> nn.Module:
        """Return the whole network of a cell, its weights always the same ones."""
        return super().build(self.check(architecture), **options)


class CellNetwork(nn.Module):
    """The benchmark's network around one cell: pictures (B, 3, H, W) to logits (B, num_classes)."""

    def __init__(self, make_slot: MakeSlot, *, num_classes: int = 10) -> None:
        super().__init__()
        first, last = _CHANNELS[0], _CHANNELS[-1]
        layers: list[nn.Module] = [nn.Sequential(nn.Conv2d(3, first, 3, padding=1, bias=False), nn.BatchNorm2d(first))]
        for stage, channels in enumerate(_CHANNELS):
            if stage:
                layers.append(ResidualBlock(channels // 2, channels))
            layers += [Cell(make_slot, channels) for _ in range(_CELLS)]
        self.body = nn.Sequential(*layers)
        self.last = nn.Sequential(nn.BatchNorm2d(last), nn.ReLU())
        self.classifier = nn.Linear(last, num_classes)

    def forward(self, picture: Tensor) -> Tensor:
        """Return logits (B, num_classes)."""
        return self.classifier(self.last(self.body(picture)).mean(dim=(2, 3)))


class Cell(nn.Module):
    """Four nodes, each the sum of what its incoming edges make of earlier ones: (B, C, H, W) to the same."""

    def __init__(self, make_slot: MakeSlot, channels: int) -> None:
        super().__init__()
        made = [make_slot(place, lambda choice: make_operation(choice, channels)) for place in range(len(EDGES))]
        self.edges = nn.ModuleList(edge for edge in made if edge is not None)

    def forward(self, features: Tensor) -> Tensor:
        """Return the last node."""
        nodes = [features]
        for node in (1, 2, 3):
            incoming = [edge(nodes[source]) for (source, to), edge in zip(EDGES, self.edges, strict=True) if to == node]
            nodes.append(torch.stack(incoming).sum(0))
        return nodes[-1]


class Zero(nn.Module):
    """The operation "none"."""

    def forward(self, features: Tensor) -> Tensor:
        """Return zeros of the same shape."""
        return torch.zeros_like(features)


class ResidualBlock(nn.Module):
    """Two convolutions of 3 x 3, the first with stride 2, beside a mean of 2 x 2 and a convolution of 1 x 1."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.first = convolution(before, channels, 3, stride=2)
        self.second = convolution(channels, channels, 3)
        self.beside = nn.Sequential(nn.AvgPool2d(2, stride=2), nn.Conv2d(before, channels, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C, H / 2, W / 2)."""
        return self.second(self.first(features)) + self.beside(features)


def make_operation(operation: int, channels: int) -> nn.Module:
    """Return one of OPERATIONS as a module that keeps channels and size."""
    if operation == _NONE:
        return Zero()
    if operation == _SKIP:
        return nn.Identity()
    if operation == _POOL:
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return convolution(channels, channels, 1 if operation == _CONV_1 else 3)


def convolution(before: int, channels: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    """Return the benchmark's ReLU, convolution, batch normalization."""
    layer = nn.Conv2d(before, channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), layer, nn.BatchNorm2d(channels))
