"""Any task registered with Gymnasium whose spaces the suite can use, N of them, behind the VectorEnv contract."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.adapters.foreign import ForeignVectorEnv, Stepped
from envs.adapters.observations import observation_form
from envs.adapters.pictures import as_picture, frame_rate
from envs.adapters.preprocessing import PictureOptions
from envs.adapters.values import OLD_INTERFACE, checked_reset, checked_step, info_columns, plain_steps
from envs.vector import check_render_mode
from rlsuite.errors import UserError, first_line

# What an environment must have, and how its constructor says it.
_SPACES = {
    "observation_space": "gymnasium.spaces.Box(-numpy.inf, numpy.inf, (3,))",
    "action_space": "gymnasium.spaces.Box(-1.0, 1.0, (1,))",
}


class GymnasiumVectorEnv(ForeignVectorEnv):
    """N plain Gymnasium environments, stepped one after the other.

    Args:
        env_id: Gymnasium's id, as in "Pendulum-v1" or "package:Task-v0".
        num_envs: N.
        render_mode: "rgb_array" or None.
        options: Options of the environment, and of its pictures (see `PictureOptions`); max_episode_steps replaces
            the registered limit (None: no limit).
        **common: device and dtype, see `VectorEnv`.

    Raises:
        UserError: If there is no such environment, it cannot be made, refuses an option, or its spaces are none the
            suite can use.
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
        check_render_mode(render_mode)  # before a constructor opens one
        options = dict(options or {})
        pictures = PictureOptions.taken_from(options)
        if options.get("max_episode_steps", 0) is None:
            options["max_episode_steps"] = -1  # Gymnasium's way to say: no limit
        if render_mode is not None:  # not every constructor takes one
            options["render_mode"] = render_mode
        self._envs = [pictures.wrap(_make(env_id, options), f"gymnasium:{env_id}") for _ in range(num_envs)]
        first = self._envs[0]
        form = observation_form(f"gymnasium:{env_id}", first.observation_space, stacked=pictures.frame_stack > 1)
        limit = first.spec.max_episode_steps if first.spec is not None else None
        super().__init__(
            f"gymnasium:{env_id}",
            num_envs,
            form,
            first.action_space,
            max_episode_steps=None if limit == -1 else limit,
            render_mode=render_mode,
            **common,
        )
        self.metadata = self.metadata | {"render_fps": frame_rate(first.metadata)}

    def reset_envs(self, env_ids: np.ndarray, seeds: list[int] | None) -> np.ndarray:
        """Begin episodes in some environments; return their observations, (n, D)."""
        return np.stack([self._reset_one(int(i), None if seeds is None else seeds[i]) for i in env_ids])

    def _reset_one(self, index: int, seed: int | None) -> np.ndarray:
        try:
            returned = self._envs[index].reset(seed=seed)
        except Exception as error:  # whatever a stranger's code raises
            raise self.broken(index, f"its reset raised {first_line(error)}", error) from None
        try:
            return checked_reset(returned, self.form.read)
        except ValueError as error:
            raise self.broken(index, str(error)) from None

    def step_envs(self, action: np.ndarray) -> Stepped:
        """Step all without resetting any."""
        returned = []
        for index, (env, one) in enumerate(zip(self._envs, action, strict=True)):
            try:
                returned.append(env.step(one))
            except Exception as error:  # whatever a stranger's code raises
                what = f"its step raised {first_line(error)}"
                if "expected 5, got 4" in what:  # one of Gymnasium's wrappers met it first
                    what = f"its step returned a tuple of 4; {OLD_INTERFACE}"
                raise self.broken(index, what, error) from None
        steps = plain_steps(returned)
        observation = None if steps is None else self.form.read_all(steps.observation)
        if steps is not None and observation is not None:
            return observation, steps.reward, steps.terminated, steps.truncated, info_columns(steps.info)
        return self._read_one_by_one(returned)

    def _read_one_by_one(self, returned: list[Any]) -> Stepped:
        """Return what steps returned, with a look at each environment's."""
        steps = []
        for index, one in enumerate(returned):
            try:
                steps.append(checked_step(one, self.form.read))
            except ValueError as error:
                raise self.broken(index, str(error)) from None
        observation, reward, terminated, truncated, info = zip(*steps, strict=True)
        flags = np.array(terminated, dtype=bool), np.array(truncated, dtype=bool)
        return np.stack(observation), np.array(reward, dtype=np.float64), *flags, info_columns(info)

    def render(self, index: int = 0) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a picture of one environment, (height, width, 3) uint8.

        Raises:
            UserError: If it draws none.
        """
        if self.render_mode is None:
            raise ValueError("build the environment with render_mode='rgb_array' to render it")
        try:
            return as_picture(self._envs[index].render())
        except Exception as error:  # whatever a stranger's code raises
            said = str(error) if type(error) is ValueError and "render()" in str(error) else first_line(error)
            raise UserError(f"{self.spec_id} cannot be drawn: {said}") from None

    def close_extras(self, **kwargs: Any) -> None:
        """Close the environments."""
        for env in self._envs:
            with contextlib.suppress(Exception):  # one that broke may not close, either
                env.close()


def _make(env_id: str, options: dict[str, Any]) -> gymnasium.Env:
    """Return one environment, its values unchecked: the adapter checks them all, not only the first.

    Raises:
        UserError: If it cannot be made, for whatever reason.
    """
    try:
        made = gymnasium.make(env_id, disable_env_checker=True, **options)
        missing = [name for name in _SPACES if not hasattr(made, name)]
    except (UserError, MemoryError):
        raise
    except Exception as error:  # of Gymnasium, or of the environment's constructor: no module, no server, no file
        said = first_line(error)
    else:
        if not missing:
            return made
        space = f"self.{missing[0]} = {_SPACES[missing[0]]}"
        raise UserError(f"gymnasium:{env_id}: it has no {' and no '.join(missing)}; its __init__ sets it: {space}")
    if "Namespace ALE not found" in said:  # of a package that has to be imported first
        said = f"{said.partition('.')[0]}; pip install ale-py, then env.id=ale_py:{env_id}"
        raise UserError(f"gymnasium:{env_id}: {said}")
    if "unexpected keyword argument 'render_mode'" in said:
        raise UserError(f"gymnasium:{env_id}: its constructor takes no render_mode, so it cannot be drawn")
    raise UserError(f"gymnasium:{env_id}: {said}")
