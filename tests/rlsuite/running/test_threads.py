"""Torch's threads: how many act, and that pieces of work come back in order and leave the number as it was."""

import os

import pytest
import torch

from rlsuite.running.threads import FEW, available_threads, few_threads_for, in_threads, one_torch_thread


@pytest.fixture(autouse=True)
def _two_threads():
    count = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(count)


def test_one_thread_within_and_as_many_as_before_after_it():
    with one_torch_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("rows", "threads"), [(FEW // 8, 1), (FEW // 8 + 1, 2)])
def test_few_numbers_are_decided_on_by_one_thread(rows, threads):
    with few_threads_for(torch.zeros(rows, 8)):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


def test_an_error_leaves_the_number_of_threads_as_it_was():
    with pytest.raises(RuntimeError), one_torch_thread():
        raise RuntimeError
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("number", [0, 1, 5])
def test_pieces_of_work_come_back_in_order(number):
    found = in_threads(lambda index: torch.tensor([index, torch.get_num_threads()]), number)
    assert [piece.tolist() for piece in found] == [[index, 1] for index in range(number)]
    assert torch.get_num_threads() == 2


def test_as_many_as_the_process_may_use_where_the_system_tells(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)  # taskset -c 3
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert available_threads() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_threads() == 8
