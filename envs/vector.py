"""The contract of every vectorized environment: a Gymnasium VectorEnv that speaks torch tensors.

Shapes: N environments, D observation, A action.

Same-step autoreset: where an episode ends, the returned observation is already the next episode's first,
and ``info["final_obs"]``, always there and full-sized, is the true next observation of the transition.
``terminated`` cuts the bootstrap of a value, ``truncated`` never does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from envs.failures import Failure
from envs.random import EnvironmentRandom
from envs.task import KnownReward
from rlsuite.errors import NonFiniteActionError, UserError
from rlsuite.goals import GoalSpec
from rlsuite.symmetry import Mirror


def check_render_mode(render_mode: str | None) -> None:
    """Raise UserError unless pictures are wanted as arrays, or none are."""
    if render_mode not in (None, "rgb_array"):
        raise UserError(
            f"env.render_mode={render_mode}: use rgb_array, or leave it out; "
            "a window is opened by evaluate_agent.py render=human"
        )


_NUMPY_DTYPE = {torch.float32: np.float32, torch.float64: np.float64}


class VectorEnv(gymnasium.vector.VectorEnv):
    """N environments stepped together, their arrays tensors on one device.

    Args:
        spec_id: What `envs.make_vector` was asked for, as in "rlsuite/Humanoid".
        num_envs: Number of environments, N.
        observation_size: D.
        action_low: (A,) lower bounds of the action.
        action_high: (A,) upper bounds.
        device: Where the returned tensors live.
        dtype: Of observations, rewards and info: torch.float32 or torch.float64.
        max_episode_steps: Steps after which an episode is truncated; None for never.
        render_mode: "rgb_array" or None.

    Attributes:
        seed: Root seed of all environments' random streams.
        first: Number of the first environment, where these are a part of more.
        exact_resume: Whether `state` / `load_state` restore the environments bit for bit.
        failures: Simulations that went non-finite, newest last; the training loop reads and clears it.
        known_reward: Of a task whose reward is a function of what is seen, that function (`envs.task.KnownReward`): of
            observations (rows, D), actions (rows, A) and next observations (..., rows, D); else None.
        angles: Entries of the observation that are angles, in radians, as far as the task says.
        renderer: Of a task of painting, what draws strokes: shapes (..., 10) -> opacity maps (..., W, W); else None.
        goals: Of a task with goals, which columns of its flat observation are what; else None.
        constant_columns: How many of the observation's columns, the last, stay the same within an episode.
        mirror: Of a task with a left-right symmetry, what swaps the sides of observations and actions; else None.
        native_action_space: What a single environment demands of an action: `single_action_space`, but for another
            library's environment, whose Box may have another dtype, whose choices another start or shape. Its
            environments see no action outside of it.
        observation_names: Of observations that were a Dict or Tuple, what each of D columns is; else empty.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": ["rgb_array"]}  # noqa: RUF012
    exact_resume = True
    first = 0
    goals: GoalSpec | None = None
    constant_columns = 0
    known_reward: KnownReward | None = None
    mirror: Mirror | None = None
    angles: tuple[int, ...] = ()
    renderer: Callable[[Tensor], Tensor] | None = None
    single_observation_space: Any
    single_action_space: Any
    native_action_space: Any
    observation_names: tuple[str, ...] = ()

    def __init__(
        self,
        spec_id: str,
        num_envs: int,
        observation_size: int,
        action_low: np.ndarray,
        action_high: np.ndarray,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        if dtype not in _NUMPY_DTYPE:
            raise ValueError(f"dtype={dtype} must be torch.float32 or torch.float64")
        check_render_mode(render_mode)
        self.spec_id = spec_id
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.dtype = dtype
        self.max_episode_steps = max_episode_steps
        self.render_mode = render_mode
        self.seed = int.from_bytes(os.urandom(4), "little")
        self.failures: list[Failure] = []
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (observation_size,), _NUMPY_DTYPE[dtype])
        self.single_action_space = gymnasium.spaces.Box(
            action_low.astype(np.float32), action_high.astype(np.float32), dtype=np.float32
        )
        self.native_action_space = self.single_action_space
        self.action_size = len(action_low)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def checked_action(self, action: Tensor | np.ndarray) -> Tensor:
        """Return an action as a CPU float64 tensor, (N, A).

        Raises:
            ValueError: If its shape is wrong, or (NonFiniteActionError) an entry is not finite; nothing has been
                stepped then.
        """
        tensor = torch.as_tensor(action).detach().to("cpu", torch.float64)
        expected = (self.num_envs, self.action_size)
        if tuple(tensor.shape) != expected:
            raise ValueError(f"action has shape {tuple(tensor.shape)}, expected {expected} = (num_envs, size)")
        # A finite sum proves that all entries are finite; only a suspicious one is looked at closely.
        if not math.isfinite(tensor.sum()):
            bad = torch.nonzero(~torch.isfinite(tensor).all(dim=1)).flatten()
            if len(bad):
                index = int(bad[0])
                raise NonFiniteActionError(
                    f"action of environment {index} is not finite: {tensor[index].tolist()}; check the policy's output"
                )
        return tensor

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment.

        Args:
            seed: New root seed; None continues the random streams.
            options: Not used.

        Returns:
            Observation (N, D), and the task's named terms of the start states.
        """
        raise NotImplementedError

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; those whose episode ends are reset in the same step.

        Args:
            actions: (N, A), finite; outside the bounds the task decides, as Gymnasium's do.

        Returns:
            Observation (N, D), reward (N,), terminated (N,) bool, truncated (N,) bool, and info: "final_obs"
            (N, D), "failed" (N,) bool, and the task's terms (N,) of the transition just made, NaN where an
            environment of another library does not tell one. All are fresh tensors.

        Raises:
            ValueError: If the action has a wrong shape or a non-finite entry; nothing has been stepped then.
        """
        raise NotImplementedError

    def place(self, first: int) -> None:
        """Be environments `first`, `first` + 1, ... of more from the next seeded reset on, with those's episodes."""
        self.first = first
        if isinstance(random := getattr(self, "random", None), EnvironmentRandom):
            random.first = first

    def observation(self) -> Tensor:
        """Return a copy of the current observation, (N, D): what the last `step` or `reset` returned."""
        raise NotImplementedError

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on, as flat CPU tensors."""
        raise NotImplementedError

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: If the state belongs to another task or number of environments.
        """
        raise NotImplementedError

    def report(self) -> None:
        """Put failed steps that wait on a device into `failures`; asked before each log.

        Raises:
            UserError: If something went wrong that has to end the run.
        """

    def render(self, index: int = 0) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a picture of one environment, (height, width, 3) uint8."""
        raise NotImplementedError

    def gallery(self) -> np.ndarray | None:
        """Return a picture (height, width, 3) uint8 of the episodes that ended last, for the log, if there is one."""
        return None
