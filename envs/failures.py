"""Simulations that went non-finite: a record of the step that did it, kept on disk, and replayed.

A failure holds the full simulator state before the step and the action, so the step can be made again
alone, in a debugger if need be. Of another library's environment, which does not show its state, it holds what went in
and what came out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save
from torch import Tensor

from rlsuite.errors import UserError
from rlsuite.records.files import read_text, require_file, require_inside, write_atomically

if TYPE_CHECKING:
    from envs.simulation.cpu import CpuSimulation

_OWN = "rlsuite/"  # the suite's own tasks
_PARTS = ("seen", "memory")  # of which each is several tensors
_LARGEST = 1e10  # mjMAXVAL: beyond it the engine calls a state unstable


@dataclass(frozen=True)
class Failure:
    """One environment's failed step.

    Attributes:
        env_index: Which of the environments.
        seed: Root seed of the run.
        episode: How many episodes this environment had finished.
        episode_step: Steps of the episode before the failed one.
        row: (S,) float64, simulator state before the step, its controls already written; (0,) where it is not shown.
        action: (A,) float64, the action that they came from.
        message: What was seen.
        spec_id: The environment, as given to `envs.make_vector`.
        options: The task's options.
        seen: Of another library's environment what went in and came out: observation, next_observation, reward.
        memory: What the task remembered before the step, by name, (size,) float64 each.
        trace: The traceback of what it raised, or "".
    """

    env_index: int
    seed: int
    episode: int
    episode_step: int
    row: Tensor
    action: Tensor
    message: str
    spec_id: str
    options: dict[str, Any]
    seen: dict[str, Tensor] = field(default_factory=dict)
    memory: dict[str, Tensor] = field(default_factory=dict)
    trace: str = ""


@dataclass(frozen=True)
class Replay:
    """What a replayed failure showed.

    Attributes:
        before: Fields that were bad in the recorded state: not finite, or beyond 1e10, MuJoCo's bound.
        after: Fields that were bad after the step.
        substep: The physics step, from 0, after which something was first bad; None for none.
        message: The engine's message, or ""; or why the step was not made again.
    """

    before: list[str]
    after: list[str]
    substep: int | None
    message: str


def save_failure(failure: Failure, path: str | Path) -> None:
    """Write a failure as two files: `path` with suffix .safetensors (tensors) and .json (the rest)."""
    path = Path(path)
    require_inside(path.parent, path.parent.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {"row": failure.row.contiguous(), "action": failure.action.contiguous()}
    for part in _PARTS:
        tensors |= {f"{part}.{name}": value.contiguous() for name, value in getattr(failure, part).items()}
    write_atomically(path.with_suffix(".safetensors"), save(tensors))
    rest = {name: value for name, value in vars(failure).items() if name not in ("row", "action", *_PARTS)}
    write_atomically(path.with_suffix(".json"), json.dumps(rest, indent=2) + "\n")


def load_failure(path: str | Path) -> Failure:
    """Read what `save_failure` wrote.

    Raises:
        UserError: If a file is missing or is not a failure record.
    """
    path = Path(path)
    try:
        rest = json.loads(read_text(path.with_suffix(".json")))
        require_file(path.with_suffix(".safetensors"))
        tensors = load_file(path.with_suffix(".safetensors"))
        parts: dict[str, dict[str, Tensor]] = {
            part: {
                name.removeprefix(f"{part}."): tensors.pop(name)
                for name in list(tensors)
                if name.startswith(f"{part}.")
            }
            for part in _PARTS
        }
        return Failure(**tensors, **rest, seen=parts["seen"], memory=parts["memory"])
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: no such failure record; give the path without suffix") from None
    except Exception as error:  # any damage of either file, whatever library finds it
        raise UserError(f"{path}: not a failure record ({str(error).splitlines()[0]})") from None


def replay_failure(failure: Failure) -> Replay:
    """Make the failed step again, alone, one physics step at a time; of another library's environment, read the record.

    Returns:
        Which fields were bad before and after, and when it began.
    """
    if not failure.spec_id.startswith(_OWN):
        wrong = [name for name, value in failure.seen.items() if not value.isfinite().all()]
        before = [name for name in wrong if name == "observation"]
        message = f"{failure.spec_id} does not show its state: this is what was recorded, nothing was stepped again"
        return Replay(before, [name for name in wrong if name not in before], None, message)
    from envs.catalogue import build
    from envs.simulation.cpu import CpuSimulation

    task = build(failure.spec_id.removeprefix(_OWN), **failure.options)
    simulation = CpuSimulation.of_task(task, 1, num_threads=1)
    names = ("qpos", "qvel", "qacc_warmstart", "qacc", "qfrc_actuator", "qfrc_constraint", "xpos", "cvel")
    fields = {name: simulation.field(name) for name in names}
    simulation.load_state(failure.row.unsqueeze(0))
    for name, value in failure.memory.items():
        simulation.memory[name].copy_(value)
    task.restore(simulation)

    def bad() -> list[str]:
        return [name for name, value in fields.items() if not (value.abs() <= _LARGEST).all()]

    before = bad()
    watched = _Watched(simulation)
    task.physics(watched)
    return Replay(before, bad(), watched.substep, watched.message)


class _Watched:
    """One simulation that is stepped one physics step at a time, until one is refused.

    Attributes:
        substep: The physics step, from 0, after which something was first bad; None for none.
        message: The engine's message where it refused a step.
    """

    def __init__(self, simulation: CpuSimulation) -> None:
        self._simulation = simulation
        self._made = 0
        self.substep: int | None = None
        self.message = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._simulation, name)

    def step(self, substeps: int, env_ids: Tensor | None = None) -> dict[int, str]:
        """Step as the simulation does, and look after every physics step."""
        for _ in range(0 if self.message else substeps):
            self.message = self._simulation.step(1, env_ids).get(0, "")
            if self.substep is None and (self.message or self._simulation.any_unhealthy()):
                self.substep = self._made
            self._made += 1
            if self.message:
                break
        return {0: self.message} if self.message else {}
