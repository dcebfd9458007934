import os
import signal
import threading

import pytest

from rlsuite.running.signals import GracefulStop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_sets_the_flag_and_handlers_come_back(number):
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with GracefulStop() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        assert stop.reason == number.name
        os.kill(os.getpid(), signal.SIGTERM)  # a second SIGTERM changes nothing
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before


def test_second_interrupt_raises_and_handlers_come_back():
    before = signal.getsignal(signal.SIGINT)

    def run():
        with GracefulStop():
            os.kill(os.getpid(), signal.SIGTERM)  # no interrupt yet
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert signal.getsignal(signal.SIGINT) == before


def test_nested_blocks():
    with GracefulStop() as outer:
        with GracefulStop() as inner:
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert (inner.reason, outer.reason) == ("SIGTERM", "SIGINT")


def test_outside_the_main_thread_nothing_is_installed():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work():
        with GracefulStop() as stop:
            seen.extend([stop.requested, signal.getsignal(signal.SIGTERM) == before])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, True]
    assert signal.getsignal(signal.SIGTERM) == before
