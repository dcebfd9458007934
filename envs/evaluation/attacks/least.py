"""Attacks that ask how little is enough: the smallest change after which a classifier says another class.

They know the classifier's outputs and have no bound but the box; an input that is told wrong already stays as it is.
What they find is told by its size: share of inputs told wrong with a change of such a norm or less.

Shapes: B batch, (...) one input, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from envs.evaluation.attacks.attack import Box

Outputs = Callable[[Tensor], Tensor]  # inputs (B, ...) -> a number for each class (B, C), each of its own input


class LeastChange:
    """A way to find small changes. It draws no random numbers.

    Attributes:
        Config: its numbers, a frozen dataclass.
    """

    Config: ClassVar[type]

    def __init__(self, *, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    def least(self, outputs: Outputs, x: Tensor, label: Tensor, box: Box) -> Tensor:
        """Return changed inputs (B, ...); those for which nothing was found are told right still.

        Args:
            outputs: the classifier.
            x: inputs (B, ...), floats in the box.
            label: (B,) int64, their true classes.
            box: the range that inputs lie in; None for none.
        """
        raise NotImplementedError


def margin(output: Tensor, label: Tensor) -> Tensor:
    """Return by how much another class leads the true one (B,), of outputs (B, C): above 0 where it is told wrong."""
    true = output.gather(1, label.unsqueeze(1)).squeeze(1)
    others = output.masked_fill(torch.nn.functional.one_hot(label, output.shape[1]).bool(), -torch.inf)
    return others.amax(1) - true


def of_rows(value: Tensor, like: Tensor) -> Tensor:
    """Return numbers (B,) in a shape that multiplies inputs (B, ...)."""
    return value.view(-1, *[1] * (like.dim() - 1))
