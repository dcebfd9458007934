"""N simulations on CPU threads: MuJoCo's own batch, seen as torch tensors without copies.

Shapes: N simulations, n of them in a call, S numbers a state row.
"""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch, SimulationError
from torch import Tensor

from envs.simulation.base import Edit, Setup
from envs.simulation.model import add_contact_sensor, load_model, model_facts
from rlsuite.running.threads import available_threads

if TYPE_CHECKING:
    from envs.task import Task

ContactForces = Literal["off", "sensor", "exact"]
# mjWARN_BADQPOS, BADQVEL, BADQACC, BADCTRL are neighbours in the engine's table of warnings.
_BAD_STATE = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADCTRL) + 1)


def _share(array: np.ndarray) -> Tensor:
    """Return a tensor over an array's memory, also where numpy marks the array read-only."""
    # A view that is first asked for in inference mode must be writable outside of it.
    with warnings.catch_warnings(), torch.inference_mode(False):
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


class CpuSimulation:
    """N simulations of one model on a pool of C++ threads.

    Results are the same bits at any number of threads. After `step`, derived fields (``xpos``, ``cinert``,
    ...) are those of the last substep's start, exactly as after ``mj_step``.

    Args:
        xml_file: Model file, see `envs.simulation.model.find_model`.
        num_envs: Number of simulations, N.
        num_threads: Threads, counting the caller's; 0 takes all CPUs the process may use.
        contact_forces: How ``cfrc_ext`` is computed. "off": not at all. "sensor": by the engine, free; under
            Runge-Kutta integration these are the forces at the first stage of the last substep. "exact":
            with ``mj_rnePostConstraint`` after each step, the values of Gymnasium's environments, about 34
            microseconds a simulation. Both are zero after a reset, as in Gymnasium.
        setup: Called once with the compiled model, before any simulation exists.
        edits: What changes the model before it is compiled.
        model_fields: Fields of the model that every simulation has for itself; see `model_field`.

    Attributes:
        memory: Fields that the physics does not know, by name, (N, size) float64; see `remember`.
    """

    device = torch.device("cpu")
    dtype = torch.float64

    def __init__(
        self,
        xml_file: str,
        num_envs: int,
        *,
        num_threads: int = 0,
        contact_forces: ContactForces = "off",
        setup: Setup | None = None,
        edits: Sequence[Edit] = (),
        model_fields: Sequence[str] = (),
    ) -> None:
        self.num_envs = num_envs
        self.model = load_model(xml_file, [*([add_contact_sensor] if contact_forces == "sensor" else []), *edits])
        self.facts = model_facts(self.model)
        if setup is not None:
            self.facts = setup(self.model, self.facts)
        threads = min(num_threads or available_threads(), num_envs)
        self._exact_contacts = contact_forces == "exact"
        self.batch = Batch(self.model, num_envs, threads, persistent=self._exact_contacts)
        self.rows = torch.from_numpy(self.batch.state)
        self._warnings = _share(self.batch.warning)
        self._fields: dict[str, Tensor] = {}
        self._model_fields = {name: _share(self.batch.expand(name)) for name in model_fields}
        self.memory: dict[str, Tensor] = {}
        self._contact_forces: Tensor | None = None
        if self._exact_contacts:
            self._scratch = mujoco.MjData(self.model)
            shape = (num_envs, self.model.nbody, 6)
            self._contact_forces = torch.zeros(shape, dtype=torch.float64)
            self._fields["cfrc_ext"] = self._contact_forces
        elif contact_forces == "sensor":
            self._contact_forces = self.field("cfrc_ext")

    @classmethod
    def of_task(cls, task: Task, num_envs: int, *, num_threads: int = 0) -> CpuSimulation:
        """Return N simulations of a task's model, with the fields that the task remembers, zeros at first."""
        simulation = cls(
            task.xml_file,
            num_envs,
            num_threads=num_threads,
            contact_forces=task.contact_mode,  # pyright: ignore[reportArgumentType]
            setup=task.setup,
            edits=task.edits(),
            model_fields=task.model_fields,
        )
        for name, size in task.memory(simulation.facts).items():
            simulation.remember(name, size)
        return simulation

    @property
    def num_threads(self) -> int:
        """Threads that step the simulations."""
        return self.batch.nthread

    @property
    def own_models(self) -> bool:
        """Whether simulations differ in their models."""
        return bool(self._model_fields)

    def field(self, name: str) -> Tensor:
        """Return a live (N, ...) view of an MjData field.

        Writing to a state field (qpos, qvel, ctrl, ...) sets it for the next call; derived fields are
        outputs. A derived field first asked for between two steps is zero until the next one.
        """
        tensor = self._fields.get(name)
        if tensor is None:
            tensor = self._fields[name] = _share(self.batch.bind(name))
        return tensor

    def remember(self, name: str, size: int) -> None:
        """Add a field of `size` numbers a simulation that the physics does not know; zeros at first."""
        self.memory[name] = self._fields[name] = torch.zeros(self.num_envs, size, dtype=torch.float64)

    def model_field(self, name: str) -> Tensor:
        """Return a live (N, ...) view of a model's field that every simulation has for itself.

        Raises:
            KeyError: If the field was not named in `model_fields`.
        """
        return self._model_fields[name]

    def set_constants(self, env_ids: Tensor) -> None:
        """Compute what follows from model fields of some simulations (n,): ``mj_setConst``."""
        self.batch.set_const(env_ids.numpy())

    def step(self, substeps: int, env_ids: Tensor | None = None) -> dict[int, str]:
        """Advance all simulations, or those of `env_ids` (n,), by `substeps` physics steps.

        Returns:
            The engine's message for each simulation it refused to step; those keep their state.
        """
        refused: dict[int, str] = {}
        try:
            self.batch.step(None if env_ids is None else env_ids.numpy(), nstep=substeps)
        except SimulationError as error:
            refused = {int(index): self.batch.error(int(index)) for index in error.ids}
        if self._exact_contacts:
            self._compute_contact_forces()
        return refused

    def chosen(self, mask: Tensor) -> Tensor | None:
        """Return which simulations (n,) a mask (N,) bool chooses."""
        return torch.nonzero(mask).flatten()

    def _compute_contact_forces(self) -> None:
        """Fill ``cfrc_ext`` from each simulation's own data after the step."""
        assert self._contact_forces is not None
        forces = self._contact_forces.numpy()
        for index in range(self.num_envs):
            self.batch.get_data(index, self._scratch)
            mujoco.mj_rnePostConstraint(self.model, self._scratch)
            forces[index] = self._scratch.cfrc_ext

    def reset(self, env_ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Put simulations back to the model's defaults, then `set_state`; the others stay as they are.

        Args:
            env_ids: (n,) int64 simulations to reset.
            qpos: (n, nq) positions.
            qvel: (n, nv) velocities.
        """
        self.batch.reset(env_ids.numpy(), stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        self.set_state(env_ids, qpos, qvel)
        if self._contact_forces is not None:
            self._contact_forces[env_ids] = 0.0

    def set_state(self, env_ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Write positions and velocities of some simulations and compute their derived fields.

        Controls, time and the solver's warm start stay as they are.

        Args:
            env_ids: (n,) int64 simulations.
            qpos: (n, nq) positions.
            qvel: (n, nv) velocities.
        """
        self.field("qpos")[env_ids] = qpos
        self.field("qvel")[env_ids] = qvel
        self.forward(env_ids)

    def forward(self, env_ids: Tensor | None, *, positions_only: bool = False) -> None:
        """Compute the derived fields of some simulations (n,), or of all, from their state, as ``mj_forward`` does.

        Args:
            env_ids: (n,) int64 simulations; None for all.
            positions_only: Stop after the fields that positions decide, as ``mj_fwdPosition`` does: two thirds of the
                whole for a Fetch arm. Fields of velocities and forces stay those of the last substep's start.
        """
        stage = mujoco.mjtStage.mjSTAGE_POS if positions_only else mujoco.mjtStage.mjSTAGE_ACC
        self.batch.forward(None if env_ids is None else env_ids.numpy(), stage=int(stage))

    def any_unhealthy(self) -> bool:
        """Return whether `unhealthy` holds for some simulation, quickly where it does not."""
        return not math.isfinite(float(self.rows.sum())) or bool(self._warnings[:, _BAD_STATE, 1].any())

    def unhealthy(self) -> Tensor:
        """Return (N,) bool: simulations whose state is not finite or that the engine called unstable."""
        unstable = self._warnings[:, _BAD_STATE, 1].sum(dim=1) > 0
        return unstable | ~torch.isfinite(self.rows.sum(dim=1))

    def state(self) -> Tensor:
        """Return a copy of the state rows, (N, S) float64: MuJoCo's integration state."""
        return self.rows.clone()

    def load_state(self, rows: Tensor) -> None:
        """Restore state rows; stepping then goes on bit for bit. Derived fields are those of the next step.

        Raises:
            ValueError: If the rows are not of this model and number of simulations.
        """
        if rows.shape != self.rows.shape:
            raise ValueError(
                f"state rows have shape {tuple(rows.shape)}, this simulation needs {tuple(self.rows.shape)}; "
                "build it with the same model and num_envs"
            )
        self.rows.copy_(rows)
        self._warnings.zero_()
