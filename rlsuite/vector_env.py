"""What training expects of environments, and the facts of them that an agent is built from.

Shapes: N environments, D observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rlsuite.goals import GoalSpec
from rlsuite.symmetry import Mirror


class VectorEnv(Protocol):
    """N environments with same-step autoreset, their arrays tensors on one device.

    Attributes:
        num_envs: N.
        single_observation_space: of one environment.
        single_action_space: of one environment.
        failures: simulations that broke, newest last; the training loop reads and clears it.
        exact_resume: whether state() and load_state() restore the environments bit for bit.
        max_episode_steps: steps after which an episode is truncated; None for never.
        goals: of a task with goals, which columns of its flat observation are what; else None.
        constant_columns: how many of the observation's columns, the last, stay the same within an episode.
        known_reward: of a task whose reward is a function of what is seen, that function of observations (rows, D),
            actions (rows, A) and next observations (..., rows, D); else None.
        angles: entries of the observation that are angles, in radians, as far as the task says.
        observation_names: what each of D columns is, of observations that were a Dict or Tuple; else empty.
        mirror: of a task with a left-right symmetry, what swaps the sides of observations and actions; else None.
    """

    num_envs: int
    single_observation_space: Any
    single_action_space: Any
    failures: list[Any]
    exact_resume: bool = True
    max_episode_steps: int | None = None
    goals: GoalSpec | None = None
    constant_columns: int = 0
    known_reward: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    angles: tuple[int, ...] = ()
    observation_names: tuple[str, ...] = ()
    mirror: Mirror | None = None

    @property
    def renderer(self) -> Callable[[Tensor], Tensor] | None:
        """Of a task of painting, what draws its strokes: shapes (..., 10) -> opacity maps (..., W, W); else None."""
        return None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict]:
        """Begin an episode everywhere; return observation (N, D) and info."""
        ...

    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step with actions (N, A); return observation, reward, terminated, truncated, info.

        info["final_obs"] (N, D) is the true next observation; info["failed"] (N,) marks broken simulations.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Return everything that continuing bit for bit needs."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what state() returned."""
        ...

    def observation(self) -> Tensor:
        """Return a copy of the current observation (N, D)."""
        ...

    def render(self, index: int = 0) -> Any:
        """Return a picture (H, W, 3) uint8 of one environment."""
        ...

    def gallery(self) -> np.ndarray | None:
        """Return a picture (H, W, 3) uint8 of the episodes that ended last, for the log; None where there is none."""
        return None

    def report(self) -> None:
        """Put what waits on a device into `failures`, and raise what has to end the run; asked before each log."""
        return

    def close(self, **kwargs: Any) -> None:
        """Free what the environments hold."""
        ...


@dataclass(frozen=True, kw_only=True)
class EnvironmentFacts:
    """What an agent may know of the environment it is built for; which agent can do with what, its check() says.

    Attributes:
        observation_space: of one environment, any of Gymnasium's.
        action_space: of one environment, any of Gymnasium's.
        num_envs: N of the training environments.
        max_episode_steps: steps after which an episode is truncated; None for never.
        goals: of a task with goals, whose observations are [own observation, desired goal, achieved goal].
        known_reward: see VectorEnv.
        angles: see VectorEnv.
        renderer: see VectorEnv.
        mirror: returns VectorEnv's mirror; a task that has none for now, and should, says why with a UserError.
    """

    observation_space: gymnasium.Space
    action_space: gymnasium.Space
    num_envs: int = 1
    max_episode_steps: int | None = None
    goals: GoalSpec | None = None
    known_reward: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    angles: tuple[int, ...] = ()
    renderer: Callable[[Tensor], Tensor] | None = None
    mirror: Callable[[], Mirror | None] = lambda: None

    @classmethod
    def of(cls, env: VectorEnv) -> Self:
        """Return the facts of environments."""
        return cls(
            observation_space=env.single_observation_space,
            action_space=env.single_action_space,
            num_envs=env.num_envs,
            max_episode_steps=env.max_episode_steps,
            goals=env.goals,
            known_reward=env.known_reward,
            angles=env.angles,
            renderer=env.renderer,
            mirror=lambda: env.mirror,
        )

    @classmethod
    def of_vectors(cls, observation_size: int, action_low: Any, action_high: Any, **others: Any) -> Self:
        """Return the facts of an environment of vectors, made by hand.

        Args:
            observation_size: D.
            action_low: (A,) lower bounds.
            action_high: (A,) upper bounds.
            others: the other attributes.
        """
        low, high = (np.asarray(bound, dtype=np.float32) for bound in (action_low, action_high))
        return cls(
            observation_space=gymnasium.spaces.Box(-np.inf, np.inf, (observation_size,), np.float32),
            action_space=gymnasium.spaces.Box(low, high, dtype=np.float32),
            **others,
        )

    @property
    def observation_size(self) -> int:
        """D of observations that are vectors, hindsight's columns included."""
        return int(self._vector(self.observation_space).shape[0])

    @property
    def picture_shape(self) -> tuple[int, int, int] | None:
        """(C, H, W) of observations that are pictures of bytes; None where they are not."""
        if not is_picture_space(self.observation_space):
            return None
        assert self.observation_space.shape is not None
        channels, height, width = self.observation_space.shape
        return channels, height, width

    @property
    def visible_size(self) -> int:
        """What a policy looks at of them: D, or the own observation and the desired goal."""
        return self.observation_size if self.goals is None else self.goals.visible_size

    @property
    def action_size(self) -> int:
        """A of actions that are vectors."""
        return int(self._vector(self.action_space).shape[0])

    @property
    def action_low(self) -> Tensor:
        """Lower bounds (A,) of actions that are vectors."""
        return torch.as_tensor(self._vector(self.action_space).low)

    @property
    def action_high(self) -> Tensor:
        """Upper bounds (A,) of actions that are vectors."""
        return torch.as_tensor(self._vector(self.action_space).high)

    @staticmethod
    def _vector(space: gymnasium.Space) -> gymnasium.spaces.Box:
        """Return a space of vectors; agents have refused others before (Agent.check)."""
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise TypeError(f"{space} is no space of vectors")
        return space


def is_picture_space(space: gymnasium.Space) -> bool:
    """Return whether observations are pictures of bytes (C, H, W)."""
    return isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 3 and space.dtype == np.uint8
