"""TensorBoard's event file, written by the caller's own thread; whatever goes wrong with it, the run goes on.

TensorBoard's own writer opens its file by name again and again, in a thread whose exception ends the run: with its
folder removed, or a full disk there. Everything in it is in metrics.jsonl as well, the pictures and histograms apart.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

from rlsuite.records import summaries
from rlsuite.records.files import open_unlinked

_FLUSH_SECONDS = 10


class EventFile:
    """Curves, histograms and pictures for TensorBoard.

    Args:
        folder: made if missing.
        resume_step: environment steps of the checkpoint that the run continues from: what was written later is not
            shown. None: a new run.
        note: told once, in words, when writing has failed and nothing more is written.
    """

    def __init__(self, folder: Path, *, resume_step: int | None, note: Callable[[str], None]) -> None:
        self.folder, self._note = folder, note
        self._file: IO[bytes] | None = None
        self._flushed_s = time.monotonic()
        self._described: set[str] = set()  # cards whose description is in the file
        try:
            folder.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{id(self):x}"
            self._file = open_unlinked(folder / name, "xb", None)
            self._records = RecordWriter(self._file)
        except OSError as error:
            self._give_up(error)
        self._write(Event(file_version="brain.Event:2"))
        if resume_step is not None:  # what follows purges its own step, too
            start = SessionLog(status=SessionLog.START)
            self._write(Event(session_log=start, step=resume_step + 1))
        self._summary(resume_step or 0, summaries.layout)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one point of each curve."""
        if self._file is not None and values:
            points = [
                summaries.number(name, value, described=name not in self._described) for name, value in values.items()
            ]
            self._described.update(values)
            self._write(Event(summary=Summary(value=points), step=int(step)))

    def about_run(self, step: int, config: Mapping[str, Any], command: str, commits: Sequence[str]) -> None:
        """Write what tells this run from others: see `rlsuite.records.summaries.about_run`."""
        if self._file is not None:
            for message in summaries.about_run(config, command, commits):
                self._write(Event(summary=message, step=int(step)))

    def run_ended(self, step: int) -> None:
        """Write that the run has come to its end."""
        self._summary(step, summaries.run_ended)

    def clip(self, step: int, name: str, frames: Sequence[np.ndarray], frames_per_second: float) -> None:
        """Write a clip, frames (H, W, 3) uint8."""
        self._summary(step, summaries.clip, name, frames, frames_per_second)

    def text(self, step: int, name: str, words: str) -> None:
        """Write a text in Markdown."""
        self._summary(step, summaries.text, name, words)

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        """Write the distribution of finite numbers."""
        self._summary(step, summary.histogram, name, values, "auto")

    def image(self, step: int, name: str, picture: Any) -> None:
        """Write a picture, (H, W, 3) or (H, W, 1)."""
        self._summary(step, summary.image, name, picture, dataformats="HWC")

    def flush(self) -> None:
        """Bring what was written to the disk."""
        if self._file is not None:
            try:
                self._file.flush()
                os.stat(self._file.name)  # removed: it could be written to for ever, and nobody would see it
            except OSError as error:
                self._give_up(error)
            self._flushed_s = time.monotonic()

    def close(self) -> None:
        """End the file. May be called twice."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _summary(self, step: int, make: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        if self._file is not None:  # a summary costs time
            self._write(Event(summary=make(*arguments, **options), step=int(step)))

    def _write(self, event: Event) -> None:
        if self._file is None:
            return
        event.wall_time = time.time()
        try:
            self._records.write(event.SerializeToString())
        except OSError as error:
            self._give_up(error)
            return
        if time.monotonic() - self._flushed_s >= _FLUSH_SECONDS:
            self.flush()

    def _give_up(self, error: OSError) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what was left in its buffer does not fit either
                file.close()
        self._note(f"TensorBoard is off: {self.folder} cannot be written ({error.strerror}); metrics.jsonl goes on")
