"""What a simulation backend offers to tasks: named fields of N simulations of one model, as torch tensors.

Tasks read `Fields` (of all simulations, or of some) and never know which backend computed them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

_Facts = TypeVar("_Facts", bound="ModelFacts")


@dataclass(frozen=True)
class ModelFacts:
    """Constants of the model that tasks need.

    Attributes:
        initial_qpos: (nq,) float64, the model's default position.
        initial_qvel: (nv,) float64, zeros.
        body_mass: (nbody,) float64.
        body_ids: Body name to index.
        timestep: Seconds a physics substep.
        control_low: (nu,) float64, lower bounds of the controls.
        control_high: (nu,) float64, upper bounds.
        model: The compiled mujoco.MjModel, to look up names and addresses in.
    """

    initial_qpos: Tensor
    initial_qvel: Tensor
    body_mass: Tensor
    body_ids: Mapping[str, int]
    timestep: float
    control_low: Tensor
    control_high: Tensor
    model: Any

    def extended(self, kind: type[_Facts], **more: Any) -> _Facts:
        """Return these facts as those of a subclass, with its own fields and any that differ."""
        own: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(ModelFacts)}
        return kind(**own | more)

    def moved(self, device: torch.device, dtype: torch.dtype) -> Self:
        """Return the same constants on a device, their real numbers in a dtype."""
        return moved(self, device, dtype)

    @property
    def num_positions(self) -> int:
        """Number of position coordinates, nq."""
        return len(self.initial_qpos)

    @property
    def num_velocities(self) -> int:
        """Number of velocity coordinates, nv."""
        return len(self.initial_qvel)


class Movable:
    """Base of what holds a model's constants in its attributes: `moved` goes into them."""


def moved(value: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a value with all tensors in it on a device, real numbers in a dtype.

    It goes into tuples, dataclasses and what is `Movable`; other objects stay as they are.
    """
    if isinstance(value, Movable):
        found = copy.copy(value)
        vars(found).update({name: moved(entry, device, dtype) for name, entry in vars(value).items()})
        return found
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else value.dtype)
    if isinstance(value, tuple):
        parts = [moved(part, device, dtype) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        entries = {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}
        return type(value)(**{name: moved(entry, device, dtype) for name, entry in entries.items()})
    return value


# Writes a task's constants into a freshly compiled model, and returns its facts, a subclass's where it adds some.
Setup = Callable[[Any, ModelFacts], ModelFacts]
# Changes a model's mujoco.MjSpec before it is compiled.
Edit = Callable[[Any], None]


class Fields(Protocol):
    """Read access to the fields of some simulations."""

    @property
    def facts(self) -> ModelFacts:
        """Constants of the model."""
        ...

    def field(self, name: str) -> Tensor:
        """Return a field of MuJoCo's MjData or of the task's memory, (n, ...) in the simulation's dtype."""
        ...


class SelectedFields:
    """The fields of some of a simulation's environments, gathered when asked for.

    Args:
        source: Fields of all environments.
        env_ids: (n,) indices of the chosen ones.
    """

    def __init__(self, source: Fields, env_ids: Tensor) -> None:
        self._source = source
        self._env_ids = env_ids

    @property
    def facts(self) -> ModelFacts:
        """Constants of the model."""
        return self._source.facts

    def field(self, name: str) -> Tensor:
        """Return (n, ...) copies of the chosen rows of a field."""
        return self._source.field(name)[self._env_ids]


class Simulation(Fields, Protocol):
    """N simulations of one model.

    Attributes:
        num_envs: N.
        device: Where all fields are, and the tensors of `facts`.
        dtype: Of all real numbers.
    """

    num_envs: int
    device: torch.device
    dtype: torch.dtype

    def remember(self, name: str, size: int) -> None:
        """Add a field of `size` numbers a simulation that the physics does not know; zeros at first."""
        ...

    def model_field(self, name: str) -> Tensor:
        """Return a live (N, ...) view of a model's field that every simulation has for itself; see `Task.model_fields`.

        What is written there holds from the next step on. It is no part of `state`: a task writes it anew.
        """
        ...

    def set_constants(self, env_ids: Tensor) -> None:
        """Compute what follows from model fields of some simulations (n,), such as how far their geoms reach."""
        ...

    def step(self, substeps: int, env_ids: Tensor | None = None) -> dict[int, str]:
        """Advance all, or some, by `substeps` physics steps; return the engine's message by failed simulation."""
        ...

    def chosen(self, mask: Tensor) -> Tensor | None:
        """Return which simulations (n,) a mask (N,) bool chooses, for `step`; None where only all can be stepped.

        Who is stepped without having been chosen is nobody's concern: its task keeps what it remembers.
        """
        ...

    def reset(self, env_ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Put simulations back to the model's defaults, then `set_state`."""
        ...

    def set_state(self, env_ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Set positions and velocities, (n, nq) and (n, nv), and compute the fields that follow from them."""
        ...

    def forward(self, env_ids: Tensor | None, *, positions_only: bool = False) -> None:
        """Compute the derived fields of some simulations, or of all; only those that positions decide if so asked."""
        ...

    def unhealthy(self) -> Tensor:
        """Return (N,) bool: simulations that became non-finite or unstable since their last reset."""
        ...

    def any_unhealthy(self) -> bool:
        """Return whether `unhealthy` holds for some simulation, quickly where it does not."""
        ...

    def state(self) -> Tensor:
        """Return a copy of the full state, (N, S), from which stepping continues bit for bit."""
        ...

    def load_state(self, rows: Tensor) -> None:
        """Restore what `state()` returned; derived fields are computed by the next call that needs them."""
        ...
