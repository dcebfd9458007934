"""What a network is for: what it learns from, what counts as an error, and how good it is. Larger scores are better.

Shapes: B batch, C classes or channels, H x W pixels, E scored examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rlsuite.data.source import Source
from rlsuite.nn.device import device_of

Batch = dict[str, Tensor]


class Task(Protocol):
    """A task, as transforms and attacks see it.

    Attributes:
        unit: of the scores, such as "return", "%" or "dB".
        box: the range inputs lie in, or None where they have none.
        floor: the score of something that has learned nothing, which `kept` shares are counted from.
        interactive: whether what the network sees depends on what it does.
    """

    interactive: bool
    unit: str
    box: tuple[float, float] | None

    @property
    def floor(self) -> float:
        """See above."""
        ...

    def source(self, split: str) -> Source:
        """Return the examples of "train" or "test"; every example has "input", and what the loss compares with."""
        ...

    def visited(self, module: nn.Module, seed: int) -> Source:
        """Return labelled examples of what the network itself brings about, where the task is interactive."""
        ...

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the error (B,) of each example, differentiable."""
        ...

    def score(self, module: nn.Module, seed: int) -> np.ndarray:
        """Return scores (E,) of the network in evaluation mode; the same seed asks the same."""
        ...


class ClassifierTask:
    """Telling classes apart: cross-entropy while learning, percent of right answers as the score.

    Args:
        train: examples with "input" (B, C, H, W) and "label" (B,) int64.
        test: others.
        num_classes: C; a guess is right once in C.
        validation: others again, which nothing learns from and no score is taken on: thresholds are set on them.
    """

    interactive = False
    unit = "%"
    box: tuple[float, float] | None = (0.0, 1.0)

    def __init__(self, train: Source, test: Source, *, num_classes: int, validation: Source | None = None) -> None:
        self.splits = {"train": train, "test": test}
        self.num_classes, self.validation = num_classes, validation

    @property
    def floor(self) -> float:
        """The percent of right guesses."""
        return 100.0 / self.num_classes

    def source(self, split: str) -> Source:
        """Return the examples of a split."""
        return self.splits[split]

    def visited(self, module: nn.Module, seed: int) -> Source:
        """Raise TypeError: pictures do not depend on who looks at them."""
        raise TypeError("this task is not interactive")

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the cross-entropy (B,)."""
        return functional.cross_entropy(module(batch["input"]), batch["label"], reduction="none")

    def score(self, module: nn.Module, seed: int) -> np.ndarray:
        """Return 100 for each test example that is told right and 0 for others, (E,)."""
        right = over_examples(module, self.splits["test"], lambda output, batch: output.argmax(1) == batch["label"])
        return 100.0 * right.numpy().astype(np.float64)


class DenseTask:
    """A picture for a picture: mean absolute error while learning, a metric of each picture as the score.

    Args:
        train: examples with "input" and "target" (B, C, H, W).
        test: others.
        metric: (output, target) to (B,), larger is better.
        unit: its unit.
        floor: its value for something that has learned nothing, such as bicubic enlargement.
    """

    interactive = False
    box: tuple[float, float] | None = (0.0, 1.0)

    def __init__(
        self, train: Source, test: Source, *, metric: Callable[[Tensor, Tensor], Tensor], unit: str, floor: float
    ) -> None:
        self.splits, self.metric, self.unit, self._floor = {"train": train, "test": test}, metric, unit, floor

    @property
    def floor(self) -> float:
        """As it was given."""
        return self._floor

    def source(self, split: str) -> Source:
        """Return the examples of a split."""
        return self.splits[split]

    def visited(self, module: nn.Module, seed: int) -> Source:
        """Raise TypeError: pictures do not depend on who looks at them."""
        raise TypeError("this task is not interactive")

    def loss(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return the mean absolute error (B,)."""
        return (module(batch["input"]) - batch["target"]).abs().flatten(1).mean(1)

    def score(self, module: nn.Module, seed: int) -> np.ndarray:
        """Return the metric (E,) of every test picture."""
        found = over_examples(module, self.splits["test"], lambda output, batch: self.metric(output, batch["target"]))
        return found.double().numpy()


@torch.no_grad()
def over_examples(
    module: nn.Module, source: Source, measure: Callable[[Tensor, Batch], Tensor], *, batch_size: int = 256
) -> Tensor:
    """Return measure(output, batch) of all examples of a source, one after another, on the CPU."""
    device = device_of(module)
    found = []
    for index in torch.arange(len(source)).split(batch_size):
        batch = {name: tensor.to(device) for name, tensor in source.examples(index).items()}
        found.append(measure(module(batch["input"]), batch).cpu())
    return torch.cat(found)
