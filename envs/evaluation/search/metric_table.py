"""What some architectures scored and cost: codes beside named columns, from a CSV file or from an evaluator.

Shapes: N architectures, F numbers of a code, M columns.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.evaluation.search.space import Architecture, Space
from envs.evaluation.search.spaces.code import CodeSpace
from rlsuite.errors import UserError, near_matches, require
from rlsuite.records.files import read_text

COSTS = ("macs", "parameters")


@dataclass(frozen=True)
class MetricTable:
    """Architectures and their figures, by the columns' names: never by where a column stands.

    Attributes:
        architectures: N of them, different.
        columns: name -> (N,), all finite.
        main: the column that is to grow.
        cost: the column that is to shrink, or "".
    """

    architectures: tuple[Architecture, ...]
    columns: Mapping[str, np.ndarray]
    main: str
    cost: str = ""

    def __post_init__(self) -> None:
        for name in (self.main, *([self.cost] if self.cost else [])):
            require(name in self.columns, f"the table has no column '{name}'{near_matches(name, self.columns)}")
        for name, values in self.columns.items():
            good = len(values) == len(self.architectures) and bool(np.isfinite(values).all())
            require(good, f"column {name}: it needs a finite number for each of {len(self.architectures)} codes")
        require(len(self.architectures) >= 2, f"{len(self.architectures)} codes: a predictor needs 2 or more")

    def values(self, names: Sequence[str]) -> np.ndarray:
        """Return some columns (N, M)."""
        return np.stack([np.asarray(self.columns[name], dtype=np.float64) for name in names], axis=1)


def scored_table(space: Space, architectures: Sequence[Architecture], scores: np.ndarray) -> MetricTable:
    """Return a table of scores and of the costs that the space tells."""
    costs = [space.cost(architecture) for architecture in architectures]
    columns = {"score": np.asarray(scores)} | {name: np.asarray([cost[name] for cost in costs]) for name in COSTS}
    return MetricTable(tuple(architectures), columns, "score", "macs")


def read_metrics(path: Path | str, space: CodeSpace, *, main: str, cost: str = "") -> MetricTable:
    """Read a CSV file: a column for each field of the space's codes, all others are figures.

    Args:
        path: the file.
        space: whose codes these are.
        main: see MetricTable.
        cost: see MetricTable.

    Raises:
        UserError: if the file cannot be read, a column is missing, or a line is no code of the space or comes twice.
    """
    try:
        lines = list(csv.DictReader(read_text(Path(path)).splitlines()))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({str(error)[:80]}); name a CSV file") from None
    require(bool(lines), f"{path}: it holds no line below its header")
    names = [field.name for field in space.fields]
    for name in (*names, main, *([cost] if cost else [])):
        require(name in lines[0], f"{path}: no column '{name}'{near_matches(name, [str(key) for key in lines[0]])}")
    figures = [str(name) for name in lines[0] if name not in names]
    architectures: list[Architecture] = []
    columns: dict[str, list[float]] = {name: [] for name in figures}
    for number, line in enumerate(lines, start=2):
        where = f"{path}, line {number}"
        told = {name: _number(line[name], f"{where}, {name}") for name in names}
        for name, value in told.items():
            require(value == int(value), f"{where}, {name}: {value:g} is no whole number; a code holds these alone")
        code = {name: int(value) for name, value in told.items()}
        architecture = space.of_values(code)
        require(space.values(architecture) == code, f"{where}: {list(code.values())} is no code of {space.name}")
        require(architecture not in architectures, f"{where}: the code {list(code.values())} stands there twice")
        architectures.append(architecture)
        for name in figures:
            columns[name].append(_number(line[name], f"{where}, {name}"))
    return MetricTable(tuple(architectures), {name: np.asarray(each) for name, each in columns.items()}, main, cost)


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    require(math.isfinite(value), f"{where}: '{str(text)[:20]}' is no finite number")
    return value
