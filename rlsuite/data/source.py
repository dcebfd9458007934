"""What a source of examples is, its parts, and where real data lies.

Shapes: M examples, B of them asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from rlsuite.errors import UserError, require, require_choice

VARIABLE = "RLSUITE_DATA"
SPLITS = ("train", "test")


class Source(Protocol):
    """M examples, each always the same: state-free, so that whoever draws them can begin anywhere."""

    def __len__(self) -> int:
        """Return M."""
        ...

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,) int64, each in [0, M): name -> (B, ...)."""
        ...


class Subset:
    """Some examples of a source, in an order of their own.

    Args:
        source: the whole.
        index: (M,) int64, which of its examples.
    """

    def __init__(self, source: Source, index: Tensor) -> None:
        self.source, self.index = source, index

    def __len__(self) -> int:
        return len(self.index)

    def examples(self, index: Tensor) -> dict[str, Tensor]:
        """Return the examples at index (B,) of the subset."""
        return self.source.examples(self.index[index])


def split(source: Source, shares: Sequence[float], seed: int) -> tuple[Subset, ...]:
    """Return disjoint parts of a source, chosen at random; equal arguments give equal parts.

    Args:
        source: M examples.
        shares: of each part, together 1 at most; a part has round(share * M) examples, the last part of shares that
            make 1 what is left.
        seed: of the choice.

    Raises:
        UserError: if a part would be empty.
    """
    require(
        bool(shares) and min(shares) > 0 and sum(shares) <= 1 + 1e-9,
        f"shares={list(shares)}: use shares above 0, together 1 or less",
    )
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))
    sizes = [round(share * len(source)) for share in shares]
    if abs(sum(shares) - 1.0) < 1e-9:
        sizes[-1] = len(source) - sum(sizes[:-1])
    require(min(sizes) >= 1, f"shares={list(shares)} of {len(source)} examples: a part would be empty; use larger ones")
    return tuple(Subset(source, part) for part in order[: sum(sizes)].split(sizes))


def require_split(name: str) -> str:
    """Return the name of a split, or raise UserError: "train" or "test"."""
    require_choice("split", name, SPLITS)
    return name


def data_folder(what: str, folder: Path | str | None = None) -> Path:
    """Return the folder that real data lies in: the one given, else what RLSUITE_DATA says.

    Args:
        what: what is looked for, for the message.
        folder: a folder, or None.

    Raises:
        UserError: if neither names a folder that exists.
    """
    named = str(folder) if folder is not None else os.environ.get(VARIABLE, "")
    if not named:
        raise UserError(f"{what}: {VARIABLE} is not set; let it name the folder that holds {what}")
    if not Path(named).is_dir():
        raise UserError(f"{what}: there is no folder {named}; let {VARIABLE} name the folder that holds {what}")
    return Path(named)


def find_data(what: str, names: Sequence[str], folder: Path | str | None = None) -> Path:
    """Return the first of some files or folders that is there, in the folder that real data lies in.

    Raises:
        UserError: if none is.
    """
    root = data_folder(what, folder)
    for name in names:
        if (root / name).exists():
            return root / name
    raise UserError(
        f"{what}: {root} holds none of {', '.join(names[:4])}; put one there, or let {VARIABLE} name another"
    )
