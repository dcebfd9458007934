"""What is judged: a network, what it takes in, what it is for, and how it came to be.

Shapes: B batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from envs.evaluation.tasks import Task
from rlsuite.nn.device import device_of
from rlsuite.nn.ensemble import EnsembleLinear

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMALIZATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Base(NamedTuple):
    """What builds a network before anything was done to it: a name of `recipe.BASES`, and its numbers as plain data."""

    name: str
    config: dict[str, Any]


class Step(NamedTuple):
    """One transform that was applied: its name, its numbers and what it decided, all as plain data."""

    name: str
    config: dict[str, Any]
    plan: Any


@dataclass(frozen=True)
class Subject:
    """A network to be judged. Transforms return new subjects; this one's module is never changed.

    Attributes:
        module: the network, with its normalization inside, in evaluation mode.
        example: (1, ...) one input as it comes in use, for tracing and counting.
        task: what it is for.
        base: what builds it untouched.
        recipe: what has been done to it since.
        gained: traits that transforms have added; see `traits`.
    """

    module: nn.Module
    example: Tensor
    task: Task
    base: Base
    recipe: tuple[Step, ...] = ()
    gained: frozenset[str] = field(default=frozenset())

    @property
    def traits(self) -> frozenset[str]:
        """What transforms ask for and refuse: what the network is made of, and what was done to it."""
        return traits_of(self.module) | self.gained

    @property
    def device(self) -> torch.device:
        """Where the module is: what stands for it in a search learns there, too."""
        return device_of(self.module)

    def copy(self) -> nn.Module:
        """Return a deep copy of the module, in evaluation mode and without gradients of before."""
        module = copy.deepcopy(self.module).eval()
        for parameter in module.parameters():
            parameter.grad = None
        return module

    @torch.no_grad()
    def output(self) -> Tensor:
        """Return what the network makes of the example."""
        return self.module(self.example)


def traits_of(module: nn.Module) -> frozenset[str]:
    """Return what a network is made of: "linear", "convolutional", "batch_normalized", "stacked"."""
    kinds = {type(part) for part in module.modules()}

    def has(wanted: Iterable[type]) -> bool:
        return any(issubclass(kind, tuple(wanted)) for kind in kinds)

    found = {
        "linear": has((nn.Linear,)),
        "convolutional": has(CONVOLUTIONS),
        "batch_normalized": has(BATCH_NORMALIZATIONS),
        "stacked": has((EnsembleLinear,)),
    }
    return frozenset(name for name, there in found.items() if there)
