"""Spaces whose architectures are whole numbers that mean something: widths, depths, counts (NCP, arXiv:2103.13253).

An architecture holds positions; `values` are what they mean: low, low + quantum, ... A continuous code lies in the same
units, so a predictor's gradient can move it, and `decode` takes it back to the nearest legal architecture.

Shapes: F fields.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from envs.evaluation.search.cost import Cost, linear_cost, numbers_cost, weights_cost
from envs.evaluation.search.operations import Size, halved
from envs.evaluation.search.space import Architecture, Space
from rlsuite.errors import require, require_choice
from rlsuite.nn.critics import BATCH_NORMALIZED, NORMALIZATION_OF_BLOCK, CriticConfig, Critics
from rlsuite.nn.plain import ACTIVATIONS, mlp
from rlsuite.nn.vision.doors import FromBytes, sides


class Field(NamedTuple):
    """One number of a code: low, low + quantum, ..., high."""

    name: str
    low: int
    high: int
    quantum: int = 1

    @property
    def count(self) -> int:
        """How many values there are."""
        return (self.high - self.low) // self.quantum + 1


class CodeSpace(Space):
    """Codes of some fields. What networks they build is a derived space's.

    Args:
        name: of the space.
        fields: F of them.
    """

    def __init__(self, name: str, fields: Sequence[Field]) -> None:
        for field in fields:
            good = field.quantum >= 1 and 0 <= field.low <= field.high and (field.high - field.low) % field.quantum == 0
            require(good, f"{field.name}: {field.low} to {field.high} in steps of {field.quantum} are no values")
        require(bool(fields), "fields=[]: a code needs a number")
        self.name, self.fields = name, tuple(fields)
        self.sizes = tuple(field.count for field in fields)

    def values(self, architecture: Architecture) -> dict[str, int]:
        """Return what an architecture means, by the fields' names."""
        return {
            field.name: field.low + position * field.quantum
            for field, position in zip(self.fields, architecture, strict=True)
        }

    def of_values(self, values: dict[str, int]) -> Architecture:
        """Return the architecture that means these values, the nearest legal one for each."""
        return self.decode(np.asarray([values[field.name] for field in self.fields], dtype=float))

    def encode(self, architecture: Architecture) -> np.ndarray:
        """Return the values (F,) float64."""
        return np.asarray(list(self.values(architecture).values()), dtype=np.float64)

    def decode(self, code: np.ndarray) -> Architecture:
        """Return the legal architecture nearest to a code (F,), number by number; of two equally near the larger."""
        positions = [
            int(np.clip(np.floor((value - field.low) / field.quantum + 0.5), 0, field.count - 1))
            for value, field in zip(code, self.fields, strict=True)
        ]
        return tuple(positions)

    def clip(self, code: np.ndarray) -> np.ndarray:
        """Return a code (F,) between the smallest and the largest."""
        return np.clip(code, [field.low for field in self.fields], [field.high for field in self.fields])

    def middle(self) -> np.ndarray:
        """Return the code (F,) in the middle of all fields."""
        return np.asarray([(field.low + field.high) / 2 for field in self.fields])


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """Policies of plain layers.

    Attributes:
        depth: hidden layers at most.
        smallest: units of a hidden layer at least, and the step between two widths.
        largest: units at most.
        activation: a key of rlsuite.nn.plain.ACTIVATIONS.
    """

    depth: int = 3
    smallest: int = 16
    largest: int = 256
    activation: str = "relu"

    def __post_init__(self) -> None:
        require(self.depth >= 1, f"depth={self.depth}: use 1 or more")
        require(self.smallest >= 1, f"smallest={self.smallest}: use 1 or more")
        good = self.largest >= self.smallest and self.largest % self.smallest == 0
        require(good, f"largest={self.largest}: use a multiple of smallest={self.smallest}")
        require_choice("activation", self.activation, ACTIVATIONS)


