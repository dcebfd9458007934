"""One environment for users of other libraries: Gymnasium's Env interface, numpy float64.

No time limit of its own: `gymnasium.make` adds it, from the registered max_episode_steps. Only a task that repeats
actions ends its episodes itself, since Gymnasium would count the repetitions as one.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from envs import catalogue
from envs.goal_vector import dict_space, to_dict
from envs.goals.task import GoalTask
from envs.mujoco_vector import MujocoVectorEnv
from envs.numpy_vector import NumpyVectorEnv


class SingleEnv(gymnasium.Env):
    """A task of the suite as a `gymnasium.Env`.

    Control costs are computed in float64 also of a float32 action, where Gymnasium's own environments sum
    in float32: their rewards differ by about 1e-7 then.

    Args:
        task: Name of the task, as in "Humanoid".
        render_mode: "rgb_array" or None.
        width: Width of the pictures.
        height: Height of the pictures.
        **options: Options of the task (see `envs.task_options`).

    Raises:
        UserError: If the task or an option is unknown.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        *,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
        **options: Any,
    ) -> None:
        built = catalogue.build(task, **options)
        limit = built.episode_steps(built.max_episode_steps)
        self._limit = None if limit == built.max_episode_steps else limit
        self._make_vector = functools.partial(
            MujocoVectorEnv,
            built,
            1,
            num_threads=1,
            dtype=torch.float64,
            max_episode_steps=None,
            render_mode=render_mode,
            render_size=(height, width),
        )
        self.vector = self._make_vector()
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": self.vector.metadata["render_fps"]}
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a new episode; a seed restarts the random stream."""
        super().reset(seed=seed)
        observation, info = self.vector.reset(seed=seed)
        return observation[0].numpy(), _first(info)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Step once. A simulation that goes non-finite truncates, with ``info["failed"]`` set.

        Raises:
            ValueError: If the action has a wrong shape or a non-finite entry.
        """
        action = np.asarray(action)
        if action.shape != self.action_space.shape:
            raise ValueError(f"action has shape {action.shape}, expected {self.action_space.shape}")
        transition = self.vector.advance(action[None])
        failed = bool(transition.failed)
        info = _first(transition.info) | ({"failed": True} if failed else {})
        truncated = failed or (self._limit is not None and int(self.vector.elapsed[0]) >= self._limit)
        observation = transition.observation[0].numpy()
        return observation, float(transition.reward), bool(transition.terminated), truncated, info

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a picture, (height, width, 3) uint8, or None without a render mode."""
        return None if self.render_mode is None else self.vector.render(0)

    def close(self) -> None:
        """Free the renderer."""
        self.vector.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> SingleEnv:
        """Return a copy in the same state, its simulation its own: from here on both step alike, apart."""
        copied = object.__new__(type(self))
        memo[id(self)] = copied
        rest = {name: value for name, value in vars(self).items() if name not in ("vector", "_make_vector")}
        vars(copied).update(copy.deepcopy(rest, memo), _make_vector=self._make_vector, vector=self._make_vector())
        copied.vector.load_state(self.vector.state())
        return copied


def _first(info: dict[str, Tensor]) -> dict[str, Any]:
    """Return the only environment's terms: numbers, or arrays where a term has several."""
    return {name: value.item() if value.ndim == 1 else value[0].numpy() for name, value in info.items()}


class GoalSingleEnv(SingleEnv):
    """A goal task as a `gymnasium.Env` with dict observations and `compute_reward`, as SB3's HerReplayBuffer wants it.

    Args and errors are those of `SingleEnv`.
    """

    def __init__(self, task: str, **arguments: Any) -> None:
        super().__init__(task, **arguments)
        assert self.vector.goals is not None
        self.goals = self.vector.goals
        self.observation_space = dict_space(self.goals, self.vector.single_observation_space)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Begin a new episode; a seed restarts the random stream."""
        observation, info = super().reset(seed=seed, options=options)
        return self._named(observation), info

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """Step once; see `SingleEnv.step`."""
        observation, reward, terminated, truncated, info = super().step(action)
        return self._named(observation), reward, terminated, truncated, info

    def _named(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        return {name: part.numpy() for name, part in to_dict(self.goals, torch.from_numpy(flat)).items()}

    def compute_reward(self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any) -> np.ndarray | float:
        """Return the reward of having achieved (..., G) where (..., G) was desired; info is not used."""
        reward = self.goals.compute_reward(torch.as_tensor(achieved_goal), torch.as_tensor(desired_goal)).numpy()
        return float(reward) if reward.ndim == 0 else reward


def make_single(task: str, **arguments: Any) -> gymnasium.Env:
    """Build the environment that `gymnasium.make` asks for."""
    kind = catalogue.task_class(task)
    if hasattr(kind, "make_single"):  # no simulation of bodies
        return kind.make_single(**arguments)
    single = GoalSingleEnv if issubclass(kind, GoalTask) else SingleEnv
    return single(task, **arguments)


# Where Gymnasium looks, before it builds one, for what it can make of it: render_mode="rgb_array_list" of frames.
make_single.metadata = {"render_modes": ["rgb_array"]}  # type: ignore[attr-defined]


def make_registered(task: str, num_envs: int, **options: Any) -> gymnasium.vector.VectorEnv:
    """Build the vectorized environment that `gymnasium.make_vec` asks for: with numpy arrays, as its wrappers need."""
    from envs import make_vector

    return NumpyVectorEnv(make_vector(task, num_envs, **options))
