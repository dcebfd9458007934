"""What a fit did, and its directory: log and checkpoints, or nothing where it has none."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from rlsuite.config.schema import changes
from rlsuite.errors import UserError
from rlsuite.optim.state import load_optimizer_tensors, optimizer_tensors
from rlsuite.records.checkpoint import list_checkpoints, read_checkpoint, resolve_checkpoint, save_checkpoint
from rlsuite.records.monitor import Monitor
from rlsuite.records.run_lock import RunLock


@dataclass
class History:
    """What a fit did.

    Attributes:
        records: one every `check_every` minibatches: "step", the mean of each loss since the one before,
            "learning_rate" as a factor, and "held_out" where examples are.
        stopped: why it ended: "steps", "early" or "deadline"; "" while it has not.
    """

    records: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""

    @property
    def steps(self) -> int:
        """Minibatches done."""
        return int(self.records[-1]["step"]) if self.records else 0


class Best:
    """The smallest loss held out, the weights that had it, and how many measurements ago that was."""

    def __init__(self) -> None:
        self.loss, self.waited = math.inf, 0
        self.tensors: dict[str, Tensor] = {}

    def take(self, loss: float, module: nn.Module | None) -> None:
        """Take note of a measurement, and keep the module's weights if it is the best."""
        if not loss < self.loss:  # NaN is no best
            self.waited += 1
            return
        self.loss, self.waited = loss, 0
        if module is not None:
            self.tensors = {name: value.detach().clone() for name, value in module.state_dict().items()}

    def put_back(self, module: nn.Module) -> None:
        """Give a module the best weights, if they were kept."""
        if self.tensors:
            module.load_state_dict(self.tensors)


class FitRun:
    """Logs and saves a fit, and continues it. A context manager.

    Args:
        run_dir: the directory; None for neither.
        module: whose state is saved.
        optimizers: likewise.
        identity: JSON-able; a checkpoint made with another one is refused.
        steps: minibatches of the whole fit.
        console: show progress.

    Raises:
        UserError: if the directory is in use, cannot be written, or holds something else.
    """

    def __init__(
        self,
        run_dir: Path | str | None,
        module: nn.Module,
        optimizers: Mapping[str, torch.optim.Optimizer],
        identity: Mapping[str, Any],
        steps: int,
        console: bool,
    ) -> None:
        self.run_dir = None if run_dir is None else Path(run_dir)
        self.module, self.optimizers, self.steps, self.console = module, optimizers, steps, console
        self.identity = json.loads(json.dumps(identity))
        self.monitor: Monitor | None = None
        self._began, self._earlier_s, self._saved = time.monotonic(), 0.0, 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self.run_dir is not None:
            self._stack.enter_context(RunLock(self.run_dir))
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    @property
    def elapsed_s(self) -> float:
        """Seconds of the fit so far, those of earlier processes included."""
        return self._earlier_s + time.monotonic() - self._began

    def load(self, history: History, best: Best) -> int:
        """Put the newest checkpoint's state into module, optimizers, history and best; return its step, 0 without."""
        if self.run_dir is None:
            return 0
        step = None
        if list_checkpoints(self.run_dir):
            checkpoint = read_checkpoint(resolve_checkpoint(self.run_dir))
            step, about = checkpoint.step, checkpoint.metadata
            self._refuse_another(about.get("fit"))
            try:
                self.module.load_state_dict(checkpoint.parts["module"])
                load_optimizer_tensors(self.optimizers, checkpoint.parts["optimizers"])
            except (RuntimeError, ValueError, KeyError) as error:
                text = " ".join(str(error).split())[:200]
                raise UserError(f"{checkpoint.path} holds another module ({text}); choose another run_dir=") from None
            history.records, history.stopped = about["records"], about["stopped"]
            best.loss, best.waited = math.inf if about["best"] is None else about["best"], about["waited"]
            best.tensors = {name: value.clone() for name, value in checkpoint.parts["best"].items()}
            self._earlier_s = about["elapsed_s"]
            if history.stopped == "deadline":  # a later one may have been given
                history.stopped = ""
        self._saved = step or 0
        self.monitor = self._stack.enter_context(
            Monitor(
                self.run_dir,
                total_steps=self.steps,
                console=self.console,
                resume_step=step,
                elapsed_s=self._earlier_s,
            )
        )
        if step is None:
            self.save(
                0, history, best, 0
            )  # from here on there is something to go on from, and the log is known as ours
        return step or 0

    def record(self, record: Mapping[str, float]) -> None:
        """Log a record of a fit's history."""
        if self.monitor is not None:
            values = {name: value for name, value in record.items() if name not in ("step", "held_out")}
            self.monitor.record(int(record["step"]), "train", values)
            if "held_out" in record:
                self.monitor.record(int(record["step"]), "held_out", {"loss": record["held_out"]})

    def save(self, step: int, history: History, best: Best, every: int) -> None:
        """Save a checkpoint if the fit has ended or `every` minibatches have passed since the last one."""
        if self.monitor is None or self.run_dir is None or (not history.stopped and step < self._saved + every):
            return
        self.monitor.flush()
        parts: dict[str, dict[str, Tensor]] = {
            "module": self.module.state_dict(),
            "optimizers": optimizer_tensors(self.optimizers),
            "best": best.tensors,
        }
        about = {
            "fit": self.identity,
            "records": history.records,
            "stopped": history.stopped,
            "best": best.loss if math.isfinite(best.loss) else None,
            "waited": best.waited,
            "elapsed_s": self.elapsed_s,
        }
        save_checkpoint(self.run_dir, step, parts, about, keep=2)
        self._saved = step

    def _refuse_another(self, found: Any) -> None:
        if found == self.identity:
            return
        if not isinstance(found, dict):
            raise UserError(f"{self.run_dir} holds a run of another kind; choose another run_dir=")
        changed = changes(found, self.identity) or ["not all that it was made with is the same"]
        raise UserError(f"{self.run_dir} holds another fit: {', '.join(changed)}; choose another run_dir=")
