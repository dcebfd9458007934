"""What architectures are worth: read from a table, or asked of a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from envs.evaluation.search.space import Architecture
from rlsuite.data.nas_bench_201 import row_of


class FunctionEvaluator:
    """Scores by a function of one architecture; nothing is learned.

    Args:
        function: from an architecture to its score, larger is better.
    """

    def __init__(self, function: Callable[[Architecture], float]) -> None:
        self.function = function

    def prepare(self, train: Sequence[Architecture]) -> None:
        """Learn nothing: there are no shared weights."""

    def score(self, judge: Sequence[Architecture]) -> list[float]:
        """Return the scores."""
        return [float(self.function(architecture)) for architecture in judge]

    def save(self, folder: Path) -> None:
        """Write nothing."""

    def load(self, folder: Path) -> None:
        """Read nothing."""


class TableEvaluator(FunctionEvaluator):
    """Reads scores from a column of NAS-Bench-201's table.

    Args:
        column: (R,) accuracies in percent, in the table's order of rows.
    """

    def __init__(self, column: np.ndarray) -> None:
        super().__init__(lambda architecture: column[row_of(architecture)])
