"""Milliseconds of a cell network told from those of its operations, each measured once by itself.

The sum leaves out what no choice changes, and what a runtime saves by fusing: it orders networks rather than timing
them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from envs.evaluation.latency import median_milliseconds, torch_threads
from envs.evaluation.search.operations import halved
from envs.evaluation.search.space import Architecture
from envs.evaluation.search.spaces.cell import CellSpace
from rlsuite.errors import UserError
from rlsuite.records.files import read_text, write_atomically

NAME = "milliseconds.json"


def latency_table(space: CellSpace, folder: Path | None = None) -> Callable[[Architecture], float]:
    """Return a function from an architecture to milliseconds for one picture in torch, one thread.

    Args:
        space: whose operations are measured.
        folder: where the measurements are kept, and read again; None for nowhere.

    Raises:
        UserError: if those that are kept are of another space.
    """
    path = None if folder is None else folder / NAME
    if path is not None and path.exists():
        table = json.loads(read_text(path))
        if [len(row) for row in table] != list(space.sizes):
            raise UserError(f"{path} is of another space; choose another folder")
    else:
        table = _measured(space)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(table))
    return lambda architecture: sum(row[choice] for row, choice in zip(table, architecture, strict=True))


@torch.no_grad()
def _measured(space: CellSpace) -> list[list[float]]:
    """Return the milliseconds of each choice at each place, over all cells of its kind."""
    known: dict[tuple[Any, ...], float] = {}

    def milliseconds(index: int, width: int, size: tuple[int, int], stride: int) -> float:
        key = (index, width, size, stride)
        if key not in known:
            module = space.operations[index].make(width, stride, space.convolution, True).eval()
            inputs = torch.zeros(1, width, *size)
            with torch_threads(1):
                known[key] = median_milliseconds(lambda: module(inputs), warm_ups=3, runs=20)
        return known[key]

    table = []
    for place, count in enumerate(space.sizes):
        kind, edge = divmod(place, len(space.edges))
        from_input, row = space.edges[edge][0] < space.config.inputs, [0.0] * count
        for choice in range(count):
            index = space.operation_of(choice)
            for cell in space.plan():
                if index is not None and cell.kind == space.kinds[kind]:
                    size = cell.size if from_input else halved(cell.size, cell.stride)
                    row[choice] += milliseconds(index, cell.width, size, cell.stride if from_input else 1)
        table.append(row)
    return table
