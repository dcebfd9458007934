"""N copies of a task on a device, stepped without the host ever looking at a value.

What `envs.mujoco_vector` does for the environments whose episodes end, this does for all of them and keeps it where a
mask says so; a step is then the same operations whatever happens in it, and can be recorded as a graph
(`rlsuite.running.cuda_graph`). What went wrong waits in a slot on the device until `report` is called, as the training
loop does before each log.

Shapes: N environments, D observation, A action, S simulator state row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.failures import Failure
from envs.simulation.gpu import WarpSimulation
from envs.task import Task
from envs.task_vector import TaskVectorEnv, Transition, simulate
from rlsuite.errors import NonFiniteActionError, UserError
from rlsuite.running.cuda_graph import GraphedStep
from rlsuite.running.threads import one_torch_thread

_RESULTS = ("observation", "reward", "terminated", "truncated")


class DeviceVectorEnv(TaskVectorEnv):
    """N environments of one task on MuJoCo Warp, all of it on one device.

    An action that is not finite fails its environment's step, and is told at the next `report`: looking at once would
    make the host wait.

    Args:
        task: The task with its options.
        num_envs: N.
        device: Where physics, tasks and the returned tensors are.
        dtype: Of observations, rewards and info; the physics is float32 always.
        max_episode_steps: Steps after which an episode is truncated; None for never.
        render_mode: None: this engine draws nothing.
        room: nconmax, njmax and deterministic, as `WarpSimulation` takes them.

    Attributes:
        graphed: What records and replays the whole step; None where it is made eagerly, as on a CPU, or by a task whose
            episodes start by physics.

    Raises:
        UserError: If the task needs another engine, or MuJoCo Warp is missing.
    """

    simulation: WarpSimulation

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        max_episode_steps: int | None,
        render_mode: str | None = None,
        **room: Any,
    ) -> None:
        if render_mode is not None:
            raise UserError(f"env.render_mode={render_mode}: env.engine=warp draws nothing; use env.engine=mujoco")
        simulation = simulate(task, lambda: WarpSimulation(task, num_envs, device=device, **room))
        super().__init__(
            task, simulation, device=device, dtype=dtype, max_episode_steps=max_episode_steps, render_mode=None
        )
        self._slot = _Slot(self)
        recordable = simulation.device.type == "cuda" and not task.starts_by_physics
        self.graphed = GraphedStep(self._whole_step, self._undo) if recordable else None

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`. On a GPU the step is recorded once, and then replayed."""
        if self.graphed is None:
            return super().step(actions)
        self._require_reset()
        info = self.graphed(self.received_action(actions))
        observation, reward, terminated, truncated = (info.pop(name) for name in _RESULTS)
        return observation, reward, terminated, truncated, info

    def _whole_step(self, action: Tensor) -> dict[str, Tensor]:
        *results, info = super().step(action)
        return dict(zip(_RESULTS, results, strict=True)) | info

    def _undo(self) -> Callable[[], None]:
        state = self.state()
        return lambda: self.load_state(state)

    @one_torch_thread()
    def advance(self, actions: Tensor | np.ndarray) -> Transition:
        """Step every environment once without truncating or resetting any; see `TaskVectorEnv.advance`."""
        given = self.received_action(actions)
        self._require_reset()
        simulation, task = self.simulation, self.task
        refused = ~torch.isfinite(given).all(dim=1)
        action = torch.where(refused.unsqueeze(1), 0.0, given)
        task.actuate(simulation, action, self.random)
        self._note_before(simulation.state())
        task.physics(simulation)
        task.after_step(simulation, self.random)
        tracked = task.tracked(simulation)
        reward, terminated, info = task.outcome(simulation, self._tracked, tracked, action)
        observation = task.observation(simulation).to(self.dtype)
        failed = refused | simulation.unhealthy()
        failed = failed | ~torch.isfinite(observation).all(dim=1) | ~torch.isfinite(reward)
        self._slot.note(failed, given, refused)
        observation = torch.where(failed.unsqueeze(1), self._observation, observation)
        self._tracked.copy_(tracked)
        self._observation.copy_(observation)
        self._elapsed += 1
        reward = reward.masked_fill(failed, 0.0).to(self.dtype)
        return Transition(observation, reward, terminated & ~failed, failed, self._packed(info, failed))

    @one_torch_thread()
    def renew(self, transition: Transition) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Truncate and reset what is at its end after `advance`; see `TaskVectorEnv.renew`."""
        truncated = transition.failed.clone()
        if self.max_episode_steps is not None:
            truncated |= self._elapsed >= self.max_episode_steps
        self._begin_where(transition.terminated | truncated)
        transition.info["final_obs"] = transition.observation
        transition.info["failed"] = transition.failed
        return self._observation.clone(), transition.reward, transition.terminated, truncated, transition.info

    def _begin_where(self, mask: Tensor) -> None:
        """Begin an episode in the environments of a mask (N,) bool: in all of them, and the others are put back.

        A start that takes physics of its own would cost more than the step: there the host looks who ends.
        """
        if self.task.starts_by_physics:
            env_ids = mask.nonzero().flatten()
            if len(env_ids):
                self._begin_episodes(env_ids)
            return
        before = self.simulation.snapshot()
        own = {name: value.clone() for name, value in self._episodes().items()}
        with self.random.only(mask):
            self._begin_episodes(self._everyone)
        self.simulation.keep(mask, before)
        for name, value in self._episodes().items():
            value.copy_(torch.where(mask.view(-1, *[1] * (value.dim() - 1)), value, own[name]))

    def received_action(self, actions: Tensor | np.ndarray) -> Tensor:
        """Return actions (N, A) on the device, in the physics' dtype.

        Raises:
            ValueError: If their shape is wrong.
        """
        tensor = torch.as_tensor(actions).detach().to(self.simulation.device, self.simulation.dtype)
        expected = (self.num_envs, self.action_size)
        if tuple(tensor.shape) != expected:
            raise ValueError(f"action has shape {tuple(tensor.shape)}, expected {expected} = (num_envs, size)")
        return tensor

    def checked_action(self, action: Tensor | np.ndarray) -> Tensor:
        """Return an action as the environments take it; see `received_action`."""
        return self.received_action(action)

    def report(self) -> None:
        """Say what went wrong since the last call: failed steps into `failures`, the first of them whole.

        Raises:
            NonFiniteActionError: If that step failed for an action that was not finite.
            UserError: If there was no room for all contacts or constraints.
        """
        failure, refused = self._slot.read()
        if failure is not None:
            self.failures.append(failure)
        if failure is not None and refused:
            raise NonFiniteActionError(failure.message)
        self.simulation.refuse_overflow()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; the following steps are the same bits."""
        super().load_state(state)
        self._slot.clear()


