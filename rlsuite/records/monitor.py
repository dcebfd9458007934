"""The run's log: TensorBoard events, one JSON object a line in metrics.jsonl, and the progress display.

A line of metrics.jsonl is ``{"step": int, "time_s": float, "kind": str, <name>: number, ...}``: environment
steps, wall-clock seconds of the run (continued over a resume), "train", "evaluate" or another kind, and the
numbers. A number that is not finite is null, and the list ``nonfinite`` names it. On which card of TensorBoard the
same number is shown, `rlsuite.records.cards` says. Its event file lies in the run's directory itself, so that the run
is called by that directory's name there; older runs have it in ``tensorboard/``, and keep to that when they go on.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlsuite.errors import UserError
from rlsuite.records.cards import card
from rlsuite.records.files import open_unlinked, read_text, require_inside, write_atomically
from rlsuite.records.progress import Progress
from rlsuite.records.tensorboard import EventFile
from rlsuite.records.weights_and_biases import WandbRun

_RESERVED = ("step", "time_s", "kind", "nonfinite")
_LARGEST_LOG = 1 << 32  # bytes


class Monitor:
    """Write what happens in a run, and show it. A context manager; `close` is its end.

    Args:
        run_dir: the run's directory; made if missing.
        total_steps: environment steps of the whole run, for the share done and the time left.
        console: show progress on standard output.
        resume_step: environment steps of the checkpoint that the run continues from. Everything logged
            after it (by the process that was killed) is dropped, and so is a last line that the kill tore.
            None: a new run.
        elapsed_s: wall-clock seconds of the run before this process (`elapsed_s` of the earlier Monitor).
        wandb: the project of Weights & Biases that is told, too; "" for none.

    Raises:
        UserError: the directory cannot be written, or a new run finds the log of an earlier one.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        total_steps: int,
        console: bool = True,
        resume_step: int | None = None,
        elapsed_s: float = 0.0,
        wandb: str = "",
    ) -> None:
        self.run_dir = Path(run_dir)
        self._origin_s = time.monotonic() - elapsed_s
        path = self.run_dir / "metrics.jsonl"
        self._progress: Progress | None = None
        if resume_step is None and path.exists() and path.stat().st_size > 0:
            raise UserError(f"{path} is the log of an earlier run; choose another run_dir= or continue it with resume=")
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            events = self.run_dir
            if resume_step is not None and os.path.lexists(self.run_dir / "tensorboard"):
                events = self.run_dir / "tensorboard"
            for name in (path.name, f"{path.name}.abandoned", "tensorboard"):
                require_inside(self.run_dir / name, self.run_dir)
            if resume_step is not None and path.exists():
                _truncate(path, resume_step)
            self._file = open_unlinked(path, "a")
        except OSError as error:
            raise UserError(
                f"cannot write to run_dir {self.run_dir} ({error.strerror}); choose another run_dir="
            ) from error
        if console:
            self._progress = Progress(total_steps, start_step=resume_step or 0, start_elapsed_s=elapsed_s)
        self._writers: list[EventFile | WandbRun] = [EventFile(events, resume_step=resume_step, note=self.note)]
        if wandb:
            self._writers.append(WandbRun(self.run_dir, wandb, note=self.note))

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        with contextlib.suppress(*(() if error is None else (UserError,))):  # keep the error that came first
            self.close()

    @property
    def elapsed_s(self) -> float:
        """Wall-clock seconds of the run so far, earlier processes included; a checkpoint should hold it."""
        return time.monotonic() - self._origin_s

    def record(
        self,
        step: int,
        kind: str,
        scalars: Mapping[str, float | Tensor],
        histograms: Mapping[str, Tensor] | None = None,
    ) -> dict[str, float]:
        """Log the numbers of one moment.

        Args:
            step: environment steps.
            kind: "train", "evaluate", ...
            scalars: name -> number or one-element tensor on any device (all fetched in one transfer).
            histograms: name -> tensor of any shape, for TensorBoard; entries not finite are left out.

        Returns:
            The scalars as floats.

        Raises:
            ValueError: a reserved name or a tensor with more than one element.
            UserError: the log cannot be written (disk full).
        """
        if clash := [name for name in _RESERVED if name in scalars]:
            raise ValueError(f"'{clash[0]}' is set by the monitor itself; give the number another name")
        values, elapsed_s = to_floats(scalars), self.elapsed_s
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line: dict[str, Any] = {"step": int(step), "time_s": round(elapsed_s, 3), "kind": kind, **numbers}
        if nonfinite := [name for name, value in numbers.items() if value is None]:
            line["nonfinite"] = nonfinite
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise self._write_failure(error) from error
        cards = {card(kind, name): value for name, value in values.items()}
        self._tell(lambda writer: writer.scalars(step, cards))
        for name, tensor in (histograms or {}).items():
            finite = tensor.detach()[torch.isfinite(tensor)].double().cpu().numpy()
            if finite.size:
                self._tell(lambda writer, name=name, finite=finite: writer.histogram(step, card(kind, name), finite))
        if self._progress is not None:
            self._progress.update(int(step), elapsed_s, kind, values)
        return values

    def image(self, step: int, name: str, picture: Tensor | np.ndarray) -> None:
        """Log a picture to TensorBoard: (H, W, 3) or (H, W, 1), uint8 in [0, 255] or float in [0, 1]."""
        self._tell(lambda writer: writer.image(step, name, picture))

    def clip(self, step: int, name: str, frames: Sequence[np.ndarray], frames_per_second: float) -> None:
        """Log a short film to TensorBoard: frames (H, W, 3) uint8."""
        self._tell(lambda writer: writer.clip(step, name, frames, frames_per_second))

    def about_run(self, config: Mapping[str, Any], command: str, commits: Sequence[str], step: int = 0) -> None:
        """Log to TensorBoard which run this is.

        Args:
            config: nested plain data, as config.yaml holds it.
            command: that started or continued it.
            commits: of the source that has trained it, in turn.
            step: environment steps so far.
        """
        self._tell(lambda writer: writer.about_run(step, config, command, commits))

    def run_ended(self, step: int) -> None:
        """Log to TensorBoard that the run is finished."""
        self._tell(lambda writer: writer.run_ended(step))

    def note(self, text: str) -> None:
        """Print one line beside the progress display; nothing without a console."""
        if self._progress is not None:
            self._progress.note(text)

    def flush(self) -> None:
        """Bring everything logged so far to the disk; to be called before a checkpoint is saved.

        Raises:
            UserError: the log cannot be written (disk full).
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._write_failure(error) from error
        self._tell(lambda writer: writer.flush())

    def close(self) -> None:
        """End the display and close the files. May be called twice.

        Raises:
            UserError: the end of the log cannot be written (disk full).
        """
        if self._file.closed:
            return
        self._tell(lambda writer: writer.close())
        if self._progress is not None:
            self._progress.close()
        try:
            self._file.close()
        except OSError as error:
            raise self._write_failure(error) from error

    def _tell(self, call: Callable[[EventFile | WandbRun], None]) -> None:
        for writer in self._writers:
            call(writer)

    def _write_failure(self, error: OSError) -> UserError:
        return UserError(
            f"cannot write the log in {self.run_dir} ({error.strerror}); free some space and continue with resume="
        )


class SilentMonitor(Monitor):
    """Neither writes nor shows anything: what ranks have that do not log. Numbers come back as from a Monitor."""

    def __init__(self, *, elapsed_s: float = 0.0) -> None:
        self._origin_s = time.monotonic() - elapsed_s
        self._progress = None
        self._writers = []

    def record(
        self,
        step: int,
        kind: str,
        scalars: Mapping[str, float | Tensor],
        histograms: Mapping[str, Tensor] | None = None,
    ) -> dict[str, float]:
        """Return the scalars as floats."""
        return to_floats(scalars)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def to_floats(scalars: Mapping[str, float | Tensor]) -> dict[str, float]:
    """Return `scalars` as floats in their order; tensors are fetched with one transfer for each device.

    Raises:
        ValueError: a tensor with more or less than one element.
    """
    by_device: dict[torch.device, list[str]] = {}
    for name, value in scalars.items():
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise ValueError(f"'{name}' has shape {tuple(value.shape)}; log a single number, or a histogram")
            by_device.setdefault(value.device, []).append(name)
    fetched: dict[str, float] = {}
    for device, names in by_device.items():
        dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
        stacked = torch.stack([torch.as_tensor(scalars[name]).detach().reshape(()).to(dtype) for name in names])
        fetched.update(zip(names, stacked.tolist(), strict=True))
    return {name: fetched[name] if name in fetched else float(value) for name, value in scalars.items()}


def check_finite(values: Mapping[str, float | Tensor]) -> list[str]:
    """Return the names of the entries that are NaN or infinite anywhere; [] when all is well.

    Args:
        values: name -> number, or tensor of any shape (losses, gradients, weights); one transfer in all.
    """
    flags = {
        name: (~torch.isfinite(value)).any() if isinstance(value, Tensor) else float(not math.isfinite(value))
        for name, value in values.items()
    }
    return [name for name, flag in to_floats(flags).items() if flag]


def _truncate(path: Path, last_step: int) -> None:
    """Rewrite metrics.jsonl without records after `last_step`, which go to metrics.jsonl.abandoned, and torn lines."""
    kept, abandoned = [], []
    for line in read_text(path, _LARGEST_LOG).splitlines(keepends=True):
        try:
            keep = line.endswith("\n") and json.loads(line)["step"] <= last_step
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if keep:
            kept.append(line)
        elif line.endswith("\n"):
            abandoned.append(line)
    if abandoned:
        with open_unlinked(path.with_name(path.name + ".abandoned"), "a") as aside:
            aside.writelines(abandoned)
    write_atomically(path, "".join(kept))
