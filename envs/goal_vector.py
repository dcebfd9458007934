"""A goal task as Gymnasium's users know it: dict observations and a batched compute_reward.

A thin view of the environment with flat observations that training steps; nothing is copied.

Shapes: N environments, D own observation, G goal, F = D + 2 G, A action.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector.utils import batch_space
from torch import Tensor

from envs.task_vector import TaskVectorEnv
from rlsuite.goals import GoalSpec

DictObservation = dict[str, Tensor]


class GoalVectorEnv(gymnasium.vector.VectorEnv):
    """N environments of a goal task with dict observations.

    Args:
        flat: The environments; they are stepped through this view from now on.

    Attributes:
        flat: The same environments with observations [observation, desired goal, achieved goal], (N, F).
        goals: Which columns are what.
    """

    def __init__(self, flat: TaskVectorEnv) -> None:
        assert flat.goals is not None
        self.flat, self.goals = flat, flat.goals
        self.num_envs, self.device, self.dtype = flat.num_envs, flat.device, flat.dtype
        self.metadata, self.render_mode = flat.metadata, flat.render_mode
        self.single_observation_space = dict_space(flat.goals, flat.single_observation_space)
        self.single_action_space, self.action_space = flat.single_action_space, flat.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[DictObservation, dict[str, Any]]:
        """Begin a new episode in every environment.

        Returns:
            Dict observation: "observation" (N, D), "achieved_goal" and "desired_goal" (N, G).
        """
        observation, info = self.flat.reset(seed=seed, options=options)
        return to_dict(self.goals, observation), info

    def step(self, actions: Tensor | np.ndarray) -> tuple[DictObservation, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`. info["final_obs"] is a dict, too."""
        observation, reward, terminated, truncated, info = self.flat.step(actions)
        info["final_obs"] = to_dict(self.goals, info["final_obs"])
        return to_dict(self.goals, observation), reward, terminated, truncated, info

    def compute_reward(self, achieved_goal: Tensor, desired_goal: Tensor, info: Any = None) -> Tensor:
        """Return the reward (...) of having achieved (..., G) where (..., G) was desired; info is not used."""
        return self.goals.compute_reward(torch.as_tensor(achieved_goal), torch.as_tensor(desired_goal))

    def __getattr__(self, name: str) -> Any:
        """Return what the flat environments have: failures, seed, spec_id, max_episode_steps, exact_resume."""
        if name in ("failures", "seed", "spec_id", "max_episode_steps", "exact_resume"):
            return getattr(self.flat, name)
        raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")

    def observation(self) -> DictObservation:
        """Return a copy of the current observation, by name."""
        return to_dict(self.goals, self.flat.observation())

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on."""
        return self.flat.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.flat.load_state(state)

    def report(self) -> None:
        """Put what waits on a device into `failures`; see `VectorEnv.report`."""
        self.flat.report()

    def render(self, index: int = 0) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a picture of one environment, (height, width, 3) uint8."""
        return self.flat.render(index)

    def close_extras(self, **kwargs: Any) -> None:
        """Free what the environments hold."""
        self.flat.close(**kwargs)


def dict_space(goals: GoalSpec, flat: gymnasium.spaces.Box) -> gymnasium.spaces.Dict:
    """Return the space of the dict observations."""
    box = lambda size: gymnasium.spaces.Box(-np.inf, np.inf, (size,), flat.dtype)  # type: ignore[arg-type]  # noqa: E731
    return gymnasium.spaces.Dict(
        {
            "observation": box(goals.observation_size),
            "achieved_goal": box(goals.goal_size),
            "desired_goal": box(goals.goal_size),
        }
    )


def to_dict(goals: GoalSpec, flat: Tensor) -> DictObservation:
    """Return a flat observation's (..., F) parts by name."""
    own, desired, achieved = goals.split(flat)
    return {"observation": own, "achieved_goal": achieved, "desired_goal": desired}
