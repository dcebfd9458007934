"""EnvPool's continuous-control tasks behind the VectorEnv contract (EnvPool is an optional dependency).

EnvPool resets an environment on the step after its episode ended: the action of that step is ignored, and
what it returns is no transition. Here the ended environments are reset within the same step, by their ids,
so that step never happens: each returned transition is a real one, and ``final_obs`` is its true end.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from envs.adapters.foreign import ForeignVectorEnv, Stepped
from envs.adapters.observations import observation_form
from rlsuite.errors import UserError, first_line, near_matches
from rlsuite.extras import import_extra


class EnvPoolVectorEnv(ForeignVectorEnv):
    """N of EnvPool's environments, stepped on its C++ threads.

    A new seed builds the pool anew: EnvPool takes seeds at no other time.

    Args:
        env_id: EnvPool's id, as in "HalfCheetah-v5".
        num_envs: N.
        num_threads: Threads; 0 lets EnvPool choose.
        render_mode: Must be None.
        options: Options of the environment, max_episode_steps included.
        **common: device and dtype, see `VectorEnv`.

    Raises:
        UserError: If EnvPool is not installed or has no such environment or option.
    """

    _pool: Any = None

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        *,
        num_threads: int = 0,
        render_mode: str | None = None,
        options: dict[str, Any] | None = None,
        **common: Any,
    ) -> None:
        envpool = import_extra("envpool", f"envpool:{env_id}")
        if render_mode is not None:
            raise UserError(f"envpool:{env_id} cannot be rendered; use gymnasium:{env_id} for pictures")
        known = envpool.list_all_envs()
        if env_id not in known:
            raise UserError(f"EnvPool has no environment '{env_id}'{near_matches(env_id, known)}")
        given = dict(options or {}, num_envs=num_envs, num_threads=num_threads)
        self._make = functools.partial(envpool.make, env_id, env_type="gymnasium", **given)
        try:
            self._pool = self._make()
        except Exception as error:  # whatever it refuses, in whatever way
            raise UserError(f"envpool:{env_id}: {first_line(error)}") from None
        form = observation_form(f"envpool:{env_id}", self._pool.observation_space)
        if form.kind != "vector":
            raise UserError(
                f"envpool:{env_id}: its observation space is {form.space}; behind EnvPool only one-dimensional Box "
                f"spaces work; gymnasium:{env_id} may be read"
            )
        super().__init__(
            f"envpool:{env_id}",
            num_envs,
            form,
            self._pool.action_space,
            max_episode_steps=self._pool.config["max_episode_steps"],
            **common,
        )

    def reset_envs(self, env_ids: np.ndarray, seeds: list[int] | None) -> np.ndarray:
        """Begin episodes in some environments; return their observations, (n, D)."""
        if seeds is not None:  # EnvPool takes seeds only when it is built
            self._pool.close()
            self._pool = self._make(seed=seeds)
            observation, info = self._pool.reset()
        else:
            observation, info = self._pool.reset(env_ids.astype(np.int32))
        # EnvPool answers in the order in which its threads finished.
        return observation[np.argsort(info["env_id"])]

    def step_envs(self, action: np.ndarray) -> Stepped:
        """Step all without resetting any."""
        try:
            observation, reward, terminated, truncated, info = self._pool.step(action)
        except Exception as error:  # whatever a stranger's code raises; it does not say in which environment
            raise self.broken(0, f"EnvPool's step raised {first_line(error)}", error) from None
        order = np.argsort(info["env_id"])
        scalars = {
            name: value[order]
            for name, value in info.items()
            if isinstance(value, np.ndarray)
            and value.ndim == 1
            and value.dtype.kind in "fiub"
            and name not in ("env_id", "elapsed_step")
        }
        return observation[order], reward[order], terminated[order], truncated[order], scalars

    def close_extras(self, **kwargs: Any) -> None:
        """Close the pool."""
        if self._pool is not None:
            self._pool.close()
