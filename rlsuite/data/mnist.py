"""MNIST's handwritten digits (LeCun et al. 1998), from the original idx files, plain or gzipped, or from mnist.npz.

An idx file is 0, 0, the type's number, the number of axes, each axis's length (big-endian, 4 bytes), then the values.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rlsuite.data.arrays import Arrays
from rlsuite.data.source import find_data, require_split
from rlsuite.errors import UserError, require

FILES = {"train": "train-{}-idx{}-ubyte", "test": "t10k-{}-idx{}-ubyte"}
NAMES = {
    "train": (("train_images", "train_labels"), ("x_train", "y_train")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test")),
}
UNREADABLE = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


def mnist(split: str, folder: Path | str | None = None) -> Arrays:
    """Return "picture" (M, 1, 28, 28) uint8 and "label" (M,) int64 of split="train" (60,000) or "test" (10,000).

    Args:
        split: which.
        folder: that holds mnist.npz or the idx files, or a folder named mnist, MNIST or MNIST/raw with them; None for
            what RLSUITE_DATA says.

    Raises:
        UserError: if they are not there, damaged, or something else.
    """
    require_split(split)
    images, labels = (FILES[split].format(kind, axes) for kind, axes in (("images", 3), ("labels", 1)))
    rooms = ("", "mnist/", "MNIST/", "MNIST/raw/")
    idx = [f"{room}{images}{suffix}" for room in rooms for suffix in ("", ".gz")]
    path = find_data("MNIST", [*(f"{room}mnist.npz" for room in rooms), *idx], folder)
    if path.suffix == ".npz":
        pictures, numbers = _from_npz(path, split)
    else:
        pictures, numbers = read_idx(path), read_idx(path.with_name(path.name.replace(images, labels)))
    fits = pictures.dim() == 3 and numbers.shape == pictures.shape[:1] and pictures.dtype == torch.uint8
    require(fits, f"{path} holds no digits: {tuple(pictures.shape)} pictures, {tuple(numbers.shape)} labels")
    return Arrays({"picture": pictures.unsqueeze(1), "label": numbers.to(torch.int64)})


def read_idx(path: Path) -> Tensor:
    """Return the bytes of an idx file, plain or gzipped, in its own shape, uint8.

    Raises:
        UserError: if it is missing, damaged or truncated, or holds other values than bytes.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if len(data) < 4 or data[:3] != b"\x00\x00\x08":
            raise ValueError("it is no idx file of bytes")
        start = 4 + 4 * data[3]
        shape = tuple(np.frombuffer(data[4:start], ">u4").tolist())
        if len(shape) != data[3] or len(data) != start + int(np.prod(shape, dtype=object)):
            raise ValueError(f"it has {len(data)} bytes, which is not what its shape {shape} needs")
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read ({error}); fetch it again") from None
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())


def _from_npz(path: Path, split: str) -> tuple[Tensor, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as found:
            pair = next((pair for pair in NAMES[split] if pair[0] in found), NAMES[split][0])
            return torch.from_numpy(found[pair[0]]), torch.from_numpy(found[pair[1]])
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read ({error}); it needs the arrays {', '.join(NAMES[split][0])}") from None
