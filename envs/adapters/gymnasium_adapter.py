"""Any continuous-control task registered with Gymnasium, N of them, behind the VectorEnv contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.adapters.foreign import ForeignVectorEnv, Stepped, continuous_spaces
from rlsuite.errors import UserError


class GymnasiumVectorEnv(ForeignVectorEnv):
    """N plain Gymnasium environments, stepped one after the other.

    Args:
        env_id: Gymnasium's id, as in "Pendulum-v1" or "package:Task-v0".
        num_envs: N.
        render_mode: "rgb_array" or None.
        options: Options of the environment; max_episode_steps replaces the registered limit (None: no limit).
        **common: device and dtype, see `VectorEnv`.

    Raises:
        UserError: If there is no such environment, it refuses an option, or its spaces are not vectors.
    """

    _envs: Sequence[gymnasium.Env] = ()

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        *,
        render_mode: str | None = None,
        options: dict[str, Any] | None = None,
        **common: Any,
    ) -> None:
        options = dict(options or {})
        if options.get("max_episode_steps", 0) is None:
            options["max_episode_steps"] = -1  # Gymnasium's way to say: no limit
        try:
            self._envs = [gymnasium.make(env_id, render_mode=render_mode, **options) for _ in range(num_envs)]
        except (gymnasium.error.Error, TypeError, ModuleNotFoundError) as error:
            raise UserError(f"gymnasium:{env_id}: {str(error).strip().splitlines()[0]}") from None
        first = self._envs[0]
        size, action_space = continuous_spaces(f"gymnasium:{env_id}", first.observation_space, first.action_space)
        self._action_dtype = action_space.dtype
        limit = first.spec.max_episode_steps if first.spec is not None else None
        super().__init__(
            f"gymnasium:{env_id}",
            num_envs,
            size,
            action_space.low,
            action_space.high,
            max_episode_steps=None if limit == -1 else limit,
            render_mode=render_mode,
            **common,
        )

    def reset_envs(self, env_ids: np.ndarray, seeds: list[int] | None) -> np.ndarray:
        """Begin episodes in some environments; return their observations, (n, D)."""
        return np.stack([self._envs[i].reset(seed=None if seeds is None else seeds[i])[0] for i in env_ids])

    def step_envs(self, action: np.ndarray) -> Stepped:
        """Step all without resetting any."""
        action = action.astype(self._action_dtype)
        steps = [env.step(one) for env, one in zip(self._envs, action, strict=True)]
        observation, reward, terminated, truncated, info = zip(*steps, strict=True)
        # A term is passed on where every environment reports it as a number.
        scalars = {
            name: np.array([float(one[name]) for one in info])
            for name in info[0]
            if all(name in one and np.isscalar(one[name]) and not isinstance(one[name], str) for one in info)
        }
        flags = np.array(terminated, dtype=bool), np.array(truncated, dtype=bool)
        return np.stack(observation), np.array(reward, dtype=np.float64), *flags, scalars

    def render(self, index: int = 0) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a picture of one environment, (height, width, 3) uint8."""
        if self.render_mode is None:
            raise ValueError("build the environment with render_mode='rgb_array' to render it")
        return np.asarray(self._envs[index].render())

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments."""
        for env in self._envs:
            env.close()
