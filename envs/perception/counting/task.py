"""Counting as a task: a network draws a density map, the pyramid's loss teaches it, the count's error scores it.

Shapes: B batch, C channels, H x W pixels of pictures, h x w of maps, E scored examples.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from envs.perception.counting.losses import SPPLoss
from rlsuite.data.source import Source
from rlsuite.nn.device import device_of

SCALE = 100.0  # of maps while they are learned: a blob's values are small; counts are divided by it again


class CountTask:
    """Pictures to density maps times SCALE: see the module's docstring.

    Args:
        train: examples with "input" (B, C, H, W) and "density" (B, 1, h, w), which sums to the count.
        test: others.
        loss: what compares maps.
        floor: the score of something that has learned nothing: minus the mean error of the training examples' mean.
    """

    interactive = False
    unit = "negative count error"
    box: tuple[float, float] | None = (0.0, 1.0)

    def __init__(self, train: Source, test: Source, loss: SPPLoss, *, floor: float) -> None:
        self.splits, self.compare, self._floor = {"train": train, "test": test}, loss, floor

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

    def loss(self, module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Return the pyramid's loss (B,)."""
        return self.compare.each(module(batch["input"]), SCALE * batch["density"]).sum(0)

    def score(self, module: nn.Module, seed: int) -> np.ndarray:
        """Return minus the error of each test picture's count (E,)."""
        predicted, true = self.counts(module)
        return -(predicted - true).abs().numpy()

    @torch.no_grad()
    def counts(self, module: nn.Module) -> tuple[Tensor, Tensor]:
        """Return predicted and true counts of the test pictures, (E,) each."""
        maps, true = self.maps(module)
        return maps.flatten(1).sum(1).double(), true.flatten(1).sum(1).double()

    @torch.no_grad()
    def maps(self, module: nn.Module) -> tuple[Tensor, Tensor]:
        """Return predicted and true density maps of the test pictures, (E, 1, h, w) each."""
        source, found = self.splits["test"], []
        device = device_of(module)
        for index in torch.arange(len(source)).split(64):
            batch = source.examples(index)
            found.append((module(batch["input"].to(device)).cpu() / SCALE, batch["density"].cpu()))
        return torch.cat([one for one, _ in found]), torch.cat([true for _, true in found])
