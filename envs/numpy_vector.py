"""The suite's vectorized environments for Gymnasium's vector wrappers, which compute in numpy.

Shapes: N environments.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from torch import Tensor


class NumpyVectorEnv(gymnasium.vector.VectorWrapper):
    """A view of a vectorized environment whose tensors are numpy arrays; `env` is the environment itself."""

    def __getattr__(self, name: str) -> Any:
        """Return what the environment has beside Gymnasium's interface, such as `task` or `failures`."""
        if name.startswith("_") or name == "env":
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
        return getattr(self.env, name)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a new episode in every environment; see `VectorEnv.reset`."""
        return _arrays(self.env.reset(seed=seed, options=options))

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step every environment once; see `VectorEnv.step`."""
        return _arrays(self.env.step(actions))

    def render(self) -> tuple[np.ndarray, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a picture of every environment, as Gymnasium has it."""
        return tuple(self.env.render(index) for index in range(self.num_envs))  # type: ignore[call-arg]


def _arrays(value: Any) -> Any:
    """Return tensors, and those in tuples and dicts, as arrays."""
    if isinstance(value, Tensor):
        return value.cpu().numpy()
    if isinstance(value, dict):
        return {name: _arrays(part) for name, part in value.items()}
    return tuple(_arrays(part) for part in value) if isinstance(value, tuple) else value
