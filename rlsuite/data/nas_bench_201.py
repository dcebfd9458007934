"""NAS-Bench-201's table (Dong and Yang 2020, arXiv:2001.00326): 15,625 cells and how well each of them classifies.

The file is a CSV, gzipped or plain, with one row an architecture: "cellstr" names the cell as the benchmark does, and a
column for each data set and split holds an accuracy in percent. It is read whole, and checked, before anything is
searched in it.

Shapes: R rows, one for each of the 5^6 cells, ordered as `itertools.product` orders their six operations.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlsuite.data.source import find_data
from rlsuite.errors import UserError, near_matches

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # (from, to), in the order of the benchmark's strings
NUM_CELLS = len(OPERATIONS) ** len(EDGES)
DATASETS = ("cifar10", "cifar100", "imagenet")
FILE_NAME = "nas-bench-201.csv.gz"


@dataclass(frozen=True)
class NasBench201:
    """The table.

    Attributes:
        accuracy: a column (R,) float64 in percent for each data set and split, named as in "cifar10-val".
    """

    accuracy: dict[str, np.ndarray]

    def column(self, name: str) -> np.ndarray:
        """Return one column (R,).

        Raises:
            UserError: if there is none of that name.
        """
        if name not in self.accuracy:
            raise UserError(f"the table has no column '{name}'{near_matches(name, self.accuracy)}")
        return self.accuracy[name]


def row_of(operations: tuple[int, ...]) -> int:
    """Return the row of a cell, given by an index into OPERATIONS for each of EDGES."""
    row = 0
    for operation in operations:
        row = row * len(OPERATIONS) + operation
    return row


def cell_of(row: int) -> tuple[int, ...]:
    """Return the operations of a row: the inverse of `row_of`."""
    return tuple(row // len(OPERATIONS) ** place % len(OPERATIONS) for place in reversed(range(len(EDGES))))


def cell_name(operations: tuple[int, ...]) -> str:
    """Return a cell as the benchmark writes it, such as |nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|."""
    nodes = []
    for node in (1, 2, 3):
        incoming = [
            f"{OPERATIONS[operation]}~{source}"
            for (source, target), operation in zip(EDGES, operations, strict=True)
            if target == node
        ]
        nodes.append(f"|{'|'.join(incoming)}|")
    return "+".join(nodes)


def default_path() -> Path:
    """Return where the table is looked for: in the folder that RLSUITE_DATA names.

    Raises:
        UserError: if RLSUITE_DATA is not set or holds no table.
    """
    return find_data("the table", [FILE_NAME])


def read_table(path: str | Path, *, columns: tuple[str, ...] = ()) -> NasBench201:
    """Read the table.

    Args:
        path: the CSV, gzipped or not.
        columns: names that must be there, beside "cellstr"; () takes what there is.

    Raises:
        UserError: if the file is missing, torn, or not the whole table: naming the first thing that is wrong.
    """
    path = Path(path)
    lines = list(csv.reader(io.StringIO(_text(path))))
    header = lines[0] if lines else []
    if "cellstr" not in header:
        raise UserError(f"{path}: no column 'cellstr'; it is not NAS-Bench-201's table")
    names = [name for name in header if name not in ("arch", "cellstr", "")]
    for column in columns:
        if column not in names:
            raise UserError(f"{path}: no column '{column}'{near_matches(column, names)}")
    cells = {cell_name(cell_of(row)): row for row in range(NUM_CELLS)}
    accuracy = {name: np.full(NUM_CELLS, np.nan) for name in names}
    found = np.zeros(NUM_CELLS, dtype=bool)
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise UserError(f"{path}, line {number}: {len(line)} values for {len(header)} columns")
        values = dict(zip(header, line, strict=True))
        row = cells.get(values["cellstr"])
        if row is None:
            raise UserError(f"{path}, line {number}: '{values['cellstr'][:80]}' is no cell of the benchmark")
        if found[row]:
            raise UserError(f"{path}, line {number}: the cell {values['cellstr']} stands there twice")
        found[row] = True
        for name in names:
            accuracy[name][row] = _percent(values[name], f"{path}, line {number}, {name}")
    if not found.all():
        missing = cell_name(cell_of(int(np.argmin(found))))
        raise UserError(f"{path}: {NUM_CELLS - int(found.sum())} of {NUM_CELLS} cells are missing, such as {missing}")
    return NasBench201(accuracy)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return data.decode()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; name the table's CSV file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read ({str(error)[:80]}); copy the file again") from None


def _percent(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 100.0:
        raise UserError(f"{where}: '{text[:20]}' is no accuracy between 0 and 100")
    return value