class ActorSpace(CodeSpace):
    """Hidden layers of a policy: their number, their widths, and whether layers are normalized.

    Args:
        config: see ActorConfig.
        inputs: of the policy's layers.
        outputs: likewise.
    """

    Config = ActorConfig

    def __init__(self, config: ActorConfig, *, inputs: int, outputs: int) -> None:
        widths = [Field(f"width{i + 1}", config.smallest, config.largest, config.smallest) for i in range(config.depth)]
        super().__init__("actor", [Field("depth", 1, config.depth), Field("layer_norm", 0, 1), *widths])
        self.config, self.inputs, self.outputs = config, inputs, outputs

    def hidden_sizes(self, architecture: Architecture) -> tuple[int, ...]:
        """Return the widths of the layers that are there."""
        values = self.values(architecture)
        return tuple(values[f"width{number + 1}"] for number in range(values["depth"]))

    def canonical(self, architecture: Architecture) -> tuple[int, ...]:
        """Return depth, normalization and the widths that count."""
        return architecture[: 2 + self.values(architecture)["depth"]]

    def cost(self, architecture: Architecture) -> dict[str, float]:
        """Return "macs", "parameters", "binary_macs" and "kilobytes"."""
        hidden, found = self.hidden_sizes(architecture), Cost()
        layer_norm = self.values(architecture)["layer_norm"]
        sizes = [self.inputs, *hidden, self.outputs]
        for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
            found += linear_cost(inputs, outputs)
        return (found + numbers_cost(2 * sum(hidden) * layer_norm)).plain()

    def build(self, architecture: Architecture, **options: Any) -> nn.Sequential:
        """Return the layers (B, inputs) to (B, outputs), their weights always the same ones."""
        return mlp(
            self.inputs,
            self.hidden_sizes(architecture),
            self.outputs,
            activation=self.config.activation,
            layer_norm=bool(self.values(architecture)["layer_norm"]),
            seed=0,
        )

    def draw(self, network: nn.Module, seed: int) -> None:
        """Draw weights as `mlp` draws them: uniform, by the number of inputs."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, nn.Linear):
                    for tensor in (layer.weight, layer.bias):
                        tensor.uniform_(-(layer.in_features**-0.5), layer.in_features**-0.5, generator=generator)


class CriticSpace(CodeSpace):
    """Critics of agents: width, depth and block, for `agent.critic` of a training.

    Args:
        widths: units of every hidden layer, from, to and step.
        depth: hidden layers at most.
        blocks: kinds of block, by their position in a code: "plain", "layer_norm", "batch_norm".
        inputs: numbers of an observation and of an action, which costs are counted for.
    """

    def __init__(
        self,
        widths: tuple[int, int, int] = (64, 512, 64),
        depth: int = 3,
        blocks: tuple[str, ...] = ("plain", "layer_norm"),
        *,
        inputs: tuple[int, int] = (1, 1),
    ) -> None:
        low, high, step = widths
        for block in blocks:
            require_choice("block", block, tuple(NORMALIZATION_OF_BLOCK))
        fields = [Field("width", low, high, step), Field("depth", 1, depth), Field("block", 0, len(blocks) - 1)]
        super().__init__("critic", fields)
        self.blocks, self.inputs = blocks, inputs

    def critic(self, architecture: Architecture) -> CriticConfig:
        """Return the critic that a code means."""
        values = self.values(architecture)
        block = self.blocks[values["block"]]
        return CriticConfig(
            hidden_sizes=(values["width"],) * values["depth"], block=block, slow_copies=block in BATCH_NORMALIZED
        )

    def cost(self, architecture: Architecture) -> dict[str, float]:
        """Return "macs", "parameters", "binary_macs" and "kilobytes" of one critic."""
        values, inputs = self.values(architecture), sum(self.inputs)
        sizes, found = [inputs, *[values["width"]] * values["depth"], 1], Cost()
        for before, behind in itertools.pairwise(sizes):
            found += linear_cost(before, behind)
        block = self.blocks[values["block"]]
        normalized = {"plain": 0, "layer_norm": sum(sizes[1:-1]), "batch_norm": sum(sizes[:-1])}[block]
        return (found + numbers_cost(2 * normalized)).plain()

    def build(self, architecture: Architecture, **options: Any) -> Critics:
        """Return one critic, (1, B, D + A) to (1, B, 1), its weights always the same ones."""
        return Critics(1, *self.inputs, self.critic(architecture), generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Convolutional encoders of stages.

    Attributes:
        stages: each halves the map with its first convolution.
        blocks: convolutions of a stage at most.
        smallest: channels at least, and the step between two widths.
        largest: channels at most.
        head: what the last layer sees: the "mean" of each map, or "all" of it.
    """

    stages: int = 3
    blocks: int = 3
    smallest: int = 8
    largest: int = 64
    head: str = "mean"

    def __post_init__(self) -> None:
        for name in ("stages", "blocks", "smallest"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)}: use 1 or more")
        good = self.largest >= self.smallest and self.largest % self.smallest == 0
        require(good, f"largest={self.largest}: use a multiple of smallest={self.smallest}")
        require_choice("head", self.head, ("mean", "all"))


class EncoderSpace(CodeSpace):
    """Convolutions of 3 x 3 with normalization and ReLU, in stages: how many in each, and how wide.

    Args:
        config: see EncoderConfig.
        channels: of the pictures.
        size: W of square pictures, or (H, W).
        outputs: of the network.
    """

    Config = EncoderConfig

    def __init__(self, config: EncoderConfig, *, channels: int, size: int | Size, outputs: int) -> None:
        fields = []
        for number in range(1, config.stages + 1):
            fields.append(Field(f"blocks{number}", 1, config.blocks))
            fields.append(Field(f"width{number}", config.smallest, config.largest, config.smallest))
        super().__init__("encoder", fields)
        self.config, self.channels, self.size, self.outputs = config, channels, sides(size), outputs

    def layers(self, architecture: Architecture) -> list[tuple[int, int, int]]:
        """Return (channels in, channels out, stride) of each convolution."""
        values, found, inputs = self.values(architecture), [], self.channels
        for number in range(1, self.config.stages + 1):
            for block in range(values[f"blocks{number}"]):
                found.append((inputs, values[f"width{number}"], 1 if block else 2))
                inputs = values[f"width{number}"]
        return found

    def cost(self, architecture: Architecture) -> dict[str, float]:
        """Return "macs", "parameters", "binary_macs" and "kilobytes"."""
        found, size, outputs = Cost(), self.size, self.channels
        for inputs, outputs, stride in self.layers(architecture):
            size = halved(size, stride)
            found += weights_cost(9 * inputs * outputs, size[0] * size[1]) + numbers_cost(2 * outputs)
        seen = outputs * (size[0] * size[1] if self.config.head == "all" else 1)
        return (found + linear_cost(seen, self.outputs)).plain()

    def build(self, architecture: Architecture, **options: Any) -> nn.Module:
        """Return the network from pictures (B, C, H, W) to (B, outputs), its weights always the same ones."""
        body, size, outputs = [FromBytes()], self.size, self.channels
        for inputs, outputs, stride in self.layers(architecture):
            size = halved(size, stride)
            convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
            body += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        whole = self.config.head == "all"
        body += [] if whole else [nn.AdaptiveAvgPool2d(1)]
        seen = outputs * (size[0] * size[1] if whole else 1)
        built = nn.Sequential(*body, nn.Flatten(), nn.Linear(seen, self.outputs))
        self.draw(built, 0)
        return built
