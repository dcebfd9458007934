"""N copies of a task on CPU threads, with resets, truncation and fault isolation.

Shapes: N environments, n of them being reset, D observation, A action, S simulator state row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.rendering import Camera
from envs.simulation.cpu import CpuSimulation
from envs.task import Task
from envs.task_vector import TaskVectorEnv, Transition, simulate
from rlsuite.running.threads import one_torch_thread

__all__ = ["MujocoVectorEnv", "Transition"]


class MujocoVectorEnv(TaskVectorEnv):
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

    Raises:
        UserError: If the model is missing, invalid or without what the task reads.
    """

    _camera: Camera | None = None  # on the class: close() may follow a constructor that raised
    simulation: CpuSimulation

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
        simulation = simulate(task, lambda: CpuSimulation.of_task(task, num_envs, num_threads=num_threads))
        common: dict[str, Any] = {"device": device, "dtype": dtype, "render_mode": render_mode}
        super().__init__(task, simulation, max_episode_steps=max_episode_steps, **common)
        self._render_size = render_size

    @one_torch_thread()
    def renew(self, transition: Transition) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Truncate and reset what is at its end after `advance`; see `TaskVectorEnv.renew`."""
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
        """Step every environment once without truncating or resetting any; see `TaskVectorEnv.advance`."""
        action = self.checked_action(actions)
        self._require_reset()
        simulation = self.simulation
        self.task.actuate(simulation, action, self.random)
        self._note_before(simulation.rows)
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
        for index in torch.nonzero(failed).flatten().tolist():
            memory = {name: value[index].clone() for name, value in self.memory_before.items()}
            row, message = self.rows_before[index].clone(), refused.get(index, "")
            count, step = int(self._episode[index]), int(self._elapsed[index])
            self.failures.append(self._failure(index, row, action[index].clone(), memory, message, count, step))

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
