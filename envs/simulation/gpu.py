"""N simulations on one device: MuJoCo Warp, its fields seen as torch tensors without copies.

On a GPU this is the engine for thousands of worlds. On a CPU it computes the same with one thread: there it is tested,
and nothing more. Physics is recorded once as a graph of Warp's (of a CPU, as a list of kernel calls) and then
replayed: launching a step's hundreds of kernels from Python costs fifty times what they compute for a few worlds.

Shapes: N simulations, n of them in a call, S numbers a state row.
"""

# MuJoCo's compiled modules have no type stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import mujoco
import torch
from torch import Tensor

from envs.simulation.base import ModelFacts
from envs.simulation.cpu import CpuSimulation
from envs.simulation.mjwarp import for_warp, import_warp, on_device
from rlsuite.errors import UserError, require

if TYPE_CHECKING:
    from envs.task import Task

# MuJoCo's integration state, in its order: a row is that of the CPU engine, in float32.
_STATE = (
    *("time", "qpos", "qvel", "act", "qacc_warmstart", "ctrl", "qfrc_applied", "xfrc_applied"),
    *("eq_active", "mocap_pos", "mocap_quat"),
)
_WANTED_BY = "env.engine=warp"
_PROBED, _PROBE_STEPS = 16, 40  # simulations and random environment steps that buffers are sized by
_LARGEST = 1e10  # mjMAXVAL: beyond it MuJoCo calls a state unstable
_TIES = (mujoco.mjtEq.mjEQ_CONNECT, mujoco.mjtEq.mjEQ_WELD)
# What follows from a field of the model, so that every simulation must have it for itself, too.
_FOLLOWING = {"geom_size": ("geom_rbound", "geom_aabb")}
_ADVICE = {
    "NEFC": "env.njmax",
    "NJMAX_NNZ": "env.njmax",
    "BROADPHASE": "env.nconmax",
    "NARROWPHASE": "env.nconmax",
    "CCD": "env.nconmax",
}


