"""N copies of a task on a simulation backend, with resets, truncation and fault isolation.

Shapes: N environments, n of them being reset, D observation, A action, S simulator state row.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from torch import Tensor

from envs.failures import Failure
from envs.goals.task import GoalTask
from envs.random import EnvironmentRandom
from envs.rendering import Camera
from envs.simulation.base import SelectedFields
from envs.simulation.cpu import CpuSimulation
from envs.task import Task
from envs.vector import VectorEnv
from rlsuite.errors import UserError
from rlsuite.running.threads import one_torch_thread
from rlsuite.symmetry import Mirror


class Transition(NamedTuple):
    """A step of all environments before any reset; CPU tensors."""

    observation: Tensor
    reward: Tensor
    terminated: Tensor
    failed: Tensor
    info: dict[str, Tensor]


class MujocoVectorEnv(VectorEnv):
    """N environments of one task, stepped on CPU threads.

    Args:
        task: The task with its options.
        num_envs: N.
        num_threads: Threads of the simulation; 0 takes all CPUs.
        device: Where the returned tensors live.
        dtype: Of observations, rewards and info; the physics is float64 always.
        max_episode_steps: Steps after which an episode is truncated; None for never.
        render_mode: "rgb_array" to allow `render`.
        render_size: Height and width of the pictures.

    Attributes:
        rows_before: (N, S) float64, the simulator's state before the last step, its controls written.
        memory_before: What the task remembered then, by name, (N, size) float64 each.

    Raises:
        UserError: If the model is missing, invalid or without what the task reads.
    """

    _camera: Camera | None = None  # on the class: close() may follow a constructor that raised

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        num_threads: int = 0,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        max_episode_steps: int | None,
        render_mode: str | None = None,
        render_size: tuple[int, int] = (480, 480),
    ) -> None:
        self.task = task
        try:
            self.simulation = CpuSimulation.of_task(task, num_envs, num_threads=num_threads)
        except KeyError as error:  # a name that the task looks up in its model
            missing = str(error).strip("\"'").split(".")[0]
            raise UserError(f"xml_file='{task.xml_file}' is no model for {task.name}: {missing}") from None
        facts = self.simulation.facts
        # A field is computed only once it has been asked for: ask for all that the task reads.
        for name in task.other_fields:
            self.simulation.field(name)
        observation_size = task.observation(self.simulation).shape[1]
        self._tracked = task.tracked(self.simulation).clone()
        action_low, action_high = task.action_bounds(facts)
        no_action = torch.zeros(num_envs, len(action_low), dtype=torch.float64)
        task.outcome(self.simulation, self._tracked, self._tracked, no_action)
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
        self.random = EnvironmentRandom(num_envs, self.seed)
        self.rows_before = self.simulation.state()
        self.memory_before = {name: value.clone() for name, value in self.simulation.memory.items()}
        self._observation = torch.zeros(num_envs, observation_size, dtype=dtype)
        self._elapsed = torch.zeros(num_envs, dtype=torch.int64)
        self._episode = torch.full((num_envs,), -1, dtype=torch.int64)
        self._render_size = render_size

    @one_torch_thread()
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        gymnasium.vector.VectorEnv.reset(self, seed=seed)
        if seed is not None:
            self.seed = seed
            self.random.reseed(seed)
            self._episode.fill_(-1)
        everyone = torch.arange(self.num_envs)
        self._begin_episodes(everyone)
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
        self._elapsed[env_ids] = 0
        return observation

    @one_torch_thread()
    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`."""
        transition = self.advance(actions)
        truncated = transition.failed.clone()
        if self.max_episode_steps is not None:
            truncated |= self._elapsed >= self.max_episode_steps
        final_observation = transition.observation.to(self.device)
        ended = torch.nonzero(transition.terminated | truncated).flatten()
        if len(ended):
            self._begin_episodes(ended)
            observation = self._observation.to(self.device, copy=True)
        else:
            observation = final_observation
        transition.info["final_obs"] = final_observation
        transition.info["failed"] = transition.failed.to(self.device)
        return (
            observation,
            transition.reward.to(self.device),
            transition.terminated.to(self.device),
            truncated.to(self.device),
            transition.info,
        )

    @one_torch_thread()
    def advance(self, actions: Tensor | np.ndarray) -> Transition:
        """Step every environment once without truncating or resetting any.

        Args:
            actions: (N, A).

        Returns:
            The transition; a failed environment has its last good observation and reward 0.
        """
        action = self.checked_action(actions)
        if self._episode[0] < 0:
            raise gymnasium.error.ResetNeeded("call reset() before the first step()")
        simulation = self.simulation
        self.task.actuate(simulation, action, self.random)
        self.rows_before.copy_(simulation.rows)
        for name, value in simulation.memory.items():
            self.memory_before[name].copy_(value)
        refused = self.task.physics(simulation)
        self.task.after_step(simulation, self.random)
        tracked = self.task.tracked(simulation)
        reward, terminated, info = self.task.outcome(simulation, self._tracked, tracked, action)
        observation = self.task.observation(simulation).to(self.dtype)
        failed = self._failed(observation, reward, refused)
        if failed is not None:
            self._record_failures(failed, action, refused)
            observation[failed] = self._observation[failed]
            reward = reward.masked_fill(failed, 0.0)
            terminated = terminated & ~failed
        self._tracked.copy_(tracked)
        self._observation.copy_(observation)
        self._elapsed += 1
        return Transition(
            observation,
            reward.to(self.dtype),
            terminated,
            torch.zeros(self.num_envs, dtype=torch.bool) if failed is None else failed,
            self._packed(info, failed),
        )

    def _failed(self, observation: Tensor, reward: Tensor, refused: dict[int, str]) -> Tensor | None:
        """Return (N,) bool, environments whose step gave something non-finite; None where there is none."""
        # Sums are finite only if all terms are: one number tells that nothing is wrong.
        total = float(observation.sum()) + float(reward.sum())
        if math.isfinite(total) and not refused and not self.simulation.any_unhealthy():
            return None
        failed = self.simulation.unhealthy() | ~torch.isfinite(observation).all(dim=1) | ~torch.isfinite(reward)
        failed[list(refused)] = True
        return failed if failed.any() else None

    def _record_failures(self, failed: Tensor, action: Tensor, refused: dict[int, str]) -> None:
        options = dataclasses.asdict(self.task)
        for index in torch.nonzero(failed).flatten().tolist():
            row = self.rows_before[index].clone()
            where = "state before the step" if not torch.isfinite(row).all() else "simulation after the step"
            self.failures.append(
                Failure(
                    env_index=index,
                    seed=self.seed,
                    episode=int(self._episode[index]),
                    episode_step=int(self._elapsed[index]),
                    row=row,
                    action=action[index].clone(),
                    message=refused.get(index) or f"{where} is not finite or unstable",
                    spec_id=self.spec_id,
                    options=options,
                    memory={name: value[index].clone() for name, value in self.memory_before.items()},
                )
            )

    def _packed(self, info: dict[str, Tensor], failed: Tensor | None) -> dict[str, Tensor]:
        """Return fresh copies of the named terms on the device: one gathered matrix, split again."""
        if not info:
            return {}
        columns = [value if value.ndim == 2 else value.unsqueeze(1) for value in info.values()]
        matrix = torch.cat(columns, dim=1)
        if failed is not None:
            matrix[failed] = 0.0
        parts = matrix.to(self.device, self.dtype).split([column.shape[1] for column in columns], dim=1)
        return {
            name: part if value.ndim == 2 else part.squeeze(1)
            for (name, value), part in zip(info.items(), parts, strict=True)
        }

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on, as flat CPU tensors."""
        return {
            "rows": self.simulation.state(),
            "tracked": self._tracked.clone(),
            "observation": self._observation.clone(),
            "elapsed": self._elapsed.clone(),
            "episode": self._episode.clone(),
            **{f"random.{name}": value for name, value in self.random.state().items()},
            **{f"memory.{name}": value.clone() for name, value in self.simulation.memory.items()},
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; the following steps are the same bits."""
        self.simulation.load_state(state["rows"])
        own = {
            "tracked": self._tracked,
            "observation": self._observation,
            "elapsed": self._elapsed,
            "episode": self._episode,
            **{f"memory.{name}": value for name, value in self.simulation.memory.items()},
        }
        for name, tensor in own.items():
            if state[name].shape != tensor.shape:
                raise ValueError(
                    f"state '{name}' has shape {tuple(state[name].shape)}, this environment needs "
                    f"{tuple(tensor.shape)}; build it with the same task options and num_envs"
                )
            tensor.copy_(state[name])
        self.task.restore(self.simulation)
        self.random.load_state({name: state[f"random.{name}"] for name in ("seed", "counters")})
        self.seed = self.random.seed

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

    def render(self, index: int = 0) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a picture of one environment, (height, width, 3) uint8."""
        if self.render_mode is None:
            raise ValueError("build the environment with render_mode='rgb_array' to render it")
        if self._camera is None:
            self._camera = Camera(self.simulation, self.task, self._render_size)
        return self._camera.picture(index)

    def close_extras(self, **kwargs: Any) -> None:
        """Free the renderer."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None
