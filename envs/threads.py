"""Keep torch's threads out of the way of the simulation's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run torch's CPU operations on the calling thread alone.

    The few tensor operations of an environment step gain nothing from more threads, and OpenMP's workers
    spin for milliseconds after each parallel operation: on two cores that halved the speed of 256 humanoids.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)
