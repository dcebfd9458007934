"""One seed tree: every purpose draws from a stream of its own, all grown from the run's seed."""

from __future__ import annotations

import zlib

import numpy as np


def derive_seed(seed: int, purpose: str) -> int:
    """Return a seed for one purpose, such as "agent" or "environment"; equal arguments give equal seeds."""
    return int(np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1)[0])
