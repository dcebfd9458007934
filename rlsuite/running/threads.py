"""Torch's threads: one where more are in the way, and one for each of several independent pieces of work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

FEW = 2**15  # numbers of an observation for which one thread acts fastest


def available_threads() -> int:
    """Return how many CPUs this process may use: what taskset or a container leaves it, not what the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def few_threads_for(observation: Tensor) -> AbstractContextManager[None]:
    """Run what follows on one thread where so little is decided (N, D) that threads would only wait for each other.

    A small network acting for 20 humanoids gains nothing from a second thread, and beside other busy programs it loses
    most of its time: 72 seconds for an evaluation that takes 13 on one thread (docs/decisions.md).
    """
    return one_torch_thread() if observation.numel() <= FEW else nullcontext()


def in_threads(work: Callable[[int], Tensor], number: int) -> list[Tensor]:
    """Return work(0), ..., work(number - 1), done by as many threads as torch has, each piece by one.

    For pieces of elementwise operations on tensors that fit in the cache: torch's own division of each operation among
    threads gains nothing there, and the results are the same bits for any number of threads.
    """
    threads = min(torch.get_num_threads(), number)
    with one_torch_thread():
        if threads < 2:
            return [work(index) for index in range(number)]
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, range(number)))
