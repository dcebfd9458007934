"""Several sources as one, one after another.

Shapes: M examples in all, B of them asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlsuite.data.source import Source


class Joined:
    """The examples of several sources that name the same things.

    Args:
        sources: one or more.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        self.ends = torch.tensor([len(source) for source in self.sources]).cumsum(0)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,), each from the source it lies in."""
        owner = torch.searchsorted(self.ends, index, right=True)
        found: dict[str, Tensor] = {}
        for number, source in enumerate(self.sources):
            rows = (owner == number).nonzero().squeeze(-1)
            if len(rows) == 0:
                continue
            start = int(self.ends[number]) - len(source)
            for name, values in source.examples(index[rows] - start).items():
                if name not in found:
                    found[name] = values.new_empty((len(index), *values.shape[1:]))
                found[name][rows.to(values.device)] = values
        return found
