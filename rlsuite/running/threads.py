"""Torch's threads: one where more are in the way, and one for each of several independent pieces of work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
FEW = 2**15  # numbers of an observation for which one thread acts fastest


def available_threads() -> int:
    """Return how many CPUs this process may use: what taskset or a container leaves it, not what the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run torch's CPU operations on the calling thread alone.

    The few tensor operations of an environment step gain nothing from more threads, and OpenMP's workers
    spin for milliseconds after each parallel operation: on two cores that halved the speed of 256 humanoids.

    On a thread that has one already nothing is set: OpenMP's count is each thread's own, but MKL's is all threads', and
    one that steps environments would take it from another that updates.
    """
    count = torch.get_num_threads()
    if count == 1:
        yield
        return
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


class SideThread(Generic[Result]):
    """One further thread, which works on one core; the caller's torch keeps its threads.

    Raises:
        Whatever the work raised, where its result is asked for.
    """

    def __init__(self) -> None:
        count = torch.get_num_threads()
        self.pool = ThreadPoolExecutor(1, "side", initializer=torch.set_num_threads, initargs=(1,))
        self.pool.submit(int).result()  # it has begun: MKL's count, which is all threads', is set for the last time
        torch.set_num_threads(count)

    def begin(self, work: Callable[[], Result]) -> Future[Result]:
        """Begin work(); ask for its result once, before the next work begins."""
        return self.pool.submit(work)


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
