"""N copies of a task on a simulation backend: what is the same on every one.

Shapes: N environments, n of them being reset, D observation, A action, S simulator state row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import gymnasium
import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from torch import Tensor

from envs.failures import Failure
from envs.goals.task import GoalTask
from envs.random import EnvironmentRandom
from envs.simulation.base import SelectedFields
from envs.task import Task
from envs.vector import VectorEnv
from rlsuite.errors import UserError
from rlsuite.running.threads import one_torch_thread
from rlsuite.symmetry import Mirror

Made = TypeVar("Made")


class Transition(NamedTuple):
    """A step of all environments before any reset."""

    observation: Tensor
    reward: Tensor
    terminated: Tensor
    failed: Tensor
    info: dict[str, Tensor]


class TaskVectorEnv(VectorEnv):
    """N environments of one task on one backend. A subclass says how a step is made, and how episodes begin.

    Args:
        task: The task with its options.
        simulation: N simulations of its model.
        device: Where the returned tensors live.
        dtype: Of observations, rewards and info.
        max_episode_steps: Steps after which an episode is truncated; None for never.
        render_mode: "rgb_array" to allow `render`.

    Attributes:
        rows_before: (N, S), the simulator's state before the last step, its controls written.
        memory_before: What the task remembered then, by name, (N, size) each.

    Raises:
        UserError: If the task finds in its observation no such places as it names.
    """

    def __init__(
        self,
        task: Task,
        simulation: Any,
        *,
        device: str | torch.device,
        dtype: torch.dtype,
        max_episode_steps: int | None,
        render_mode: str | None,
    ) -> None:
        self.task, self.simulation = task, simulation
        facts, num_envs = simulation.facts, simulation.num_envs
        # A field is computed only once it has been asked for: ask for all that the task reads.
        for name in task.other_fields:
            simulation.field(name)
        observation_size = task.observation(simulation).shape[1]
        self._tracked = task.tracked(simulation).clone()
        action_low, action_high = (bound.cpu() for bound in task.action_bounds(facts))
        no_action = self._tracked.new_zeros(num_envs, len(action_low))
        task.outcome(simulation, self._tracked, self._tracked, no_action)
        super().__init__(
            f"rlsuite/{task.name}",
            num_envs,
            observation_size,
            action_low.numpy(),
            action_high.numpy(),
            device=device,
            dtype=dtype,
            max_episode_steps=max_episode_steps,
            render_mode=render_mode,
        )
        if task.switches:
            self.single_action_space = self.native_action_space = gymnasium.spaces.MultiBinary(self.action_size)
            self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = self.metadata | {"render_fps": round(1.0 / task.seconds(facts))}
        if isinstance(task, GoalTask):
            self.goals = task.spec(observation_size)
        self.known_reward = task.known_reward
        self.angles = task.angles
        if not all(0 <= place < observation_size for place in task.angles):
            raise UserError(f"{task.name}: angles={task.angles}: use places in its observation of {observation_size}")
        where = simulation.device
        self.random = EnvironmentRandom(num_envs, self.seed, device=where, dtype=simulation.dtype)
        self.rows_before = simulation.state()
        self.memory_before = {name: value.clone() for name, value in simulation.memory.items()}
        self._observation = torch.zeros(num_envs, observation_size, dtype=dtype, device=where)
        self._elapsed = torch.zeros(num_envs, dtype=torch.int64, device=where)
        self._episode = torch.full((num_envs,), -1, dtype=torch.int64, device=where)
        self._everyone = torch.arange(num_envs, device=where)
        self._running = False

    # -- what a subclass defines ------------------------------------------------------------------------------

    def advance(self, actions: Tensor | np.ndarray) -> Transition:
        """Step every environment once without truncating or resetting any.

        Args:
            actions: (N, A).

        Returns:
            The transition; a failed environment has its last good observation and reward 0.
        """
        raise NotImplementedError

    def renew(self, transition: Transition) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Truncate and reset what is at its end after `advance`: the second half of a step.

        Args:
            transition: What `advance` returned last.

        Returns:
            What `step` returns.
        """
        raise NotImplementedError

    # -- episodes ---------------------------------------------------------------------------------------------

    @one_torch_thread()
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        gymnasium.vector.VectorEnv.reset(self, seed=seed)
        if seed is not None:
            self.seed = seed
            self.random.reseed(seed)
            self._episode.fill_(-1)
        self._begin_episodes(self._everyone)
        self._running = True
        info = self._packed(self.task.reset_info(self.simulation), None)
        return self._observation.to(self.device, copy=True), info

    def _begin_episodes(self, env_ids: Tensor) -> None:
        """Draw and set start states of some environments."""
        self.task.begin(self.simulation, self.random, env_ids)
        self._begun(env_ids)
        self._episode[env_ids] += 1

    def set_state(self, env_ids: Tensor, qpos: Tensor, qvel: Tensor) -> Tensor:
        """Begin an episode of some environments from given states instead of drawn ones; a goal stays as it was.

        Args:
            env_ids: (n,) int64 environments.
            qpos: (n, nq) positions.
            qvel: (n, nv) velocities.

        Returns:
            Their observation, (n, D).
        """
        self.simulation.reset(env_ids, qpos, qvel)
        self.task.after_reset(self.simulation, env_ids)
        return self._begun(env_ids).to(self.device)

    def _begun(self, env_ids: Tensor) -> Tensor:
        """Observe environments (n,) that were just put into a start state; return (n, D)."""
        fields = SelectedFields(self.simulation, env_ids)
        observation = self.task.observation(fields).to(self.dtype)
        self._observation[env_ids] = observation
        self._tracked[env_ids] = self.task.tracked(fields)
        self._elapsed.index_fill_(0, env_ids, 0)
        return observation

    @one_torch_thread()
    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`."""
        return self.renew(self.advance(actions))

    def _require_reset(self) -> None:
        if not self._running:
            raise gymnasium.error.ResetNeeded("call reset() before the first step()")

    def _note_before(self, rows: Tensor) -> None:
        """Keep what the next step starts from: the state (N, S), and what the task remembers."""
        self.rows_before.copy_(rows)
        for name, value in self.simulation.memory.items():
            self.memory_before[name].copy_(value)

    def _failure(
        self, index: int, row: Tensor, action: Tensor, memory: dict[str, Tensor], message: str, episode: int, step: int
    ) -> Failure:
        """Return the record of a failed step of one environment."""
        if not message:
            where = "state before the step" if not torch.isfinite(row).all() else "simulation after the step"
            message = f"{where} is not finite or unstable"
        return Failure(
            env_index=index,
            seed=self.seed,
            episode=episode,
            episode_step=step,
            row=row,
            action=action,
            message=message,
            spec_id=self.spec_id,
            options=dataclasses.asdict(self.task),
            memory=memory,
        )

    def _packed(self, info: dict[str, Tensor], failed: Tensor | None) -> dict[str, Tensor]:
        """Return fresh copies of the named terms on the device: one gathered matrix, split again."""
        if not info:
            return {}
        columns = [value if value.ndim == 2 else value.unsqueeze(1) for value in info.values()]
        matrix = torch.cat(columns, dim=1)
        if failed is not None:
            matrix.masked_fill_(failed.unsqueeze(1), 0.0)
        parts = matrix.to(self.device, self.dtype).split([column.shape[1] for column in columns], dim=1)
        return {
            name: part if value.ndim == 2 else part.squeeze(1)
            for (name, value), part in zip(info.items(), parts, strict=True)
        }

    # -- state ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on, as flat CPU tensors."""
        tensors = {
            "rows": self.simulation.state(),
            **self._episodes(),
            **{f"random.{name}": value for name, value in self.random.state().items()},
            **self._remembered(),
        }
        return {name: value.to("cpu", copy=True) for name, value in tensors.items()}

    def _episodes(self) -> dict[str, Tensor]:
        """Return what is known of the running episodes, the tensors themselves."""
        return {
            "tracked": self._tracked,
            "observation": self._observation,
            "elapsed": self._elapsed,
            "episode": self._episode,
        }

    def _remembered(self) -> dict[str, Tensor]:
        return {f"memory.{name}": value for name, value in self.simulation.memory.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; the following steps are the same bits."""
        self.simulation.load_state(state["rows"])
        for name, tensor in (self._episodes() | self._remembered()).items():
            if state[name].shape != tensor.shape:
                raise ValueError(
                    f"state '{name}' has shape {tuple(state[name].shape)}, this environment needs "
                    f"{tuple(tensor.shape)}; build it with the same task options and num_envs"
                )
            tensor.copy_(state[name])
        self.task.restore(self.simulation)
        self.random.load_state({name: state[f"random.{name}"] for name in ("seed", "counters")})
        self.seed = self.random.seed
        self._running = bool(state["episode"][0] >= 0)

    @property
    def mirror(self) -> Mirror | None:
        """The task's left-right symmetry; see `VectorEnv`."""
        return self.task.mirror

    @property
    def elapsed(self) -> Tensor:
        """Steps of the episode that each environment is in, (N,) int64."""
        return self._elapsed

    def observation(self) -> Tensor:
        """Return a copy of the current observation, (N, D): what the last `step` or `reset` returned."""
        return self._observation.to(self.device, copy=True)


def simulate(task: Task, make: Callable[[], Made]) -> Made:
    """Return the simulations that a function makes.

    Raises:
        UserError: If the model has not what the task looks up in it by name.
    """
    try:
        return make()
    except KeyError as error:
        missing = str(error).strip("\"'").split(".")[0]
        raise UserError(f"xml_file='{task.xml_file}' is no model for {task.name}: {missing}") from None
