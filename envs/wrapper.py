"""Views of vectorized environments that keep their whole contract, resuming included.

Shapes: N environments, D observation, A action.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.vector import VectorEnv

FORWARDED = (
    *("spec_id", "num_envs", "device", "dtype", "max_episode_steps", "render_mode", "seed", "failures", "metadata"),
    *("exact_resume", "goals", "constant_columns", "known_reward", "angles", "renderer", "mirror"),
    "observation_names",
    *("single_observation_space", "single_action_space", "native_action_space", "observation_space", "action_space"),
    *("spec", "closed", "np_random", "np_random_seed"),
)


def _forwarded(name: str) -> property:
    def read(self: VectorWrapper) -> Any:
        return getattr(self.env, name)

    def write(self: VectorWrapper, value: Any) -> None:
        setattr(self.env, name, value)

    return property(read, write, doc=f"The environment's own `{name}`.")


class VectorWrapper(VectorEnv):
    """An environment seen through something; by itself it changes nothing.

    Args:
        env: the environment; it is stepped through this view from now on.

    Attributes:
        env: as given.
        depth: 1 for a view of an environment, 2 for a view of a view, ...; it tells their states apart.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self.depth: int = env.depth + 1 if isinstance(env, VectorWrapper) else 1

    def __getattr__(self, name: str) -> Any:
        """Return what the environment has beside the contract, such as its `task`."""
        if name.startswith("_") or name == "env":
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
        return getattr(self.env, name)

    def __del__(self) -> None:
        """Do nothing: the environment frees itself, and others may hold it still."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        return self.env.reset(seed=seed, options=options)

    def place(self, first: int) -> None:
        """Be a part of more environments; see `VectorEnv.place`."""
        self.env.place(first)

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`."""
        return self.env.step(actions)

    def observation(self) -> Tensor:
        """Return a copy of the current observation."""
        return self.env.observation()

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on."""
        return self.env.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.env.load_state(state)

    def report(self) -> None:
        """Put what waits on a device into `failures`; see `VectorEnv.report`."""
        self.env.report()

    def checked_action(self, action: Tensor | np.ndarray) -> Tensor:
        """Return an action as the environment checks it."""
        return self.env.checked_action(action)

    def render(self, index: int = 0) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a picture of one environment: what is there, not what is seen of it."""
        return self.env.render(index)

    def gallery(self) -> np.ndarray | None:
        """Return the environment's picture for the log, if it has one."""
        return self.env.gallery()

    def close(self, **kwargs: Any) -> None:
        """Free what the environment holds."""
        self.env.close(**kwargs)


for _name in FORWARDED:
    setattr(VectorWrapper, _name, _forwarded(_name))


class ObservationWrapper(VectorWrapper):
    """An environment whose observations are changed: those of reset and step, and `final_obs`.

    Shape, dtype and space stay as they are, unless a concrete one has spaces of its own. It writes `see`, and what it
    needs of the others.
    """

    _seen: Tensor

    def see(self, observation: Tensor) -> Tensor:
        """Return changed observations (N, D); called once for every observation of an episode."""
        raise NotImplementedError

    def begin(self, rows: Tensor, seed: int | None) -> None:
        """Get ready for new episodes in the environments `rows` (N,) bool; a seed restarts random streams."""

    def own_state(self) -> dict[str, Tensor]:
        """Return copies of what `see` and `begin` depend on, as CPU tensors."""
        return {}

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `own_state` returned."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.begin(torch.ones(self.num_envs, dtype=torch.bool, device=observation.device), seed)
        self._seen = self.see(observation)
        return self._seen.clone(), info

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`."""
        observation, reward, terminated, truncated, info = self.env.step(actions)
        ended = terminated | truncated
        final = self.see(info["final_obs"])
        self._seen = final.clone()
        if ended.any():
            self.begin(ended, None)
            row = ended.view(-1, *[1] * (observation.dim() - 1))
            self._seen = torch.where(row, self.see(observation), final)
        return self._seen.clone(), reward, terminated, truncated, {**info, "final_obs": final}

    def observation(self) -> Tensor:
        """Return a copy of what was seen last."""
        return self._seen.clone()

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that stepping depends on: the environment's, and this view's."""
        own = {"seen": self._seen.cpu().clone(), **self.own_state()}
        return {**self.env.state(), **{f"{self._prefix}{name}": tensor for name, tensor in own.items()}}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            ValueError: If it was seen in another way.
        """
        if f"{self._prefix}seen" not in state:
            raise ValueError(f"the state is not of environments seen through a {type(self).__name__}")
        prefix = self._prefix
        own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        self.env.load_state({name: tensor for name, tensor in state.items() if not name.startswith(prefix)})
        self._seen = own.pop("seen").to(self.env.observation().device).clone()
        self.load_own_state(own)

    @property
    def _prefix(self) -> str:
        return f"{type(self).__name__}{self.depth}/"
