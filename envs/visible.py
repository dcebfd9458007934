"""What a policy reads of a task with goals: own observation and desired goal, without what hindsight alone looks at.

Agents cut their observations themselves. A network that stands for an agent, and is judged, changed or attacked, takes
what it is shown, so its environments are seen through this.

Shapes: N environments, D own observation, G goal, F = D + 2 G.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
from gymnasium.vector.utils import batch_space
from torch import Tensor

from envs.wrapper import ObservationWrapper
from rlsuite.goals import GoalSpec
from rlsuite.symmetry import Mirror
from rlsuite.vector_env import VectorEnv


class VisibleObservation(ObservationWrapper):
    """Environments of a task with goals that show (N, D + G) of the flat observation (N, F).

    There is nothing for hindsight in it: `goals` and `known_reward` are None.

    Args:
        env: the environments; `visible` asks whether they have goals.
    """

    single_observation_space: Any = None  # here, and not the environments' own: a view's attributes are theirs
    observation_space: Any = None
    goals: GoalSpec | None = None
    constant_columns = 0
    known_reward: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    angles: tuple[int, ...] = ()
    observation_names: tuple[str, ...] = ()
    mirror: Mirror | None = None

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.size: int = env.goals.visible_size
        whole = env.single_observation_space
        self.single_observation_space = gymnasium.spaces.Box(
            whole.low[: self.size], whole.high[: self.size], dtype=whole.dtype
        )
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self.angles = tuple(entry for entry in env.angles if entry < self.size)
        self.observation_names = env.observation_names[: self.size]

    def see(self, observation: Tensor) -> Tensor:
        """Return own observations and desired goals (N, D + G)."""
        return observation[:, : self.size]


def visible(env: VectorEnv) -> VectorEnv:
    """Return environments that show what a policy reads: these, or where they have goals a view of them."""
    return env if env.goals is None else VisibleObservation(env)
