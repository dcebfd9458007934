"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), from the original binary files.

A record of CIFAR-10 is one label and a picture (3, 32, 32); of CIFAR-100 the coarse label, the fine one, the picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from rlsuite.data.arrays import Arrays
from rlsuite.data.source import find_data, require_split
from rlsuite.errors import UserError

FOLDERS = {10: "cifar-10-batches-bin", 100: "cifar-100-binary"}
FILES = {
    10: {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)},
    100: {"train": ("train.bin",), "test": ("test.bin",)},
}
PIXELS = 3 * 32 * 32


def cifar(classes: int, split: str, folder: Path | str | None = None) -> Arrays:
    """Return "picture" (M, 3, 32, 32) uint8 and "label" (M,) int64, of CIFAR-100 "coarse" (M,) too.

    Args:
        classes: 10 or 100.
        split: "train" (50,000) or "test" (10,000).
        folder: that holds the binary files, or the folder they come in; None for what RLSUITE_DATA says.

    Raises:
        UserError: if a file is not there, or damaged.
        ValueError: for other classes.
    """
    if classes not in FILES:
        raise ValueError(f"classes={classes}: there are CIFAR-10 and CIFAR-100")
    names = FILES[classes][require_split(split)]
    room = find_data(f"CIFAR-{classes}", [f"{FOLDERS[classes]}/{names[0]}", names[0]], folder).parent
    labels = 1 if classes == 10 else 2
    rows = torch.cat([_records(room / name, labels + PIXELS) for name in names])
    found = {"picture": rows[:, labels:].reshape(-1, 3, 32, 32), "label": rows[:, labels - 1].to(torch.int64)}
    if int(found["label"].max()) >= classes:
        raise UserError(f"{room}: labels of CIFAR-{classes} go up to {classes - 1}; these are other files")
    if classes == 100:
        found["coarse"] = rows[:, 0].to(torch.int64)
    return Arrays(found)


def _records(path: Path, length: int) -> torch.Tensor:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); fetch it again") from None
    if not len(data) or len(data) % length:
        raise UserError(f"{path} has {len(data)} bytes, no whole number of records of {length}; fetch it again")
    return torch.from_numpy(data.reshape(-1, length))
