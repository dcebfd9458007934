"""Weights & Biases beside TensorBoard: ``log=wandb``. Whatever goes wrong with it, a run that has begun goes on.

Curves have the names of TensorBoard's cards, over environment steps. Without a network, or an account, set
``WANDB_MODE=offline``; `wandb sync` sends it later. A run that goes on is the same run there: its id is kept in the
run's directory.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlsuite.errors import UserError, first_line
from rlsuite.extras import import_extra
from rlsuite.records.files import read_text, require_inside, write_atomically

STEPS = "environment_steps"  # what curves are drawn over
_ID = re.compile(r"[0-9a-f]{16}")


class WandbRun:
    """Curves, histograms and pictures for Weights & Biases; the same calls as `EventFile` takes.

    Args:
        folder: the run's directory; what is not sent yet lies in its folder wandb.
        project: what it is listed under.
        note: told once, in words, when it has failed and nothing more is sent.

    Raises:
        UserError: wandb is not installed, or the run cannot begin.
    """

    def __init__(self, folder: Path, project: str, *, note: Callable[[str], None]) -> None:
        self._note = note
        self._wandb: Any = import_extra("wandb", "log=wandb")
        require_inside(folder / "wandb", folder)
        try:
            self._run: Any = self._wandb.init(
                dir=str(folder),
                project=project,
                name=folder.resolve().name,
                id=_identity(folder / "wandb.id"),
                resume="allow",
                settings=self._wandb.Settings(silent=True, console="off"),
            )
            self._run.define_metric("*", step_metric=STEPS)
        except Exception as error:  # a stranger's package: no key, no network, a full disk
            raise UserError(
                f"log=wandb: {first_line(error)}; set WANDB_MODE=offline, or log in with: wandb login"
            ) from None

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Send one point of each curve."""
        self._send(lambda: self._run.log({**values, STEPS: step}))

    def about_run(self, step: int, config: Mapping[str, Any], command: str, commits: Sequence[str]) -> None:
        """Say which run this is."""
        about = {**config, "command": command, "commits": list(commits)}
        self._send(lambda: self._run.config.update(about, allow_val_change=True))

    def run_ended(self, step: int) -> None:
        """Say that the run has come to its end."""
        self._send(lambda: self._run.summary.update({"finished": True, STEPS: step}))

    def clip(self, step: int, name: str, frames: Sequence[np.ndarray], frames_per_second: float) -> None:
        """Send a clip, frames (H, W, 3) uint8, as a strip of at most five of them: a film would need ffmpeg."""
        shown = [frames[index] for index in np.linspace(0, len(frames) - 1, min(5, len(frames))).astype(int)]
        self.image(step, name, np.concatenate(shown, axis=1))

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        """Send the distribution of finite numbers."""
        self._send(lambda: self._run.log({name: self._wandb.Histogram(values), STEPS: step}))

    def image(self, step: int, name: str, picture: Any) -> None:
        """Send a picture, (H, W, 3) or (H, W, 1)."""
        self._send(lambda: self._run.log({name: self._wandb.Image(np.asarray(picture)), STEPS: step}))

    def flush(self) -> None:
        """Nothing: a process of its own writes."""

    def close(self) -> None:
        """End it. May be called twice."""
        run, self._run = self._run, None
        if run is not None:
            try:
                run.finish()
            except Exception as error:  # a stranger's package: a full disk, a process that was killed
                self._note(f"Weights & Biases did not end well: {first_line(error)}; metrics.jsonl has everything")

    def _send(self, call: Callable[[], object]) -> None:
        if self._run is None:
            return
        try:
            call()
        except Exception as error:  # a stranger's package; the training is worth more than its log
            self.close()
            self._note(f"Weights & Biases is off: {first_line(error)}; metrics.jsonl goes on")


def _identity(path: Path) -> str:
    """Return the run's id there: what the file holds, or a new one."""
    if path.exists():
        found = read_text(path, 100).strip()
        if not _ID.fullmatch(found):
            raise UserError(f"{path} holds no id of a run; delete it, and a new one is begun there")
        return found
    found = secrets.token_hex(8)
    write_atomically(path, found)
    return found
