"""Stop at the next safe point: SIGTERM and the first Ctrl-C set a flag, the second Ctrl-C interrupts."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class GracefulStop:
    """While the ``with`` block lasts, SIGTERM and SIGINT ask for an end instead of forcing one.

    The loop reads `requested` between two steps, saves, and returns. A second SIGINT raises
    KeyboardInterrupt, for the impatient. The earlier handlers come back on exit. Python lets only the main
    thread set handlers; elsewhere the block changes nothing and `requested` stays False unless set.

    Attributes:
        requested: True once a signal has arrived (or someone set it).
        reason: the signal's name ("SIGTERM", "SIGINT"), or "" before one arrived.
    """

    _signals = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.requested = False
        self.reason = ""
        self._interrupted = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> GracefulStop:
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        while self._previous:
            number, handler = self._previous.popitem()
            # None: the handler was set outside Python and cannot be put back through it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._interrupted:
            raise KeyboardInterrupt
        self._interrupted |= number == signal.SIGINT
        self.requested = True
        self.reason = signal.Signals(number).name