class WarpSimulation:
    """N simulations of a task's model on one device, in float32.

    The model is the CPU engine's, but for the solver: Newton's, whatever the file says.

    Args:
        task: Whose model it is.
        num_envs: Number of simulations, N.
        device: Where they are.
        nconmax: Contacts that there is room for, a simulation on average; 0: twice the most that a probe of random
            states on the CPU engine had, at least MuJoCo Warp's own guess.
        njmax: Rows of constraints that there is room for, a simulation; 0: likewise.
        deterministic: On a GPU, let sums be made in one order, so that a run can be repeated to the bit.

    Attributes:
        everyone: (N,) int64, all simulations.
        facts: Constants of the model, on the device.
        memory: Fields that the physics does not know, by name, (N, size); see `remember`.
        overflow: (N,) int32, bits of what there was no room for in the steps since it was last cleared.

    Raises:
        UserError: If MuJoCo Warp is missing, or cannot hold the task.
    """

    dtype = torch.float32

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        device: torch.device | str = "cpu",
        nconmax: int = 0,
        njmax: int = 0,
        deterministic: bool = True,
    ) -> None:
        self._warp, self._mujoco_warp = import_warp(_WANTED_BY)
        refuse_task(task)
        self.num_envs, self.device = num_envs, torch.device(device)
        probe = CpuSimulation.of_task(task, _PROBED, num_threads=1)
        contacts, rows = _most(task, probe) if not (nconmax and njmax) else (0, 0)
        self.model = for_warp(probe.model)
        self.facts: ModelFacts = probe.facts.moved(self.device, self.dtype)
        self.everyone = torch.arange(num_envs, device=self.device)
        self._ties = bool(set(self.model.eq_type.tolist()) & {int(kind) for kind in _TIES})
        self._contact_forces = task.contact_mode != "off"
        own = [name for field in task.model_fields for name in (field, *_FOLLOWING.get(field, ()))]
        with on_device(self._warp, self.device):
            try:
                self._model = self._mujoco_warp.put_model(self.model, batch_sizes=dict.fromkeys(own, num_envs))
            except (NotImplementedError, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise UserError(f"{_WANTED_BY}: it cannot hold {task.name} ({reason}); use env.engine=mujoco") from None
            self._model.opt.warn_overflow = 0  # it prints; `overflow` is read instead
            self._model.opt.deterministic = deterministic and self.device.type == "cuda"
            guess = self._mujoco_warp.make_data(self.model, nworld=1)
            self._data = self._mujoco_warp.make_data(
                self.model,
                nworld=num_envs,
                nconmax=nconmax or max(2 * contacts, guess.naconmax),
                njmax=njmax or max(2 * rows, guess.njmax),
            )
        self._fields: dict[str, Tensor] = {}
        self._own_model = {name: self._view(getattr(self._model, name)) for name in own}
        self.memory: dict[str, Tensor] = {}
        self._graphs: dict[Hashable, Any] = {}
        self._state = [self.field(name) for name in _STATE]
        self._defaults = [field[:1].clone() for field in self._state]
        if self._contact_forces:
            self.field("cfrc_ext")
        self.overflow = torch.zeros(num_envs, dtype=torch.int32, device=self.device)
        self._overflow = self._view(self._data.overflow)
        overflows = self._mujoco_warp.OverflowType
        self._reasons = {name: int(overflows[name]) for name in _ADVICE}
        for name, size in task.memory(self.facts).items():
            self.remember(name, size)

    def _view(self, array: Any) -> Tensor:
        # A view that is first asked for in inference mode must be writable outside of it.
        with torch.inference_mode(False):
            return self._warp.to_torch(array)

    # -- fields -----------------------------------------------------------------------------------------------

    def field(self, name: str) -> Tensor:
        """Return a live (N, ...) view of an MjData field, in MuJoCo's shapes, or of the task's memory."""
        tensor = self._fields.get(name)
        if tensor is None:
            array = getattr(self._data, name)
            tensor = self._view(array)
            self._fields[name] = tensor = tensor.flatten(-2) if array.dtype is self._warp.mat33 else tensor
        return tensor

    def remember(self, name: str, size: int) -> None:
        """Add a field of `size` numbers a simulation that the physics does not know; zeros at first."""
        self.memory[name] = self._fields[name] = torch.zeros(self.num_envs, size, dtype=self.dtype, device=self.device)

    def model_field(self, name: str) -> Tensor:
        """Return a live (N, ...) view of a model's field that every simulation has for itself.

        Raises:
            KeyError: If the task does not name it in `model_fields`.
        """
        return self._own_model[name]

    def set_constants(self, env_ids: Tensor) -> None:
        """Compute how far geoms reach, of all simulations.

        What else MuJoCo computes of a model, such as inverse weights at its default pose, stays as it was compiled: a
        task whose model fields change that would need more here.
        """
        groups = self._mujoco_warp.SetConstGroup.FIXED
        self._run("constants", lambda: self._mujoco_warp.set_const(self._model, self._data, groups, restore=False))

    # -- physics ----------------------------------------------------------------------------------------------

    def step(self, substeps: int, env_ids: Tensor | None = None) -> dict[int, str]:
        """Advance some simulations (n,), or all, by `substeps` physics steps.

        All are stepped, and those that were not meant are put back. Nothing is refused, `unhealthy` says what went
        wrong.
        """
        chosen, before = self._before(env_ids)

        def work() -> None:
            for _ in range(substeps):
                self._body_velocities()
                self._mujoco_warp.step(self._model, self._data)

        self._run(("step", substeps), work)
        if chosen is None:
            self.overflow |= self._overflow
        else:
            self.overflow |= torch.where(chosen, self._overflow, 0)
            self.keep(chosen, before)
        return {}

    def _before(self, env_ids: Tensor | None) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return the mask (N,) of simulations (n,) and a snapshot to put the others back to; None if it is all."""
        if env_ids is None or len(env_ids) == self.num_envs:
            return None, {}
        return torch.zeros_like(self.everyone).index_fill_(0, env_ids, 1) > 0, self.snapshot()

    def chosen(self, mask: Tensor) -> Tensor | None:
        """Return None: the host does not know, and all are stepped."""
        return None

    def forward(self, env_ids: Tensor | None, *, positions_only: bool = False) -> None:
        """Compute the derived fields of some simulations (n,), or of all; see `Simulation.forward`."""
        chosen, before = self._before(env_ids)
        compute = self._mujoco_warp.fwd_position if positions_only else self._mujoco_warp.forward

        def work() -> None:
            self._body_velocities()
            compute(self._model, self._data)

        self._run(("forward", positions_only), work)
        if chosen is not None:
            self.keep(chosen, before)

    def _body_velocities(self) -> None:
        """Compute bodies' velocities ahead, where welds or connects ask for them.

        The rate of such a constraint's Jacobian is part of its aim. MuJoCo Warp makes constraints before it computes
        the velocities that this rate follows from, and would take those of the step before.
        """
        if self._ties:
            for compute in (self._mujoco_warp.kinematics, self._mujoco_warp.com_pos, self._mujoco_warp.com_vel):
                compute(self._model, self._data)

    def _run(self, name: Hashable, work: Callable[[], None]) -> None:
        """Do a piece of physics: as part of what torch is recording, or by a recording of its own."""
        cuda = self.device.type == "cuda"
        with on_device(self._warp, self.device):
            if cuda and torch.cuda.is_current_stream_capturing():
                self._warp.capture_begin(external=True)
                work()
                self._warp.capture_end()
                return
            if name not in self._graphs:
                self._graphs[name] = self._record(work, cuda=cuda)
            self._warp.capture_launch(self._graphs[name])

    def _record(self, work: Callable[[], None], *, cuda: bool) -> Any:
        if not cuda:
            with self._warp.ScopedCapture(device="cpu") as capture:
                work()
            return capture.graph
        state = self.state()  # a first run loads the kernels, which a recording may not
        work()
        self.load_state(state)
        torch.cuda.synchronize(self.device)
        stream = self._warp.Stream()  # torch's own may be the legacy one, which cannot be captured
        with self._warp.ScopedStream(stream), self._warp.ScopedCapture(stream=stream) as capture:
            work()
        return capture.graph

    # -- start states -----------------------------------------------------------------------------------------

    def reset(self, env_ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Put simulations (n,) back to the model's defaults, then `set_state`; the others stay as they are."""
        for field, default in zip(self._state, self._defaults, strict=True):
            field[env_ids] = default
        self.set_state(env_ids, qpos, qvel)
        if self._contact_forces:
            self.field("cfrc_ext").index_fill_(0, env_ids, 0.0)

    def set_state(self, env_ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Write positions (n, nq) and velocities (n, nv) of some simulations and compute their derived fields."""
        self.field("qpos")[env_ids] = qpos.to(self.device, self.dtype)
        self.field("qvel")[env_ids] = qvel.to(self.device, self.dtype)
        self.forward(env_ids)

    def snapshot(self) -> dict[str, Tensor]:
        """Return copies of all that anyone can see of the simulations, for `keep`."""
        return {name: field.clone() for name, field in self._seen().items()}

    def keep(self, mask: Tensor, before: dict[str, Tensor]) -> None:
        """Put back a snapshot in all simulations but those of a mask (N,) bool."""
        for name, field in self._seen().items():
            rows = mask.view(-1, *[1] * (field.dim() - 1))
            field.copy_(torch.where(rows, field, before[name]))

    def _seen(self) -> dict[str, Tensor]:
        return self._fields | {f"model.{name}": field for name, field in self._own_model.items()}

    # -- health and state -------------------------------------------------------------------------------------

    def unhealthy(self) -> Tensor:
        """Return (N,) bool: simulations whose state is not finite, or beyond what MuJoCo calls unstable."""
        wrong = torch.zeros(self.num_envs, dtype=torch.bool, device=self.device)
        for name in ("qpos", "qvel", "qacc_warmstart"):
            wrong |= ~(self.field(name).abs() <= _LARGEST).all(dim=1)
        return wrong

    def any_unhealthy(self) -> bool:
        """Return whether `unhealthy` holds for some simulation; the host waits for it."""
        return bool(self.unhealthy().any())

    def refuse_overflow(self) -> None:
        """Say what there was no room for since the last call; the host waits for it.

        Raises:
            UserError: If there was something, naming the option that makes more room.
        """
        found = int(self.overflow.max()) if self.num_envs == 1 else _union(self.overflow)
        self.overflow.zero_()
        options = sorted({_ADVICE[name] for name, bit in self._reasons.items() if found & bit})
        room = {"env.nconmax": -(-self._data.naconmax // self.num_envs), "env.njmax": self._data.njmax}
        advice = " and ".join(f"{option}={2 * room[option]} (it was {room[option]})" for option in options)
        require(not options, f"{_WANTED_BY}: more contacts or constraints than there was room for; use {advice}")

    def state(self) -> Tensor:
        """Return a copy of the state rows, (N, S): MuJoCo's integration state in its order, float32."""
        return torch.cat(
            [field.flatten(1).to(self.dtype) if field.dim() > 1 else field.unsqueeze(1) for field in self._state], dim=1
        )

    def load_state(self, rows: Tensor) -> None:
        """Restore state rows; stepping then goes on bit for bit. Derived fields are those of the next step.

        Raises:
            ValueError: If the rows are not of this model and number of simulations.
        """
        sizes = [field[0].numel() for field in self._state]
        if rows.shape != (self.num_envs, sum(sizes)):
            raise ValueError(
                f"state rows have shape {tuple(rows.shape)}, this simulation needs {(self.num_envs, sum(sizes))}; "
                "build it with the same model and num_envs"
            )
        parts = rows.to(self.device).split(sizes, dim=1)
        for field, part in zip(self._state, parts, strict=True):
            field.copy_(part.reshape(field.shape))
        self._overflow.zero_()
        self.overflow.zero_()


def refuse_task(task: Task) -> None:
    """Raise UserError, with the reason, if a task needs what this engine does not do."""
    exact = task.contact_mode == "exact"
    require(not exact, f"{_WANTED_BY} computes no env.contact_forces=exact; use sensor, or env.engine=mujoco")


def _union(bits: Tensor) -> int:
    found = 0
    for value in torch.unique(bits).tolist():
        found |= value
    return found


def _most(task: Task, simulation: CpuSimulation) -> tuple[int, int]:
    """Return the most contacts and rows of constraints that random states of a task had on the CPU engine."""
    from envs.random import EnvironmentRandom

    random = EnvironmentRandom(simulation.num_envs, 0)
    everyone = torch.arange(simulation.num_envs)
    task.begin(simulation, random, everyone)
    data = mujoco.MjData(simulation.model)
    low, high = (bound.clamp(-1e3, 1e3) for bound in task.action_bounds(simulation.facts))
    contacts = rows = 0
    for step in range(_PROBE_STEPS):
        action = low + (high - low) * random.uniform(everyone, len(low))
        task.actuate(simulation, action, random)
        task.physics(simulation)
        task.after_step(simulation, random)
        for index in range(simulation.num_envs) if step % 8 == 7 or step == 0 else ():
            simulation.batch.get_data(index, data)
            mujoco.mj_forward(simulation.model, data)  # the batch keeps no contacts
            contacts, rows = max(contacts, int(data.ncon)), max(rows, int(data.nefc))
    return contacts, rows