class _Slot:
    """The first failed step since it was last read, and how many there were, as tensors on the device.

    Args:
        env: Whose steps fail.
    """

    def __init__(self, env: DeviceVectorEnv) -> None:
        self._env = env
        row, where = env.rows_before, env.rows_before.device
        self._count = torch.zeros((), dtype=torch.int64, device=where)
        self._where = torch.zeros(3, dtype=torch.int64, device=where)  # environment, episode, step
        self._refused = torch.zeros((), dtype=torch.bool, device=where)
        self._row, self._action = torch.zeros_like(row[0]), row.new_zeros(env.action_size)
        self._memory = {name: torch.zeros_like(value[0]) for name, value in env.memory_before.items()}

    def note(self, failed: Tensor, action: Tensor, refused: Tensor) -> None:
        """Take note of failed steps (N,) bool of actions (N, A), of which some were refused (N,) bool."""
        env = self._env
        first = failed.to(torch.int64).argmax().view(1)
        place = torch.cat([first, env._episode.index_select(0, first), env.elapsed.index_select(0, first)])
        take = failed.any() & (self._count == 0)
        rows = [(self._refused, refused), (self._row, env.rows_before), (self._action, action)]
        rows += [(slot, env.memory_before[name]) for name, slot in self._memory.items()]
        for slot, values in rows:
            slot.copy_(torch.where(take, values.index_select(0, first)[0], slot))
        self._where.copy_(torch.where(take, place, self._where))
        self._count += failed.sum()

    def read(self) -> tuple[Failure | None, bool]:
        """Return the first failure, if there is one, and whether its action was refused; the host waits for it."""
        count = int(self._count)
        if not count:
            return None, False
        index, episode, step = self._where.tolist()
        refused, action = bool(self._refused), self._action.double().cpu()
        message = f"action of environment {index} is not finite: {action.tolist()}; check the policy's output"
        message = message if refused else ""
        row = self._row.double().cpu()
        memory = {name: value.double().cpu() for name, value in self._memory.items()}
        failure = self._env._failure(index, row, action, memory, message, episode, step)
        if count > 1 and not refused:
            more = f"{failure.message} ({count - 1} more failed since the last log)"
            failure = Failure(**{**vars(failure), "message": more})
        self.clear()
        return failure, refused

    def clear(self) -> None:
        """Forget what was noted."""
        self._count.zero_()
