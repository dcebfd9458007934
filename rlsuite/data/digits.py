"""scikit-learn's handwritten digits (Alpaydin & Kaynak 1998): 1,797 of 8x8 pixels, which come with the library."""

from __future__ import annotations

from typing import Any

import torch

from rlsuite.data.arrays import Arrays
from rlsuite.data.source import require_split, split
from rlsuite.extras import import_extra

TEST_SHARE, SEED = 0.2, 0


def digits(part: str) -> Arrays:
    """Return "picture" (M, 1, 8, 8) uint8 and "label" (M,) int64 of part="train" (1,438) or "test" (359), fixed.

    Raises:
        UserError: if scikit-learn is not installed.
    """
    found: Any = import_extra("sklearn.datasets", "the data set of digits").load_digits()
    pictures = torch.from_numpy(found.images).unsqueeze(1)  # whole numbers from 0 to 16
    whole = Arrays(
        {
            "picture": (pictures * (255 / 16)).round().to(torch.uint8),
            "label": torch.from_numpy(found.target).to(torch.int64),
        }
    )
    test, train = split(whole, (TEST_SHARE, 1 - TEST_SHARE), SEED)
    chosen = train if require_split(part) == "train" else test
    return Arrays(chosen.examples(torch.arange(len(chosen))))
